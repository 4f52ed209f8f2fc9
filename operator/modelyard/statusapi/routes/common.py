"""What routes share: the caller, the service, names in paths, and answers with an entity tag."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from modelyard.statusapi.auth import Caller
from modelyard.statusapi.service import Service

_NAMESPACE: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME: Final = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_HEADERS: Final = {"Cache-Control": "private, no-cache"}

Namespace = Annotated[str, Path(max_length=63, pattern=_NAMESPACE, description="Namespace.")]
Name = Annotated[str, Path(max_length=253, pattern=_NAME, description="Name of the object.")]
NamespaceName = Annotated[str, Query(max_length=63, pattern=_NAMESPACE)]
Namespaces = Annotated[
    list[NamespaceName],
    Query(alias="namespace", max_length=64, description="Only these namespaces; unset: all that you may see."),
]


def get_service(request: Request) -> Service:
    """What the routes share."""
    service: Service = request.app.state.service
    return service


def get_caller(request: Request) -> Caller:
    """Who asks: the guard has found out."""
    caller: Caller = request.state.caller
    return caller


Shared = Annotated[Service, Depends(get_service)]
Asking = Annotated[Caller, Depends(get_caller)]


def answer(request: Request, content: bytes | BaseModel | dict[str, Any]) -> Response:
    """200 with a weak entity tag, or 304 if the caller has just that already."""
    if isinstance(content, BaseModel):
        body = content.model_dump_json(by_alias=True, exclude_none=True).encode()
    elif isinstance(content, dict):
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    else:
        body = content
    tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    known = [text.strip() for text in request.headers.get("if-none-match", "").split(",")]
    if request.method == "GET" and (tag in known or "*" in known):
        return Response(status_code=304, headers=headers)
    return Response(body, 200, headers, "application/json")
