"""The attempts of a committed run: make one, follow it, end it, decide whether there is another. Pure.

What must stay true: an attempt's number is on record before its Job is made; no Job is made while anything of an
earlier one may run; what an attempt held is in the history before its Job is deleted; a Job that was seen and is gone
is never made again under its number.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from zlib import crc32

from modelyard.decide.training import cost, phases
from modelyard.decide.training.bounds import PARTLY, QUEUED, Bounds, Crossed, budget, timeouts
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.ending import charge, charges, close, new_entry, price, record, stop, words_due
from modelyard.decide.training.making import begin, make
from modelyard.decide.training.output import output
from modelyard.decide.training.ports import Attempt, Outcome
from modelyard.decide.training.queue import EVICTED, SWITCHED_OFF, switched_off, why_evicted
from modelyard.decide.training.view import Context
from modelyard.decide.training.waits import why_waiting
from modelyard.plan import Delete
from modelyard.resources.meta import JOB
from modelyard.resources.objects import is_deleting, ref_to, uid_of
from modelyard.resources.times import format_time, parse_time

RETRIES: Final = {"Infrastructure": 10, "Error": 1}
"""Further attempts where `spec.retry` does not say."""

BACKOFF_SECONDS: Final = {"Infrastructure": 5, "Error": 10}
BACKOFF_MAX_SECONDS: Final = 300
APART_SECONDS: Final = 120
DISRUPTIONS: Final = frozenset({"Preempted", "Evicted", "NodeLost"})
"""Reasons that a running attempt shows when the cluster is about to stop it."""

_COUNTERS: Final = {"Infrastructure": "infrastructure", "Error": "error"}


def advance(ctx: Context, draft: Draft) -> None:
    """The next step of a committed run that is not over."""
    number = draft.number
    attempt = observe(ctx, draft, number)
    entry = draft.entry(number)
    if entry is not None:
        (_between if "endTime" in entry else _stopping)(ctx, draft, attempt, entry)
    elif attempt.state == "Ended":
        _ended(ctx, draft, attempt)
    elif attempt.state == "Absent":
        _absent(ctx, draft, attempt)
    else:
        _follow(ctx, draft, attempt)


def observe(ctx: Context, draft: Draft, number: int) -> Attempt:
    """The attempt of that number, seen through its Job or, where that is gone, through the pods that it left."""
    job = ctx.view.job(number)
    uid = uid_of(job) if job is not None else (draft.status.get("placement") or {}).get("jobUID")
    return ctx.compute.observe(number, job, ctx.view.pods_of(uid), ctx.view.departed_of(uid))


def is_gone(attempt: Attempt) -> bool:
    """Whether nothing of the attempt is left that could hold anything."""
    return attempt.state == "Absent" and not attempt.live


def _absent(ctx: Context, draft: Draft, attempt: Attempt) -> None:
    """There is no Job: not yet, or no longer."""
    if (draft.status.get("placement") or {}).get("jobUID"):
        if attempt.live:
            phases.committed(
                draft, draft.phase, "JobDeleted", "The Job was deleted; waiting for its pods to end.", handed_over=True
            )
            return
        if attempt.outcome is not None and attempt.outcome.result == "Done":
            _ended(ctx, draft, attempt)
            return
        entry = new_entry(
            ctx, draft, attempt, "Infrastructure", "JobDeleted", "Somebody deleted the Job of the attempt."
        )
        _over(ctx, draft, attempt, entry)
    elif ctx.spec.suspend:
        phases.suspended(draft, "Suspended", "Suspended by spec.suspend; nothing is held.")
    else:
        make(ctx, draft)


def _follow(ctx: Context, draft: Draft, attempt: Attempt) -> None:
    """A Job that is there and not over."""
    known = draft.status.get("placement") or {}
    if known.get("nodes") and not attempt.nodes:
        if attempt.waiting is not None and attempt.waiting.reason == QUEUED:
            _evicted(ctx, draft, attempt)
        return  # its pod is gone, and its Job is about to say so
    newly_placed = attempt.placed is not None and "placedTime" not in known
    _place(draft, attempt)
    money = _budget(ctx, draft)
    count = cost.gpus(ctx.spec) > 0 and attempt.placed is not None
    late = cost.due(charges(draft), ctx.now) or (money.next is not None and ctx.now >= money.next)
    if newly_placed or (count and late):
        draft.status["cost"] = charge(ctx, draft, attempt, ctx.now)
        money = _budget(ctx, draft)
    number = attempt.number
    if attempt.deleting:
        message = "The Job is being deleted; waiting for its pods to end."
        phases.committed(draft, draft.phase, "JobDeleted", message, handed_over=True)
        return
    if ctx.spec.suspend:
        stop(ctx, draft, attempt, "Suspended", "Suspended", "Paused by spec.suspend.")
        phases.committed(draft, _shown(attempt), "Suspending", "Saving a checkpoint, then pausing.", handed_over=True)
        return
    limits = timeouts(ctx.spec, {**draft.status, "progress": draft.old.get("progress")}, attempt, ctx.now)
    crossed = limits.crossed or money.crossed
    if crossed is not None and crossed.action != "Warn":
        _cross(ctx, draft, attempt, crossed)
        return
    for moment in (limits.next, money.next):
        if moment is not None:
            draft.look_again_at(moment)
    if count:
        draft.look_again_at(parse_time(charges(draft)["asOf"]) + timedelta(seconds=cost.LIVE_SECONDS))
    waiting = attempt.waiting
    if attempt.state == "Running" and waiting is not None:
        phases.committed(draft, "Running", waiting.reason, waiting.message, handed_over=True)
        return
    if attempt.state == "Running":
        where = f" on {', '.join(attempt.nodes[:3])}" if attempt.nodes else ""
        warning = f" {crossed.message}" if crossed is not None else ""
        reason = crossed.reason if crossed is not None else "Running"
        phases.committed(draft, "Running", reason, f"Attempt {number} runs{where}.{warning}", handed_over=True)
        return
    assert waiting is not None, "an attempt that does not run yet says what it waits for"
    waiting = why_waiting(ctx, draft, attempt, waiting)
    phases.committed(draft, attempt.state, waiting.reason, waiting.message, handed_over=True)


def _evicted(ctx: Context, draft: Draft, attempt: Attempt) -> None:
    """The queue suspended a Job that had its nodes. It would fail when resumed, so a new one asks the queue again."""
    message = f"The queue has taken the place back; the run asks for another. {why_evicted(ctx.view.workload)}".rstrip()
    _over(ctx, draft, attempt, new_entry(ctx, draft, attempt, "Infrastructure", EVICTED, message))


def _cross(ctx: Context, draft: Draft, attempt: Attempt, crossed: Crossed) -> None:
    """A bound is passed: the attempt stops, and with `Fail` so does the run."""
    if crossed.action == "Suspend":
        stop(ctx, draft, attempt, "Suspended", crossed.reason, crossed.message)
        phases.committed(draft, _shown(attempt), crossed.reason, f"{crossed.message} Pausing.", handed_over=True)
        return
    if crossed.action == "Retry":
        stop(ctx, draft, attempt, crossed.cause, crossed.reason, crossed.message)
        _count(draft, crossed.cause)
        message = f"{crossed.message} Stopping the attempt."
        phases.committed(draft, _shown(attempt), crossed.reason, message, handed_over=True)
        return
    stop(ctx, draft, attempt, "Stopped", crossed.reason, crossed.message)
    _fail(ctx, draft, crossed.reason, crossed.message)


def _shown(attempt: Attempt) -> str:
    return attempt.state if attempt.state in ("Queued", "Provisioning", "Running") else "Running"


def _ended(ctx: Context, draft: Draft, attempt: Attempt) -> None:
    outcome = attempt.outcome
    assert outcome is not None, "an attempt that has ended has an outcome"
    _place(draft, attempt)
    if _has_words(attempt, outcome) and (left := words_due(ctx, attempt)) > 0:
        ended = "is done" if outcome.result == "Done" else "has failed"
        message = f"The run {ended}; waiting for what its pod says of the result."
        phases.committed(draft, draft.phase, "Ending", message, handed_over=True)
        draft.look_again(left)
        return
    if outcome.result == "Done":
        entry = new_entry(ctx, draft, attempt, "Succeeded", outcome.cause.reason, outcome.cause.message)
        record(ctx, draft, attempt, entry)
        _succeed(ctx, draft, outcome)
        return
    reason, message = outcome.cause.reason, outcome.cause.message
    if reason == "Disrupted" and draft.old.get("reason") in DISRUPTIONS:
        # The pod is gone and the Job does not say why; the pod did, while it was there.
        reason, message = str(draft.old["reason"]), str(draft.old["message"])
    if reason == EVICTED:
        message = f"{message} {why_evicted(ctx.view.workload)}".rstrip()
    entry = new_entry(ctx, draft, attempt, outcome.result, reason, message)
    _over(ctx, draft, attempt, entry)


def _has_words(attempt: Attempt, outcome: Outcome) -> bool:
    """Whether a pod must be there that says how it ended: that of a program that failed by itself stays with its Job.

    Only the pod knows why, and whether it was the program's fault at all.
    """
    failed = outcome.result in ("BadInput", "Error") and outcome.exit_code is not None
    return outcome.result == "Done" or (failed and attempt.pod is None)


def _stopping(ctx: Context, draft: Draft, attempt: Attempt, entry: dict[str, Any]) -> None:
    """We told the attempt to stop: wait until it has, and count what it held until then."""
    job = ctx.view.job(attempt.number)
    if attempt.state == "Ended" or is_gone(attempt):
        close(ctx, draft, attempt, entry)
        if attempt.outcome is not None and attempt.outcome.result == "Done":
            entry |= {"cause": "Succeeded", "reason": "Completed", "message": attempt.outcome.cause.message}
            _succeed(ctx, draft, attempt.outcome)
            return
        _between(ctx, draft, attempt, entry)
        return
    if job is not None and not is_deleting(job):
        draft.then(Delete(ref_to(JOB, job), uid_of(job), "Foreground"))


def _over(ctx: Context, draft: Draft, attempt: Attempt, entry: dict[str, Any]) -> None:
    """An attempt has ended without a result."""
    record(ctx, draft, attempt, entry)
    _count(draft, entry["cause"])
    _between(ctx, draft, attempt, entry)


def _count(draft: Draft, cause: str) -> None:
    """An attempt counts against the retries of its cause: in the same write that puts it into the history."""
    if (counter := _COUNTERS.get(cause)) is not None:
        draft.status["attempts"][counter] = int(draft.status["attempts"].get(counter) or 0) + 1


def _between(ctx: Context, draft: Draft, attempt: Attempt, entry: dict[str, Any]) -> None:
    """The last attempt is over: fail, pause, wait, or make the next one."""
    cause = entry["cause"]
    if cause == "BadInput":
        _fail(ctx, draft, entry["reason"], entry["message"])
        return
    if cause in _COUNTERS and (given_up := _given_up(ctx, draft, entry)) is not None:
        _fail(ctx, draft, entry["reason"], given_up)
        return
    job = ctx.view.job(attempt.number)
    if job is not None and not is_deleting(job):
        off = switched_off(ctx.view.workload) if entry["reason"] == EVICTED and not ctx.spec.suspend else None
        if off is not None:
            phases.committed(draft, "Queued", SWITCHED_OFF, off, handed_over=True)
            return
        draft.then(Delete(ref_to(JOB, job), uid_of(job), "Foreground"))
    money = _budget(ctx, draft).crossed
    if ctx.spec.suspend or (money is not None and money.action == "Suspend"):
        reason = "Suspended" if ctx.spec.suspend or money is None else money.reason
        words = "Suspended by spec.suspend." if ctx.spec.suspend or money is None else money.message
        phases.suspended(draft, reason, f"{words} Nothing is held; the run goes on from its last checkpoint.")
        return
    if money is not None and money.action == "Fail":
        _fail(ctx, draft, money.reason, money.message)
        return
    due = _due(draft, entry)
    if cause == "Suspended" and is_gone(attempt):
        begin(ctx, draft)
    elif not is_gone(attempt) or ctx.now < due:
        said = entry["message"] if cause in _COUNTERS else "Going on after the pause."
        when = f" Attempt {attempt.number + 1} begins at {format_time(due)}." if ctx.now < due else ""
        phases.committed(draft, "Retrying", entry["reason"], f"{said}{when}", handed_over=True)
        if ctx.now < due:
            draft.look_again_at(due)
    else:
        begin(ctx, draft)


def _given_up(ctx: Context, draft: Draft, entry: dict[str, Any]) -> str | None:
    """Why there is no further attempt, or None if there is."""
    cause = entry["cause"]
    retry = ctx.spec.retry
    said = (retry.on_infrastructure if cause == "Infrastructure" else retry.on_error) if retry is not None else None
    allowed = RETRIES[cause] if said is None else said
    count = int(draft.status["attempts"][_COUNTERS[cause]])
    if count <= allowed:
        return None
    field = "onInfrastructure" if cause == "Infrastructure" else "onError"
    return f"{entry['message']} Not tried again: spec.retry.{field} allows {allowed}."


def _due(draft: Draft, entry: dict[str, Any]) -> datetime:
    """When the next attempt may begin."""
    end = parse_time(entry["endTime"])
    if entry["cause"] not in _COUNTERS:
        return end
    count = int(draft.status["attempts"][_COUNTERS[entry["cause"]]])
    pause = min(BACKOFF_SECONDS[entry["cause"]] * 2 ** min(count - 1, 16), BACKOFF_MAX_SECONDS)
    if entry["reason"] == PARTLY:
        # Two runs that each hold half of what both need must not come back at the same moment.
        pause += crc32(f"{uid_of(draft.training)}/{count}".encode()) % APART_SECONDS
    return end + timedelta(seconds=pause)


def _succeed(ctx: Context, draft: Draft, outcome: Outcome) -> None:
    base = next((e for e in draft.status.get("inputs") or () if e["name"] == "model"), None)
    recipe = ctx.spec.recipe
    draft.status["output"] = output(
        draft.status["output"]["pvc"],
        recipe.name,
        recipe.determinism or "Reproducible",
        base,
        outcome.report.get("summary"),
    )
    _conclude(ctx, draft)
    phases.succeeded(draft, "Completed", outcome.cause.message)


def _fail(ctx: Context, draft: Draft, reason: str, message: str) -> None:
    _conclude(ctx, draft)
    phases.failed(draft, reason, message)


def _conclude(ctx: Context, draft: Draft) -> None:
    last = draft.entry(draft.number) or {}
    draft.status["completionTime"] = last.get("endTime") or format_time(ctx.now)
    draft.status.pop("runningSince", None)
    draft.status["cost"] = cost.settled(charges(draft), ctx.spec, price(ctx, draft), ctx.now)


def _place(draft: Draft, attempt: Attempt) -> None:
    placement = draft.status.setdefault("placement", {})
    seen = {"jobUID": attempt.uid, "pod": attempt.pod, "nodes": list(attempt.nodes)}
    placement |= {name: value for name, value in seen.items() if value}
    if attempt.placed is not None:
        placement["placedTime"] = format_time(attempt.placed)
    if attempt.running is not None and attempt.state == "Running":
        draft.status["runningSince"] = format_time(attempt.running)


def _budget(ctx: Context, draft: Draft) -> Bounds:
    return budget(ctx.spec, charges(draft), price(ctx, draft), ctx.now)
