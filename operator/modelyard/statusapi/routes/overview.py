"""What is about many objects: namespaces, totals, what needs a person, and how this API itself stands."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from modelyard import __version__
from modelyard.plan import Kind
from modelyard.resources import meta
from modelyard.statusapi import problems, troubles
from modelyard.statusapi.access import Question, Seen, seen
from modelyard.statusapi.auth import Caller
from modelyard.statusapi.kinds import ROOTS
from modelyard.statusapi.routes.common import Asking, Namespaces, Shared, answer
from modelyard.statusapi.schemas.answers import ApiStatus, NamespaceRow, Statistics, Trouble, Troubles
from modelyard.statusapi.schemas.answers import Namespaces as NamespaceList
from modelyard.statusapi.service import Service
from modelyard.statusapi.statistics import output_bytes
from modelyard.statusapi.statistics import statistics as totals

router = APIRouter(tags=["overview"])


@router.get(
    "/namespaces", operation_id="list-namespaces", response_model=NamespaceList, responses=problems.documented()
)
async def namespaces(request: Request, service: Shared, caller: Asking) -> Response:
    """The namespaces that you may see, and what you may list in each."""
    known = service.namespaces()
    visible = await _visible(service, caller, known)
    lists_all = await service.rights.allowed(caller.identity, Question("list", "", "namespaces"))
    rows = [
        NamespaceRow(name=name, kinds=[s.plural for s in ROOTS if name in visible[s.kind]]) for name in sorted(known)
    ]
    return answer(request, NamespaceList(items=[row for row in rows if lists_all or row.kinds]))


@router.get("/statistics", operation_id="statistics", response_model=Statistics, responses=problems.documented())
async def statistics(
    request: Request,
    service: Shared,
    caller: Asking,
    namespaces: Namespaces = [],  # noqa: B006
) -> Response:
    """Totals of what you may list: by phase, GPU hours, cost, storage."""
    visible = await _visible_of(service, caller, namespaces)
    outputs = {obj["metadata"]["uid"]: output_bytes(obj) for obj in service.store.list(meta.TRAINING)}
    return answer(request, totals(service.rows, visible, outputs))


@router.get("/errors", operation_id="errors", response_model=Troubles, responses=problems.documented())
async def errors(
    request: Request,
    service: Shared,
    caller: Asking,
    namespaces: Namespaces = [],  # noqa: B006
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Everything that needs a person, worst first, each with what to do."""
    now = datetime.fromtimestamp(service.wall(), UTC)
    found: list[Trouble] = []
    for shown in service.kinds:
        visible = await _seen(service, caller, shown.kind, namespaces)
        for obj in service.store.list(shown.kind):
            if obj["metadata"].get("namespace", "") in visible:
                found.extend(troubles.of(shown.kind, obj, now))
    found.sort(key=troubles.rank)
    return answer(request, Troubles(items=found[:limit], total=len(found)))


@router.get("/status", operation_id="status", response_model=ApiStatus, responses=problems.documented())
async def status(request: Request, service: Shared, caller: Asking) -> Response:
    """How this API stands, and who you are to it."""
    fresh = service.freshness
    said = ApiStatus(
        version=__version__,
        synced=fresh.synced,
        observed_at=fresh.observed_at(),
        stale=fresh.stale,
        user=caller.identity.username,
        groups=list(caller.identity.groups),
        kinds=[shown.plural for shown in service.kinds],
        position=service.rows.log.position(),
        logs=service.settings.logs,
        streams=len(service.streams),
    )
    return answer(request, said)


async def _seen(service: Service, caller: Caller, kind: Kind, asked: list[str]) -> Seen:
    """Where the caller may list a kind, of the namespaces asked for; none of them is no error here."""
    names = asked or service.namespaces()
    found = await seen(service.rights, caller.identity, kind, names)
    return Seen(False, frozenset(name for name in asked if name in found)) if asked else found


async def _visible_of(service: Service, caller: Caller, asked: list[str]) -> dict[Kind, Seen]:
    found = await asyncio.gather(*(_seen(service, caller, shown.kind, asked) for shown in ROOTS))
    return {shown.kind: one for shown, one in zip(ROOTS, found, strict=True)}


async def _visible(service: Service, caller: Caller, known: set[str]) -> dict[Kind, Seen]:
    found = await asyncio.gather(*(seen(service.rights, caller.identity, s.kind, known) for s in ROOTS))
    return {shown.kind: one for shown, one in zip(ROOTS, found, strict=True)}
