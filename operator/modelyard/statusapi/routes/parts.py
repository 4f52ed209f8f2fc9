"""Parts of one object: a training's series, epochs, attempts, pods and log tail; events of anything that is shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from starlette.responses import Response

from modelyard.plan import Obj
from modelyard.resources import meta
from modelyard.resources.objects import label, uid_of
from modelyard.statusapi import problems
from modelyard.statusapi.events import events_of
from modelyard.statusapi.kinds import BY_PLURAL, PODS, TRAININGS
from modelyard.statusapi.logs import tail
from modelyard.statusapi.routes.common import Asking, Name, Namespace, Shared, answer
from modelyard.statusapi.schemas.answers import (
    Attempt,
    Attempts,
    CurveEpoch,
    EpochRow,
    Epochs,
    Events,
    LogTail,
    Point,
    SeriesList,
)
from modelyard.statusapi.schemas.base import Dto, pick

router = APIRouter()
_ONE: Final = "/namespaces/{namespace}/trainings/{name}"
_Route = TypeVar("_Route", bound=Callable[..., Any])
_Plural = Literal["models", "modelsources", "trainings", "pods", "datasets"]


def _part(path: str, operation: str, model: type[Dto], tag: str = "trainings") -> Callable[[_Route], _Route]:
    """A path of one object's part."""
    documented = problems.documented(404)
    return router.get(path, tags=[tag], operation_id=operation, response_model=model, responses=documented)


