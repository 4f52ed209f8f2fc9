"""The look at data and model before anything is paid for: made, read, judged, and if a person is asked, approved. Pure.

What was found is about a key: a hash of all that the look depends on. It is on record before its Job goes, and the Job
before it is made; another key makes another look. What follows from the findings (suggestions, estimates, whether the
run fits) is decided anew each time, so that an edit of what it costs needs no other look.
"""

from __future__ import annotations

from typing import Any, Final

from modelyard.decide.common import canonical_hash
from modelyard.decide.training import phases
from modelyard.decide.training.config import analysis_config, effective_params, used_params
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.ending import words_due
from modelyard.decide.training.estimate import estimate
from modelyard.decide.training.findings import read_findings
from modelyard.decide.training.inputs import Entry, mounts
from modelyard.decide.training.making import TAKEN_RECHECK_SECONDS, output_claim, output_claim_name
from modelyard.decide.training.ports import Outcome
from modelyard.decide.training.preflight import misfit, worries
from modelyard.decide.training.view import Context
from modelyard.plan import Create, Delete, Obj
from modelyard.resources.meta import ANNOTATION_APPROVE, ANNOTATION_RESYNC, JOB, PVC
from modelyard.resources.names import analysis_job
from modelyard.resources.objects import annotation, is_deleting, ref_to, uid_of, whose
from modelyard.resources.times import format_time
from modelyard_training.params.analysis import REPORT

AGAIN: Final = f"Once the data are mended, set the annotation {ANNOTATION_RESYNC} to a new value."
_KEY_LENGTH: Final = 8
_DIGEST_LENGTH: Final = 16


def passed(ctx: Context, draft: Draft, entries: tuple[Entry, ...]) -> bool:
    """Whether the run may begin; if not, the status says what it waits for. `entries` are its inputs, all ready."""
    entries = tuple(e for e in entries if e["name"] != "checkpoint")  # says nothing of what the model will see
    if not _wanted(ctx):
        drop(ctx, draft)
        draft.status.pop("analysis", None)
        return True
    key = _key(ctx, entries)
    known = draft.status.get("analysis") or {}
    if (known.get("key") != key or "time" not in known) and not _look(ctx, draft, key, entries):
        return False
    drop(ctx, draft)
    return _judged(ctx, draft, draft.status["analysis"])


def drop(ctx: Context, draft: Draft) -> None:
    """No look is wanted, or its findings are on record: its Jobs go."""
    _delete(draft, ctx.view.analyses)


def _delete(draft: Draft, jobs: tuple[Obj, ...]) -> None:
    for job in jobs:
        if not is_deleting(job):
            draft.then(Delete(ref_to(JOB, job), uid_of(job)))


def _wanted(ctx: Context) -> bool:
    asked = ctx.spec.pause_after is not None or ctx.spec.recipe.unset_params == "Suggested"
    return asked or (ctx.settings.training.analysis == "Always" and ctx.spec.recipe.name != "custom")


def _key(ctx: Context, entries: tuple[Entry, ...]) -> str:
    read = [{n: v for n, v in e.items() if n in _IDENTITY} for e in entries]
    again = annotation(ctx.view.training, ANNOTATION_RESYNC)
    volume = output_claim(ctx, "")["spec"]
    return canonical_hash([analysis_config(ctx.spec, entries), read, volume, again], _KEY_LENGTH)


_IDENTITY: Final = ("name", "pvcName", "path", "resolvedRevision", "digest")


def _look(ctx: Context, draft: Draft, key: str, entries: tuple[Entry, ...]) -> bool:
    """Makes the Job of that key and follows it; True once its findings are in the status."""
    name = analysis_job(ctx.view.training["metadata"]["name"], key)
    draft.status["analysis"] = {"key": key, "job": name}
    draft.status["output"] = {"pvc": output_claim_name(ctx)}
    others = tuple(j for j in ctx.view.analyses if j["metadata"]["name"] != name)
    _delete(draft, others)
    job = next((j for j in ctx.view.analyses if j["metadata"]["name"] == name), None)
    if others or (job is not None and is_deleting(job)):
        phases.analyzing(draft, "Starting", "An earlier analysis is ending; another one begins when it is gone.")
        return False
    if job is None:
        _make(ctx, draft, name, entries)
        return False
    pods = tuple(p for p in ctx.view.analysis_pods if uid_of(job) in _owners(p))
    attempt = ctx.compute.observe(0, job, pods)
    if attempt.state != "Ended" or attempt.outcome is None:
        waiting = attempt.waiting
        if attempt.state == "Running" or waiting is None:
            phases.analyzing(draft, "Analyzing", "Looking at the data and the base model, without a GPU.")
        else:
            phases.analyzing(draft, waiting.reason, waiting.message)
        return False
    if (left := words_due(ctx, attempt)) > 0:
        phases.analyzing(draft, "Analyzing", "The analysis has ended; waiting for its findings.")
        draft.look_again(left)
        return False
    draft.status["analysis"] |= _found(ctx, key, attempt.outcome)
    return True


