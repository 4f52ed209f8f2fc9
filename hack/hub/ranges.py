"""One byte range of a request, as the files' handlers answer it."""

from __future__ import annotations

import re

from aiohttp import web

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def wanted(request: web.Request, size: int, etag: str, modified: str | None = None) -> tuple[int, int] | None:
    """[start, end) that the request asks for, None for the whole file.

    Raises:
        web.HTTPRequestRangeNotSatisfiable: when it starts behind the end.
    """
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    condition = request.headers.get("If-Range")
    if match is None or (condition is not None and condition not in (f'"{etag}"', modified)):
        return None
    start = int(match[1])
    if start >= size:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, min(size, int(match[2]) + 1) if match[2] else size
