"""A plain web server of files: Range, If-Range, ETag or date, basic or bearer credentials, directory indexes, faults.

    python -m hub.files --root DIR --port P [--credential-env NAME] [--control]

The environment variable holds the whole Authorization value that is expected, such as `Bearer abc`.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import html
import os
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from hub import ranges
from hub.faults import Faults, send


class Files:
    """One folder, served. `etags` off leaves the date as the only thing to know a file by."""

    def __init__(self, root: Path, *, credential: str, control: bool, etags: bool = True) -> None:
        self._root = root.resolve()
        self._credential = credential
        self._etags = etags
        self._faults = Faults()
        self.app = web.Application(middlewares=[self._guard])
        if control:
            self.app.add_routes(self._faults.routes())
        self.app.add_routes([web.get("/{path:.*}", self._serve)])

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/_control"):
            if (refused := self._faults.refusal(request)) is not None:
                return refused
            given = request.headers.get("Authorization", "")
            if self._credential and not hmac.compare_digest(given.encode(), self._credential.encode()):
                return web.Response(
                    status=401, headers={"WWW-Authenticate": 'Basic realm="files"'}, text="Who are you?"
                )
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = (self._root / request.match_info["path"]).resolve()
        if not path.is_relative_to(self._root) or not path.exists():
            return web.Response(status=404)
        if path.is_dir():
            if not request.path.endswith("/"):
                return web.Response(status=301, headers={"Location": quote(request.path) + "/"})
            return web.Response(text=_index(request.path, path), content_type="text/html")
        info = path.stat()
        etag = hashlib.sha1(f"{info.st_mtime_ns}-{info.st_size}".encode(), usedforsecurity=False).hexdigest()[:16]
        modified = formatdate(info.st_mtime, usegmt=True)
        rule = request["rule"]
        ignored = rule is not None and rule.ignore_range
        span = None if ignored else ranges.wanted(request, info.st_size, etag if self._etags else "", modified)
        start, end = span or (0, info.st_size)
        headers = {"Last-Modified": modified, "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if self._etags:
            headers["ETag"] = f'"{etag}"'
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.st_size}"
        response = web.StreamResponse(status=206 if span is not None else 200, headers=headers)
        return await send(request, response, path, start, end, self._faults, rule)


def _index(url: str, folder: Path) -> str:
    names = sorted(item.name + ("/" if item.is_dir() else "") for item in folder.iterdir())
    links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    title = html.escape(url)
    return f'<html><body><h1>Index of {title}</h1><pre>\n<a href="../">../</a>\n{links}</pre></body></html>'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hub.files", description="Serve a folder over HTTP.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8081)
    parser.add_argument(
        "--credential-env", default="", help="environment variable with the Authorization value to expect"
    )
    parser.add_argument("--no-etags", action="store_true", help="let the date be the only thing to know a file by")
    parser.add_argument("--control", action="store_true", help="faults to order and counts at /_control: for tests")
    args = parser.parse_args()
    credential = os.environ.get(args.credential_env, "") if args.credential_env else ""
    files = Files(args.root, credential=credential, control=args.control, etags=not args.no_etags)
    web.run_app(files.app, host=args.host, port=args.port, print=None, shutdown_timeout=1, access_log=None)


if __name__ == "__main__":
    main()
