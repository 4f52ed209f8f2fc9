"""What a client really asked of the API server, from its audit log: the server's word, not the client's own count."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.waiting import wait_for

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One answered request."""

    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    received: float
    """When it came, in seconds since the epoch."""
    time: float
    """When it was answered."""

    def __repr__(self) -> str:
        place = f"{self.resource} {self.namespace}/{self.name}"
        came = datetime.fromtimestamp(self.received, UTC).time().isoformat("milliseconds")
        return f"<{self.verb} {place}: {self.code}, came at {came}, took {self.time - self.received:.3f} s>"

    @property
    def writes(self) -> bool:
        """Whether it could change something."""
        return self.verb in WRITES


class Audit:
    """The answered ones of those requests that came since this object was made.

    One that came before and is answered only now does not count: it may be of a process that is gone.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0
        self._since = time.time()

    def requests(self, agent: str = "modelyard-operator/", namespace: str | None = None) -> list[Request]:
        """Those of clients whose User-Agent starts like this, in one namespace or in all."""
        return [
            r for r in self._read() if r.agent.startswith(agent) and (namespace is None or r.namespace == namespace)
        ]

    def writes(self, agent: str = "modelyard-operator/", namespace: str | None = None) -> Counter[tuple[str, str]]:
        """How many writes, by verb and resource (`status` of a kind as `models/status`); leases are left out."""
        return Counter((r.verb, r.resource) for r in self.written(agent, namespace))

    def written(self, agent: str = "modelyard-operator/", namespace: str | None = None) -> list[Request]:
        """The writes themselves."""
        return [r for r in self.requests(agent, namespace) if r.writes and r.resource != "leases"]

    def wait_for_renewals(self, count: int = 10) -> None:
        """Until an operator has renewed its lease so often: time in which it ran, however slow the machine is."""
        wait_for(lambda: len(_renewals(self.requests())) >= count, f"{count} renewals of the lease")

    def wait_for_rest(self, namespace: str, renewals: int = 10, seconds: float = 120) -> None:
        """Until the operator has renewed its lease so often without a write in this namespace."""
        last: list[Request] = []

        def rests() -> bool:
            found = self.requests()
            last[:] = [r for r in found if r.writes and r.namespace == namespace and r.resource != "leases"][-3:]
            return len([r for r in _renewals(found) if not last or r.received > last[-1].time]) >= renewals

        wait_for(rests, "the operator to write nothing any more", seconds, said=lambda: f"after {last}")

    def _read(self) -> Iterator[Request]:
        with self._log.open("rb") as file:
            file.seek(self._from)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                entry = json.loads(line)
                ref = entry.get("objectRef") or {}
                sub = ref.get("subresource")
                received = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
                if received < self._since:
                    continue
                yield Request(
                    agent=entry.get("userAgent", ""),
                    verb=entry["verb"],
                    resource=ref.get("resource", "") + (f"/{sub}" if sub else ""),
                    namespace=ref.get("namespace", ""),
                    name=ref.get("name", ""),
                    code=(entry.get("responseStatus") or {}).get("code", 0),
                    received=received,
                    time=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
                )


def _renewals(requests: Iterable[Request]) -> list[Request]:
    return [r for r in requests if (r.verb, r.resource, r.code) == ("update", "leases", 200)]
