"""How long an attempt may wait and run, and what the run may cost. Pure.

Bounds can be changed at any time, so each decision reads them anew; nothing of them is in the Job.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from modelyard.decide.training import cost
from modelyard.decide.training.ports import Attempt
from modelyard.resources.times import parse_time
from modelyard.resources.training.spec import TrainingSpec

QUEUED: Final = "WaitingForQueue"
PARTLY: Final = "PartlyPlaced"
PARTLY_SECONDS: Final = 600
"""How long some nodes of a run wait for the others where `timeouts.provisionSeconds` does not say."""


class Crossed(NamedTuple):
    """A bound that is passed, and what follows."""

    reason: str
    message: str
    action: Literal["Warn", "Retry", "Suspend", "Fail"] = "Fail"
    cause: Literal["Error", "Infrastructure"] = "Error"


class Bounds(NamedTuple):
    """The bound that is passed, if one is, and when the next one would be."""

    crossed: Crossed | None
    next: datetime | None


def timeouts(spec: TrainingSpec, status: Mapping[str, Any], attempt: Attempt, now: datetime) -> Bounds:
    """The time limits of the part that the attempt is in."""
    limits = spec.timeouts
    if attempt.partly is not None:
        seconds = (limits.provision_seconds if limits is not None else None) or PARTLY_SECONDS
        words = f"Not all nodes came within {seconds} s: those that did are given back, so that others can use them."
        return _after(attempt.partly, seconds, now, Crossed(PARTLY, words, "Retry", "Infrastructure"))
    if limits is None:
        return Bounds(None, None)
    if (stalled := _stalled(limits.stall_seconds, status, attempt)) is not None:
        return Bounds(stalled, None)
    if attempt.state == "Running" and attempt.running is not None and limits.run_seconds is not None:
        left = limits.run_seconds - int(status.get("activeSeconds") or 0)
        words = f"The run took longer than the {limits.run_seconds} s of spec.timeouts.runSeconds, pauses not counted."
        return _bound(attempt.running + timedelta(seconds=left), now, Crossed("RunTimeout", words))
    if attempt.state == "Queued" and attempt.waiting is not None and attempt.waiting.reason == QUEUED:
        words = f"No place in the queue within the {limits.queue_seconds} s of spec.timeouts.queueSeconds."
        return _after(attempt.created, limits.queue_seconds, now, Crossed("QueueTimeout", words))
    if attempt.state in ("Queued", "Provisioning"):
        why = f" {attempt.waiting.message}" if attempt.waiting is not None else ""
        words = f"Not running within the {limits.provision_seconds} s of spec.timeouts.provisionSeconds.{why}"
        return _after(
            attempt.admitted or attempt.created, limits.provision_seconds, now, Crossed("ProvisionTimeout", words)
        )
    return Bounds(None, None)


def _stalled(seconds: int | None, status: Mapping[str, Any], attempt: Attempt) -> Crossed | None:
    """Whether the run stands still: it has reported all the while, and nothing was finished.

    Silence says nothing: the collector may be away. Both times are the collector's, so `now` is not asked.
    """
    progress = status.get("progress") or {}
    if seconds is None or attempt.state != "Running" or attempt.running is None:
        return None
    if progress.get("attempt") != attempt.number or not progress.get("lastReportTime"):
        return None
    since = attempt.running
    if progress.get("lastAdvanceTime"):
        since = max(since, parse_time(progress["lastAdvanceTime"]))
    stood = parse_time(progress["lastReportTime"]) - since
    if stood < timedelta(seconds=seconds):
        return None
    where = f" after step {progress['step']}" if progress.get("step") is not None else ""
    words = (
        f"Nothing was finished{where} within the {seconds} s of spec.timeouts.stallSeconds, though the pod reports: "
        "the trainer hangs, or a step takes longer than that."
    )
    return Crossed("StallTimeout", words, "Retry")


def budget(spec: TrainingSpec, charges: Mapping[str, Any], price: cost.Price | None, now: datetime) -> Bounds:
    """The limit in US dollars, by what was spent up to the last count and at the rate of what is held."""
    limit = spec.budget
    if limit is None or limit.max_usd is None or price is None:
        return Bounds(None, None)
    most, spent = Decimal(limit.max_usd), cost.usd(int(charges.get("gpuSeconds") or 0), price.per_gpu_hour)
    rate = price.per_gpu_hour * cost.gpus(spec) / 3600
    if spent >= most:
        words = f"The run has cost {spent:.2f} of the {most} US dollars of spec.budget.maxUSD."
        return Bounds(Crossed("BudgetExceeded", words, limit.on_exceed or "Warn"), None)
    if rate <= 0 or not charges.get("asOf"):
        return Bounds(None, None)
    return Bounds(None, parse_time(charges["asOf"]) + timedelta(seconds=float((most - spent) / rate)))


def _after(since: datetime | None, seconds: int | None, now: datetime, crossed: Crossed) -> Bounds:
    if since is None or seconds is None:
        return Bounds(None, None)
    return _bound(since + timedelta(seconds=seconds), now, crossed)


def _bound(at: datetime, now: datetime, crossed: Crossed) -> Bounds:
    return Bounds(crossed, None) if now >= at else Bounds(None, at)
