"""The status that a decision is about to write, with the writes that follow it.

A plan is always: status, then events about the change, then everything else. So what was decided is on record before
anything is made or deleted, and a plan that stops anywhere is taken up where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import datetime
from typing import Any, Final, Literal

from modelyard.decide.common import ConditionSet, status_patch
from modelyard.plan import Action, Event, Obj, Plan
from modelyard.resources.conditions import cut, find
from modelyard.resources.meta import TRAINING
from modelyard.resources.objects import generation_of, ref_to, uid_of
from modelyard.resources.training.status import COLLECTOR_FIELDS, HISTORY_MAX, TERMINAL_PHASES

MESSAGE_MAX: Final = 1024
_EVENTFUL: Final[dict[str, Literal["Normal", "Warning"]]] = {
    "Preparing": "Normal",
    "Analyzing": "Normal",
    "AwaitingApproval": "Normal",
    "Running": "Normal",
    "Suspended": "Normal",
    "Succeeded": "Normal",
    "Retrying": "Warning",
    "Failed": "Warning",
}
_TROUBLES: Final = frozenset(
    {
        "BudgetExceeded",
        "ContainerConfigError",
        "ContainerError",
        "ImageNotFound",
        "ImagePullDenied",
        "ImagePullFailed",
        "InvalidImageName",
        "JobDeleted",
        "NameTaken",
        "RegistryUnreachable",
        "StallTimeout",
        "Unschedulable",
    }
)
"""Reasons within a phase that a person may want to do something about."""


class Draft:
    """Starts as what the operator has written so far; `plan` compares, and asks for a write only if it differs."""

    def __init__(self, training: Obj, now: datetime) -> None:
        self.training = training
        self.now = now
        self.old: Mapping[str, Any] = training.get("status") or {}
        self.status: dict[str, Any] = _own(self.old)
        self.status["observedGeneration"] = generation_of(training)
        self.conditions = ConditionSet(self.old.get("conditions"), now=now, generation=generation_of(training))
        for old in self.old.get("conditions") or ():
            self.conditions.set(old["type"], old["status"], old["reason"], old.get("message", ""))
        self._actions: list[Action] = []
        self._requeue: float | None = None

    @property
    def phase(self) -> str:
        """The phase as decided so far; empty for a Training that nobody has looked at yet."""
        return str(self.status.get("phase") or "")

    @property
    def terminal(self) -> bool:
        """Whether the run is over for good."""
        return self.phase in TERMINAL_PHASES

    @property
    def number(self) -> int:
        """Number of the current attempt; 0 before the first is on record."""
        return int((self.status.get("attempts") or {}).get("number") or 0)

    def entry(self, attempt: int) -> dict[str, Any] | None:
        """The attempt's entry in the history, to be changed in place."""
        return next((e for e in self.status.get("history") or () if e["attempt"] == attempt), None)

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Puts an attempt into the history; the oldest one goes when it is full."""
        self.status["history"] = [*(self.status.get("history") or ()), entry][-HISTORY_MAX:]

    def enter(self, phase: str, reason: str, message: str) -> None:
        """Where the run is. RuntimeError for leaving a terminal phase."""
        if self.terminal and phase != self.phase:
            raise RuntimeError(f"a Training that has {self.phase} cannot become {phase}")
        self.status |= {"phase": phase, "reason": reason, "message": cut(message, MESSAGE_MAX)}

    def then(self, *actions: Action) -> None:
        """Writes that follow the status."""
        self._actions.extend(actions)

    def look_again(self, seconds: float | None) -> None:
        """At the latest after so many seconds."""
        if seconds is not None:
            seconds = max(seconds, 0.1)
            self._requeue = seconds if self._requeue is None else min(self._requeue, seconds)

    def look_again_at(self, moment: datetime) -> None:
        """At the latest then."""
        self.look_again((moment - self.now).total_seconds())

    def plan(self) -> Plan:
        """What is to be written, in order."""
        self.status["conditions"] = self.conditions.result()
        patch = status_patch(TRAINING, self.training, self.status, foreign=COLLECTOR_FIELDS)
        before: list[Action] = [patch, *self._events()] if patch is not None else []
        return Plan((*before, *self._actions), self._requeue)

    def _events(self) -> list[Event]:
        events = []
        about = ref_to(TRAINING, self.training), uid_of(self.training)
        status, was = self.status, self.old.get("phase")
        if self.phase != was and self.phase in _EVENTFUL:
            events.append(Event(*about, self.phase, str(status.get("message", "")), _EVENTFUL[self.phase]))
        stays = self.phase == "Running" or self.phase not in _EVENTFUL
        trouble = self.phase == "Validating" or (stays and status.get("reason") in _TROUBLES)
        if trouble and status.get("reason") != self.old.get("reason"):
            events.append(Event(*about, str(status["reason"]), str(status.get("message", "")), "Warning"))
        found, known = status.get("analysis") or {}, self.old.get("analysis") or {}
        if "time" in found and found["time"] != known.get("time") and found.get("reason") != "BadInput":
            events += [Event(*about, reason, words, kind) for reason, words, kind in _of_analysis(found)]
        saved = find(status["conditions"], "Saved")
        before = find(self.old.get("conditions") or (), "Saved") or {}
        if saved is not None and saved["reason"] not in (before.get("reason"), "Waiting", "Saving"):
            good = saved["status"] == "True"
            events.append(Event(*about, saved["reason"], saved["message"], "Normal" if good else "Warning"))
        return events


def _of_analysis(found: Mapping[str, Any]) -> Iterator[tuple[str, str, Literal["Normal", "Warning"]]]:
    """Reason, words and kind of what is told when a look at the data is over."""
    message = str(found.get("message") or "")
    if "profile" not in found:
        yield "AnalysisFailed", f"The data could not be analysed: {message}", "Warning"
        return
    yield "Analyzed", message, "Normal"
    if warnings := found.get("warnings"):
        yield "AnalysisWarnings", cut(" ".join(warnings), MESSAGE_MAX), "Warning"


def _own(status: Mapping[str, Any]) -> dict[str, Any]:
    """What of a status is the operator's."""
    own = deepcopy({k: v for k, v in status.items() if k not in COLLECTOR_FIELDS})
    for path in COLLECTOR_FIELDS:
        parent, _, field = path.partition(".")
        if field and isinstance(own.get(parent), dict):
            own[parent].pop(field, None)
    return own
