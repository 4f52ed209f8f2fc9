"""The stream of changes: who may follow what, and from where."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from modelyard.statusapi import problems
from modelyard.statusapi.access import seen
from modelyard.statusapi.auth import Caller
from modelyard.statusapi.followers import Lens
from modelyard.statusapi.kinds import BY_PLURAL
from modelyard.statusapi.routes.common import Asking, Namespaces, Shared
from modelyard.statusapi.service import Service
from modelyard.statusapi.sse import EventStream, Following

router = APIRouter(tags=["events"])
_Plural = Literal["models", "modelsources", "trainings", "datasets", "pods"]
_VERBS = ("list", "watch")
_DESCRIPTION = """Server-sent events. First `reset` (forget everything), then `change` for each object that you may see,
then `synced`, then `change` as they come. `change` has `{"op":"put","object":{…}}` with a row as lists have it, or
`{"op":"gone","object":{kind,namespace,name,uid}}`. With `Last-Event-ID` only what changed since is sent, or `reset` if
that is not known any more. `heartbeat` comes when it is quiet, and says whether the cluster is reached; `end` says why
the stream ends. Needs the rights to list and to watch."""
_DOCUMENTED: dict[int | str, dict[str, Any]] = {
    **problems.documented(tagged=False),
    200: {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
}


class _Stream(Response):
    """Hands the connection to the stream; FastAPI only has to call it."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream(scope, receive, scope["state"].get("send", send))


@router.get(
    "/events",
    operation_id="follow",
    summary="Follow changes",
    description=_DESCRIPTION,
    response_class=Response,
    responses=_DOCUMENTED,
)
async def follow(
    request: Request,
    service: Shared,
    caller: Asking,
    namespaces: Namespaces = [],  # noqa: B006
    kinds: Annotated[
        list[_Plural],
        Query(alias="kind", max_length=8, description="Only these kinds; unset: models, sources, trainings."),
    ] = [],  # noqa: B006
    name: Annotated[str, Query(max_length=253, description="Only objects of this name.")] = "",
    last_event_id: Annotated[str | None, Header(max_length=128)] = None,
) -> Response:
    """Follow changes."""
    chosen: list[str] = list(dict.fromkeys(kinds)) or ["models", "modelsources", "trainings"]
    lens = await _lens(service, caller, chosen, namespaces, name)
    token: str | None = getattr(request.state, "token", None)

    async def recheck() -> Lens:
        asking = caller
        if service.tokens is not None and token is not None:
            asking = await service.tokens.caller(token)
        return await _lens(service, asking, chosen, namespaces, name)

    following = Following(lens, recheck, caller.expires, last_event_id)
    return _Stream(EventStream(service, following, caller.identity.digest))


async def _lens(service: Service, caller: Caller, kinds: list[str], asked: list[str], name: str) -> Lens:
    """What the caller may follow. Raises Problem 403 if that is nothing of a kind or namespace that they asked for."""
    known = service.namespaces()
    shown = [BY_PLURAL[plural].kind for plural in sorted(kinds)]
    found = await asyncio.gather(*(seen(service.rights, caller.identity, kind, known, asked, _VERBS) for kind in shown))
    return Lens(tuple(zip(shown, found, strict=True)), name)
