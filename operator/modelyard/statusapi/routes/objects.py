"""Lists and details: the same three paths for every kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from modelyard.statusapi import kinds, problems, query
from modelyard.statusapi.export import SPECS, manifest, to_yaml
from modelyard.statusapi.kinds import Shown
from modelyard.statusapi.routes.common import Asking, Name, Namespace, Namespaces, Shared, answer
from modelyard.statusapi.schemas.answers import Page
from modelyard.statusapi.schemas.base import Severity

_Text = Annotated[str, Query(max_length=1024)]
_Phases = Annotated[list[Annotated[str, Query(max_length=64)]], Query(max_length=16, description="Only these phases.")]


def routers() -> list[APIRouter]:
    """One router a kind."""
    return [_router(shown) for shown in kinds.ALL]


def _router(shown: Shown) -> APIRouter:
    router = APIRouter(tags=[shown.plural])
    one = f"/namespaces/{{namespace}}/{shown.plural}/{{name}}"

    @router.get(
        f"/{shown.plural}",
        operation_id=f"list-{shown.plural}",
        summary=f"List {shown.plural}",
        description=f"Sorts by {', '.join(shown.sorts)}; counts values of {', '.join(shown.facets)}.",
        response_model=Page[shown.row],  # type: ignore[name-defined]
        responses=problems.documented(),
    )
    async def list_objects(
        request: Request,
        service: Shared,
        caller: Asking,
        namespaces: Namespaces = [],  # noqa: B006 - FastAPI copies it
        phase: _Phases = [],  # noqa: B006
        severity: Annotated[list[Severity], Query(max_length=8)] = [],  # noqa: B006
        q: Annotated[str, Query(max_length=256, description="Words, all of which a row must hold.")] = "",
        label_selector: Annotated[_Text, Query(alias="labelSelector", description="As kubectl's --selector.")] = "",
        sort: Annotated[str, Query(max_length=64, description="A field, see above; - turns it round.")] = "",
        limit: Annotated[int, Query(ge=1, le=query.LIMIT_MAX)] = query.LIMIT,
        cursor: Annotated[str, Query(max_length=2048, description="`nextCursor` of the page before.")] = "",
        fields: Annotated[_Text, Query(description="Only these fields of a row, separated by commas.")] = "",
        facets: Annotated[_Text, Query(description="Count the values of these fields, see above.")] = "",
    ) -> Response:
        seen = await service.seen(caller, shown.kind, namespaces)
        asked = query.Query(
            tuple(namespaces), tuple(phase), tuple(severity), q, label_selector, sort, limit, cursor, fields, facets
        )
        return answer(request, query.page(service.rows, shown, seen, asked))

    @router.get(
        one,
        operation_id=f"get-{shown.plural}",
        summary=f"One {shown.word}",
        response_model=shown.detail_type,
        responses=problems.documented(404),
    )
    async def get_object(
        request: Request, service: Shared, caller: Asking, namespace: Namespace, name: Name
    ) -> Response:
        return answer(request, shown.detail(await service.get(caller, shown, namespace, name)))

    if shown.kind in SPECS:
        _export(router, shown, one)
    return router


def _export(router: APIRouter, shown: Shown, one: str) -> None:
    documented: dict[int | str, dict[str, Any]] = problems.documented(404)
    documented[200] = {
        "description": "A manifest",
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }

    @router.get(
        f"{one}/export",
        operation_id=f"export-{shown.plural}",
        summary=f"One {shown.word} as a manifest that can be applied",
        response_class=Response,
        responses=documented,
    )
    async def export_object(
        request: Request,
        service: Shared,
        caller: Asking,
        namespace: Namespace,
        name: Name,
        format: Annotated[Literal["yaml", "json"], Query()] = "yaml",
        with_namespace: Annotated[bool, Query(alias="withNamespace")] = True,
    ) -> Response:
        obj = await service.get(caller, shown, namespace, name)
        content = manifest(shown.kind, obj, with_namespace=with_namespace)
        if format == "json":
            return answer(request, content)
        found = answer(request, to_yaml(content).encode())
        if found.status_code == 200:
            found.headers["Content-Type"] = "application/yaml"
        return found