def _owners(pod: Obj) -> set[str]:
    return {o["uid"] for o in pod["metadata"].get("ownerReferences") or ()}


def _make(ctx: Context, draft: Draft, name: str, entries: tuple[Entry, ...]) -> None:
    claim_name = draft.status["output"]["pvc"]
    claim = ctx.view.claims.get(claim_name)
    wanted = output_claim(ctx, claim_name)
    taken = None
    if claim is not None and not ctx.view.owns(claim):
        taken = f"Volume claim {claim_name}", claim
    elif name in ctx.view.strangers:
        taken = f"Job {name}", ctx.view.strangers[name]
    if taken is not None:
        message = f"{taken[0]} is there already and {whose(taken[1])}; it is left alone. Remove it to go on."
        phases.analyzing(draft, "NameTaken", message, stalled=True)
        draft.look_again(TAKEN_RECHECK_SECONDS)
        return
    if claim is not None and not is_deleting(claim) and not _as_wanted(claim, wanted):
        # Nothing but an earlier analysis is in it.
        draft.then(Delete(ref_to(PVC, claim), uid_of(claim)))
    if claim is not None and (is_deleting(claim) or not _as_wanted(claim, wanted)):
        message = f"Volume claim {claim_name} is made anew as spec.output.storage says."
        phases.analyzing(draft, "VolumeTerminating", message)
        draft.look_again(TAKEN_RECHECK_SECONDS)
        return
    phases.analyzing(draft, "Starting", "The data and the base model are about to be looked at, without a GPU.")
    if claim is None:
        draft.then(Create(PVC, wanted))
    job = ctx.compute.analysis(
        ctx.view.training,
        name=name,
        output_claim=claim_name,
        config=analysis_config(ctx.spec, entries),
        mounts=mounts(entries),
    )
    draft.then(Create(JOB, job))


def _as_wanted(claim: Obj, wanted: Obj) -> bool:
    spec, asked = claim["spec"], wanted["spec"]
    same_class = asked.get("storageClassName") in (None, spec.get("storageClassName"))
    same_size = spec["resources"]["requests"]["storage"] == asked["resources"]["requests"]["storage"]
    return same_class and same_size and list(spec["accessModes"]) == list(asked["accessModes"])


def _found(ctx: Context, key: str, outcome: Outcome) -> dict[str, Any]:
    """What goes on record when the look is over, whatever came of it."""
    ended = {"time": format_time(ctx.now)}
    findings = read_findings(outcome.report.get("analysis")) if outcome.result == "Done" else None
    if findings is not None:
        return ended | findings | {"digest": canonical_hash(findings, _DIGEST_LENGTH), "path": REPORT}
    reason, message = outcome.cause.reason, outcome.cause.message
    if outcome.result == "Done":
        reason, message = "FindingsLost", "The analysis ended, and its findings were lost."
    digest = canonical_hash([key, reason, message], _DIGEST_LENGTH)
    refused = outcome.result == "BadInput"
    return ended | {"reason": "BadInput" if refused else reason, "message": message, "digest": digest}


def _judged(ctx: Context, draft: Draft, found: dict[str, Any]) -> bool:
    """Whether the run may begin on these findings."""
    if found.get("reason") == "BadInput":
        phases.unfit(draft, "BadInput", f"{found['message']} {AGAIN}")
        return False
    if "profile" not in found and ctx.spec.recipe.unset_params == "Suggested":
        message = (
            f"There are no suggestions for spec.recipe.unsetParams: {found['message']} Remove the field, or set the "
            f"annotation {ANNOTATION_RESYNC} to a new value."
        )
        phases.unfit(draft, "NoSuggestions", message)
        return False
    params = effective_params(ctx.spec, found)
    draft.status["effectiveParams"] = params
    would = estimate(ctx.spec, used_params(ctx.spec, found), found, ctx.settings) if "profile" in found else None
    if would is None:
        found.pop("estimate", None)
    else:
        found["estimate"] = would.status()
        # Estimates err: a person may know better, and says so by approving the findings.
        wrong = misfit(ctx, would, found) if _approval(ctx) != found["digest"] else None
        if wrong is not None:
            reason, message = wrong
            anyway = f"To try all the same, set the annotation {ANNOTATION_APPROVE} to {found['digest']}."
            phases.unfit(draft, reason, f"{message} {anyway}")
            return False
    return _approved(ctx, draft, found, worries(ctx, would) if would is not None else ())


def _approval(ctx: Context) -> str | None:
    return annotation(ctx.view.training, ANNOTATION_APPROVE)


def _approved(ctx: Context, draft: Draft, found: dict[str, Any], worried: tuple[str, ...]) -> bool:
    given = _approval(ctx)
    if ctx.spec.pause_after is None or given == found["digest"]:
        return True
    words = [str(found.get("message") or "The data set has been analysed."), *worried]
    if given:
        words.append(f"The annotation {ANNOTATION_APPROVE} names another analysis.")
    words.append(f"To go on, remove spec.pauseAfter, or set the annotation {ANNOTATION_APPROVE} to {found['digest']}.")
    phases.awaiting(draft, " ".join(words))
    return False
