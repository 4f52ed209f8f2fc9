"""What is known of one attempt: whether it waits, runs or has ended, with times and with the cause in words.

Plain values without a word of Kubernetes, so that another provider can say the same. `decide` reads them by protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["Absent", "Queued", "Provisioning", "Running", "Ended"]
Result = Literal["Done", "BadInput", "Infrastructure", "Error"]


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is as it is: one CamelCase word, and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended. `report` is the agent's termination message, empty if there is none that can be read."""

    result: Result
    cause: Cause
    exit_code: int | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt as it is now.

    `live`: something of it may still run or hold resources, so no other attempt may start. `deleting`: it was told to
    stop. Times: `created` of the Job, `admitted` when it left its queue, `partly` since when some pods have nodes and
    others have not, `placed` when nodes were given to all, `running` when the trainer started, `released` when that
    ended. `waiting` says what a Queued or Provisioning attempt waits for, and why the cluster is about to stop a
    Running one.
    """

    number: int
    state: State = "Absent"
    live: bool = False
    deleting: bool = False
    uid: str | None = None
    pod: str | None = None
    nodes: tuple[str, ...] = ()
    created: datetime | None = None
    admitted: datetime | None = None
    partly: datetime | None = None
    placed: datetime | None = None
    running: datetime | None = None
    released: datetime | None = None
    waiting: Cause | None = None
    outcome: Outcome | None = None
