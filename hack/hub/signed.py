"""The content network's part, and an object storage's: addresses are signed, and a second credential is refused."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from hub.store import Store


def blob(request: web.Request, store: Store) -> Path:
    """The content that a signed address is of; the file is named by its sha256.

    Raises:
        web.HTTPBadRequest: without the signature, or with a credential beside it, as object stores do.
        web.HTTPNotFound: when it is not there.
    """
    if "Authorization" in request.headers or request.query.get("signature") != "local":
        raise web.HTTPBadRequest(text="Only one auth mechanism allowed")
    path = store.blob(request.match_info["sha256"])
    if not path.is_file():
        raise web.HTTPNotFound
    return path
