"""Parts of one object: a training's series, epochs, attempts, pods and log tail; events of anything that is shown."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from modelyard.plan import Obj
from modelyard.resources import meta
from modelyard.resources.objects import label, uid_of
from modelyard.statusapi import problems
from modelyard.statusapi.events import events_of
from modelyard.statusapi.kinds import BY_PLURAL, PODS, TRAININGS
from modelyard.statusapi.logs import tail
from modelyard.statusapi.routes.common import Asking, Name, Namespace, Shared, answer
from modelyard.statusapi.schemas.answers import Attempt, Attempts, EpochRow, Epochs, Events, LogTail, Point, SeriesList
from modelyard.statusapi.schemas.base import pick

router = APIRouter()
_ONE: Final = "/namespaces/{namespace}/trainings/{name}"
_Plural = Literal["models", "modelsources", "trainings", "pods", "datasets"]


@router.get(
    f"{_ONE}/metrics",
    tags=["trainings"],
    operation_id="training-metrics",
    response_model=SeriesList,
    responses=problems.documented(404),
)
async def metrics(request: Request, service: Shared, caller: Asking, namespace: Namespace, name: Name) -> Response:
    """Metrics of a training over its steps."""
    obj = await service.get(caller, TRAININGS, namespace, name)
    status = _status(obj)
    epochs: dict[str, list[Point]] = defaultdict(list)
    for row in status.get("epochs") or ():
        for metric, value in (row.get("metrics") or {}).items():
            epochs[metric].append(Point(value=value, step=row.get("step"), epoch=row["epoch"], time=row.get("time")))
    observed: dict[str, list[Point]] = defaultdict(list)
    for step, time, values in service.series.of(uid_of(obj)):
        for metric, value in values.items():
            observed[metric].append(Point(value=value, step=step, time=time))
    latest = dict((status.get("output") or {}).get("metrics") or status.get("metrics") or {})
    return answer(request, SeriesList(latest=latest, epochs=dict(epochs), observed=dict(observed)))


@router.get(
    f"{_ONE}/epochs",
    tags=["trainings"],
    operation_id="training-epochs",
    response_model=Epochs,
    responses=problems.documented(404),
)
async def epochs(request: Request, service: Shared, caller: Asking, namespace: Namespace, name: Name) -> Response:
    """Metrics at the end of the last 50 epochs."""
    obj = await service.get(caller, TRAININGS, namespace, name)
    rows = [EpochRow(**pick(EpochRow, row)) for row in _status(obj).get("epochs") or ()]
    return answer(request, Epochs(items=rows))


@router.get(
    f"{_ONE}/attempts",
    tags=["trainings"],
    operation_id="training-attempts",
    response_model=Attempts,
    responses=problems.documented(404),
)
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


@router.get(
    "/namespaces/{namespace}/{plural}/{name}/events",
    tags=["events"],
    operation_id="object-events",
    response_model=Events,
    responses=problems.documented(404),
)
async def events(
    request: Request, service: Shared, caller: Asking, namespace: Namespace, plural: _Plural, name: Name
) -> Response:
    """Kubernetes Events about an object, newest first. Needs the right to list events."""
    shown = BY_PLURAL[plural]
    await service.require(caller, "list", meta.EVENT, namespace)
    obj = await service.get(caller, shown, namespace, name)
    return answer(request, Events(items=await events_of(service.client, obj)))


@router.get(
    f"{_ONE}/logs",
    tags=["trainings"],
    operation_id="training-logs",
    response_model=LogTail,
    responses=problems.documented(404),
)
async def logs(
    request: Request,
    service: Shared,
    caller: Asking,
    namespace: Namespace,
    name: Name,
    lines: Annotated[int, Query(ge=1, le=2000)] = 200,
    attempt: Annotated[int | None, Query(ge=1, description="Unset: the current one.")] = None,
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
    return answer(request, await tail(service.client, namespace, pod, lines))


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
