"""How an attempt ends: what it was and what it held goes into the history, once, and its last words into the status.

An entry without an `endTime` is of an attempt that was told to stop and may still hold something. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, TypeGuard

from modelyard.decide.training import cost
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.ports import Attempt, Outcome
from modelyard.decide.training.view import Context
from modelyard.plan import Delete
from modelyard.resources.conditions import cut
from modelyard.resources.meta import JOB
from modelyard.resources.objects import is_deleting, ref_to, uid_of
from modelyard.resources.times import format_time, parse_time
from modelyard.resources.training.status import LINES_MAX

STOP_SLACK_SECONDS: Final = 30
WORDS_SECONDS: Final = 30
"""How long a pod's last words may come after its Job's end: they are seen by two watches."""
LINE_MAX: Final = 256
_MESSAGE_MAX: Final = 512


def stop(ctx: Context, draft: Draft, attempt: Attempt, cause: str, reason: str, message: str) -> None:
    """Puts a running attempt into the history, still open, and deletes its Job."""
    job = ctx.view.job(attempt.number)
    draft.add_entry(new_entry(ctx, draft, attempt, cause, reason, message))
    draft.status["cost"] = charge(ctx, draft, attempt, ctx.now)
    if job is not None and not is_deleting(job):
        draft.then(Delete(ref_to(JOB, job), uid_of(job), "Foreground"))


def close(ctx: Context, draft: Draft, attempt: Attempt, entry: dict[str, Any]) -> None:
    """Completes an entry of the history once nothing of the attempt is left, with the times that it really held."""
    last_count = (draft.status.get("cost") or {}).get("asOf")
    end = attempt.released or ctx.now
    if attempt.released is None and last_count and entry["cause"] in ("Suspended", "Stopped", "Error"):
        grace = ctx.compute.grace_seconds(ctx.view.training["spec"]) + STOP_SLACK_SECONDS
        end = min(end, parse_time(last_count) + timedelta(seconds=grace))
    draft.status["cost"] = charge(ctx, draft, attempt, end)
    since = entry.get("runningSince")
    active = max(int((end - parse_time(since)).total_seconds()), 0) if since else 0
    entry |= {"endTime": format_time(end), "activeSeconds": active}
    if cost.gpus(ctx.spec):
        entry["gpuSeconds"] = cost.held(ctx.spec, _placed(draft, attempt), end)
    draft.status["activeSeconds"] = int(draft.status.get("activeSeconds") or 0) + active
    draft.status.pop("runningSince", None)
    if attempt.outcome is not None:
        _last_words(draft, entry, attempt.outcome)
        if attempt.outcome.result == "Error" and _ours(ctx):
            entry["lastLines"] = _lines(attempt.outcome.report.get("lastLines"))


def words_due(ctx: Context, attempt: Attempt) -> float:
    """Seconds for which the last words of an attempt that has ended are still waited for."""
    if attempt.outcome is None or attempt.outcome.report or attempt.released is None:
        return 0
    return (attempt.released + timedelta(seconds=WORDS_SECONDS) - ctx.now).total_seconds()


def new_entry(ctx: Context, draft: Draft, attempt: Attempt, cause: str, reason: str, message: str) -> dict[str, Any]:
    """An open entry of the history."""
    running = format_time(attempt.running) if attempt.running else draft.status.get("runningSince")
    started = format_time(attempt.created) if attempt.created else None
    said: dict[str, Any] = {
        "attempt": attempt.number,
        "job": draft.status["placement"]["job"],
        "startTime": started,
        "runningSince": running,
        "cause": cause,
        "reason": reason,
        "message": cut(message, _MESSAGE_MAX),
    }
    return {name: value for name, value in said.items() if value is not None}


def record(ctx: Context, draft: Draft, attempt: Attempt, entry: dict[str, Any]) -> None:
    """Puts an attempt that has ended into the history, complete."""
    draft.add_entry(entry)
    close(ctx, draft, attempt, entry)


def _last_words(draft: Draft, entry: dict[str, Any], outcome: Outcome) -> None:
    """What the trainer left: exit code, step, checkpoint."""
    if outcome.exit_code is not None:
        entry["exitCode"] = outcome.exit_code
    report = outcome.report
    for name, field in (("step", "step"), ("resumedFrom", "resumedFrom")):
        if _is_count(report.get(name)):
            entry[field] = report[name]
    kept: dict[str, Any] = {}
    saved = report.get("checkpoint")
    if isinstance(saved, dict) and _is_count(saved.get("step")):
        kept["last"] = {"step": saved["step"]}
        if isinstance(saved.get("path"), str) and 0 < len(saved["path"]) <= 512:
            kept["last"]["path"] = saved["path"]
    elif outcome.result == "Done" and report:
        # A run that is saved leaves its weights alone.
        (draft.status.get("checkpoint") or {}).pop("last", None)
    if _is_count(report.get("resumedFrom")):
        kept["resumedFrom"] = report["resumedFrom"]
    if kept:
        draft.status["checkpoint"] = {**(draft.status.get("checkpoint") or {}), **kept}


def _ours(ctx: Context) -> bool:
    """Whether the pod ran our trainer and nobody else's: what another program prints is its owner's."""
    image = ctx.spec.compute.image if ctx.spec.compute is not None else None
    return image is None and ctx.spec.recipe.name != "custom"


def _lines(said: object) -> list[str]:
    lines = said if isinstance(said, list) else []
    return [cut(line, LINE_MAX) for line in lines if isinstance(line, str) and line.strip()][-LINES_MAX:]


def charge(ctx: Context, draft: Draft, attempt: Attempt, until: datetime) -> dict[str, Any]:
    """The cost with all that the attempt held up to `until`."""
    return cost.charged(charges(draft), ctx.spec, price(ctx, draft), _placed(draft, attempt), until)


def price(ctx: Context, draft: Draft) -> cost.Price | None:
    """The price of a GPU and hour: of the spec, of the settings, of the node, or the one that was known last."""
    return (
        cost.price(ctx.spec, ctx.settings.prices)
        or cost.node_price(ctx.view.node, ctx.settings.price_label)
        or cost.known_price(charges(draft))
    )


def _placed(draft: Draft, attempt: Attempt) -> datetime | None:
    """When the attempt got its nodes: its pod may be gone, and it is on record."""
    recorded = (draft.status.get("placement") or {}).get("placedTime")
    return parse_time(recorded) if recorded else attempt.placed


def charges(draft: Draft) -> dict[str, Any]:
    """The cost as it was last counted."""
    return dict(draft.status.get("cost") or {})


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
