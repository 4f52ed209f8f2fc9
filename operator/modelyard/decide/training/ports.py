"""What a decision about a Training needs from the layer beside it: where attempts run.

`modelyard.compute` satisfies this without knowing it; the controller puts them together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from modelyard.observed import NodeFact
from modelyard.plan import Obj


class Cause(Protocol):
    """One CamelCase word, and a sentence for people."""

    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def message(self) -> str: ...  # noqa: D102


class Outcome(Protocol):
    """How an attempt ended; `report` is what the trainer left as its last words."""

    @property
    def result(self) -> Literal["Done", "BadInput", "Infrastructure", "Error"]: ...  # noqa: D102
    @property
    def cause(self) -> Cause: ...  # noqa: D102
    @property
    def exit_code(self) -> int | None: ...  # noqa: D102
    @property
    def report(self) -> Mapping[str, Any]: ...  # noqa: D102


class Attempt(Protocol):
    """One attempt as it is now; `live` means that something of it may still run."""

    @property
    def number(self) -> int: ...  # noqa: D102
    @property
    def state(self) -> Literal["Absent", "Queued", "Provisioning", "Running", "Ended"]: ...  # noqa: D102
    @property
    def live(self) -> bool: ...  # noqa: D102
    @property
    def deleting(self) -> bool: ...  # noqa: D102
    @property
    def uid(self) -> str | None: ...  # noqa: D102
    @property
    def pod(self) -> str | None: ...  # noqa: D102
    @property
    def nodes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def created(self) -> datetime | None: ...  # noqa: D102
    @property
    def admitted(self) -> datetime | None: ...  # noqa: D102
    @property
    def partly(self) -> datetime | None: ...  # noqa: D102
    @property
    def placed(self) -> datetime | None: ...  # noqa: D102
    @property
    def running(self) -> datetime | None: ...  # noqa: D102
    @property
    def released(self) -> datetime | None: ...  # noqa: D102
    @property
    def waiting(self) -> Cause | None: ...  # noqa: D102
    @property
    def outcome(self) -> Outcome | None: ...  # noqa: D102


class Compute(Protocol):
    """Where attempts run."""

    def problems(self, training: Obj) -> list[str]:
        """What of a Training can't be placed, in words for the user."""
        ...

    def grace_seconds(self, spec: Mapping[str, Any]) -> int:
        """The longest that an attempt runs on after it was told to stop."""
        ...

    def job(
        self,
        training: Obj,
        *,
        attempt: int,
        output_claim: str,
        config: str,
        mounts: Mapping[str, tuple[str, str]],
    ) -> dict[str, Any]:
        """The object that is one attempt. `mounts`: (claim, path in it) of each input by its name in the status."""
        ...

    def analysis(
        self,
        training: Obj,
        *,
        name: str,
        output_claim: str,
        config: str,
        mounts: Mapping[str, tuple[str, str]],
    ) -> dict[str, Any]:
        """The object that analyses what a run reads, without a GPU. It is observed like an attempt."""
        ...

    def service(self, training: Obj) -> dict[str, Any] | None:
        """What else an attempt's pods need before they are made, for all attempts; None for nothing."""
        ...

    def capacity(self, spec: Mapping[str, Any], nodes: Sequence[NodeFact]) -> Cause | None:
        """Why these nodes have no place for a run, for ever or for now; None where that is not so."""
        ...

    def observe(self, attempt: int, job: Obj | None, pods: Sequence[Obj], departed: Sequence[Obj] = ()) -> Attempt:
        """The attempt as its Job, its pods and the last words of those that are gone show it."""
        ...