@_part(f"{_ONE}/metrics", "training-metrics", SeriesList)
async def metrics(
    request: Request,
    service: Shared,
    caller: Asking,
    namespace: Namespace,
    name: Name,
    metric: Annotated[
        list[Annotated[str, Query(min_length=1, max_length=64)]], Query(max_length=64, description="Only these.")
    ] = [],  # noqa: B006
    attempt: Annotated[int | None, Query(ge=0, lt=2**31, description="Unset: the curve that counts.")] = None,
    from_step: Annotated[int | None, Query(alias="fromStep", ge=0, lt=2**53)] = None,
    to_step: Annotated[int | None, Query(alias="toStep", ge=0, lt=2**53)] = None,
    since: Annotated[AwareDatetime | None, Query(description="RFC 3339.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="RFC 3339.")] = None,
    max_points: Annotated[int, Query(alias="maxPoints", ge=1, le=5000, description="Of each metric.")] = 500,
) -> Response:
    """Metrics of a training over its steps."""
    obj = await service.get(caller, TRAININGS, namespace, name)
    status = _status(obj)
    query = {
        "metric": metric,
        "attempt": attempt,
        "fromStep": from_step,
        "toStep": to_step,
        "since": since.isoformat() if since else None,
        "until": until.isoformat() if until else None,
    }
    curves = await service.curves.of(uid_of(obj), {**query, "maxPoints": max_points})
    rows = {row.epoch: row for row in curves.epochs} if curves else {}
    if curves is None or not any(query.values()):
        # What the object remembers fills what the store does not have, or has lost.
        kept = [CurveEpoch(**pick(CurveEpoch, row)) for row in status.get("epochs") or ()]
        rows = {row.epoch: row for row in kept} | rows
    epochs: dict[str, list[Point]] = defaultdict(list)
    for _, row in sorted(rows.items()):
        for word, value in row.metrics.items():
            point = Point(value=value, step=row.step, epoch=row.epoch, time=row.time, attempt=row.attempt)
            epochs[word].append(point)
    found = SeriesList(
        latest=dict((status.get("output") or {}).get("metrics") or status.get("metrics") or {}),
        attempts=curves.attempts if curves else [],
        series=curves.series if curves else {},
        epochs=dict(epochs),
        available=curves is not None,
    )
    return answer(request, found)


@_part(f"{_ONE}/epochs", "training-epochs", Epochs)
async def epochs(request: Request, service: Shared, caller: Asking, namespace: Namespace, name: Name) -> Response:
    """Metrics at the end of the last 50 epochs."""
    obj = await service.get(caller, TRAININGS, namespace, name)
    rows = [EpochRow(**pick(EpochRow, row)) for row in _status(obj).get("epochs") or ()]
    return answer(request, Epochs(items=rows))


@_part(f"{_ONE}/attempts", "training-attempts", Attempts)
async def attempts(request: Request, service: Shared, caller: Asking, namespace: Namespace, name: Name) -> Response:
    """The current attempt and the last 10 that are over, newest first."""
    obj = await service.get(caller, TRAININGS, namespace, name)
    status = _status(obj)
    over = [Attempt(**pick(Attempt, entry)) for entry in status.get("history") or ()]
    number = (status.get("attempts") or {}).get("number")
    items = sorted(over, key=lambda entry: -entry.attempt)
    if number is not None and all(entry.attempt != number for entry in over):
        items.insert(0, _current(number, status))
    return answer(request, Attempts(items=items))


@_part("/namespaces/{namespace}/{plural}/{name}/events", "object-events", Events, "events")
async def events(
    request: Request, service: Shared, caller: Asking, namespace: Namespace, plural: _Plural, name: Name
) -> Response:
    """Kubernetes Events about an object, newest first. Needs the right to list events."""
    shown = BY_PLURAL[plural]
    await service.require(caller, "list", meta.EVENT, namespace)
    obj = await service.get(caller, shown, namespace, name)
    return answer(request, Events(items=await events_of(service.client, obj)))


@_part(f"{_ONE}/logs", "training-logs", LogTail)
async def logs(
    request: Request,
    service: Shared,
    caller: Asking,
    namespace: Namespace,
    name: Name,
    lines: Annotated[int, Query(ge=1, le=2000)] = 200,
    attempt: Annotated[int | None, Query(ge=1, description="Unset: the current one.")] = None,
    since: Annotated[AwareDatetime | None, Query(description="Only lines of that second and later.")] = None,
) -> Response:
    """The end of the log of a training's first pod. Needs the right to get pods/log."""
    if not service.settings.logs:
        raise problems.Problem(
            404, "LogsAreOff", "This installation offers no logs: api.logs is off. Use kubectl logs."
        )
    await service.require(caller, "get", TRAININGS.kind, namespace, name)
    obj = service.store.get(TRAININGS.kind, namespace, name)
    pod = _pod(service, obj, attempt) if obj is not None else None
    await service.require(caller, "get", PODS.kind, namespace, pod or "", "log")
    if pod is None:
        raise problems.Problem(404, "NoPod", "There is no pod of that attempt any more, or not yet.")
    return answer(request, await tail(service.client, namespace, pod, lines, since))


def _pod(service: Any, training: Obj, attempt: int | None) -> str | None:
    """The pod of the attempt, that of the first rank, if it is still there."""
    namespace, name = training["metadata"]["namespace"], training["metadata"]["name"]
    wanted = attempt or (_status(training).get("attempts") or {}).get("number")
    found = [
        obj["metadata"]["name"]
        for obj in service.store.list(meta.POD, namespace)
        if label(obj, meta.LABEL_TRAINING) == name
        and label(obj, meta.LABEL_COMPONENT) == meta.COMPONENT_TRAINING
        and (wanted is None or label(obj, meta.LABEL_ATTEMPT) == str(wanted))
    ]
    return found[0] if found else None


def _current(number: int, status: Any) -> Attempt:
    placement, progress = status.get("placement") or {}, status.get("progress") or {}
    return Attempt(
        attempt=number,
        current=True,
        job=placement.get("job"),
        running_since=status.get("runningSince"),
        step=progress.get("step"),
        reason=status.get("reason"),
        message=status.get("message"),
        resumed_from=(status.get("checkpoint") or {}).get("resumedFrom"),
    )


def _status(obj: Obj) -> Any:
    return obj.get("status") or {}
