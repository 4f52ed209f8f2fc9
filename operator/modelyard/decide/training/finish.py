"""A run that is over: nothing of it may hold anything, and what it left is saved, kept or goes. Pure.

The terminal state is on record before anything is cleaned up, and cleaning goes on until every child is confirmed gone.
The ended Job of a run that failed stays, since it holds nothing but its log.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from modelyard.decide.training import phases
from modelyard.decide.training.attempts import is_gone, observe
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.ending import close
from modelyard.decide.training.origin import users
from modelyard.decide.training.save import EXPIRED, save, saved_record
from modelyard.decide.training.view import Context
from modelyard.plan import Delete, Obj
from modelyard.resources.meta import JOB, PVC
from modelyard.resources.names import training_job
from modelyard.resources.objects import is_deleting, ref_to, uid_of
from modelyard.resources.times import format_time, parse_time

WARNING_SHARE: Final = 10
"""The warning comes when one part in so many of the time that unsaved output is kept is left."""


def finish(ctx: Context, draft: Draft) -> None:
    """What is still to be done for a run that has succeeded or failed."""
    phases.terminal(draft)
    _close_last(ctx, draft)
    _clean_up(ctx, draft)
    save(ctx, draft)
    _expire(ctx, draft)


def _close_last(ctx: Context, draft: Draft) -> None:
    entry = draft.entry(draft.number)
    if entry is None or "endTime" in entry:
        return
    attempt = observe(ctx, draft, draft.number)
    if attempt.state == "Ended" or is_gone(attempt):
        close(ctx, draft, attempt, entry)


def _clean_up(ctx: Context, draft: Draft) -> None:
    left = [job for job in ctx.view.jobs if not _is_log(ctx, draft, job)]
    for job in left:
        if not is_deleting(job):
            draft.then(Delete(ref_to(JOB, job), uid_of(job), "Foreground"))
    pods = [p for p in ctx.view.pods if (p.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    if left or pods:
        words = f"Waiting until {len(left)} Jobs and {len(pods)} pods are gone."
        draft.conditions.set("CleanedUp", "False", "CleaningUp", words)
    else:
        draft.conditions.set("CleanedUp", "True", "CleanedUp", "Nothing of the run holds anything any more.")


def _is_log(ctx: Context, draft: Draft, job: Obj) -> bool:
    """Whether the Job is the ended last one of a failed run, kept so that its log can be read."""
    last = training_job(ctx.view.training["metadata"]["name"], draft.number)
    if draft.phase != "Failed" or job["metadata"]["name"] != last or is_deleting(job):
        return False
    attempt = observe(ctx, draft, draft.number)
    return attempt.state == "Ended" and not attempt.live


def _expire(ctx: Context, draft: Draft) -> None:
    """Output that nobody saved goes after a time, if the user set one; the Training itself stays."""
    output = draft.status.get("output") or {}
    claim = ctx.view.claims.get(output.get("pvc", ""))
    seconds = ctx.spec.output.unsaved_ttl_seconds if ctx.spec.output is not None else None
    if seconds is None or saved_record(ctx, claim) is not None or draft.status.get("saved"):
        if "expiresTime" in output and (claim is not None or seconds is not None):
            output.pop("expiresTime")
        return
    if claim is None and "expiresTime" in output and ctx.spec.save is None:
        draft.conditions.set("Saved", "False", "OutputExpired", EXPIRED)
    if claim is None or not ctx.view.owns(claim):
        return
    expires = parse_time(draft.status["completionTime"]) + timedelta(seconds=seconds)
    output["expiresTime"] = format_time(expires)
    draft.status["output"] = output
    if ctx.now < expires:
        _warn(ctx, draft, seconds)
        draft.look_again_at(expires)
    elif not is_deleting(claim) and not users(ctx.view):
        draft.then(Delete(ref_to(PVC, claim), uid_of(claim)))


def _warn(ctx: Context, draft: Draft, seconds: int) -> None:
    expires = parse_time(draft.status["output"]["expiresTime"])
    warning = expires - timedelta(seconds=seconds / WARNING_SHARE)
    if ctx.now < warning:
        draft.look_again_at(warning)
        return
    message = (
        f"The output is deleted at {format_time(expires)} unless it is saved: set spec.save, or raise "
        "spec.output.unsavedTTLSeconds."
    )
    draft.conditions.set("Saved", "False", "OutputExpires", message)
