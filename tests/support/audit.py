"""What a client really asked of the API server, from its audit log: the server's word, not the client's own count."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})


@dataclass(frozen=True, slots=True)
class Request:
    """One answered request."""

    agent: str
    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    time: float
    """When it was answered, in seconds since the epoch."""

    @property
    def writes(self) -> bool:
        """Whether it could change something."""
        return self.verb in WRITES


class Audit:
    """The requests that were answered since this object was made."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._from = log.stat().st_size if log.exists() else 0

    def requests(self, agent: str = "modelyard-operator/", namespace: str | None = None) -> list[Request]:
        """Those of clients whose User-Agent starts like this, in one namespace or in all."""
        return [
            r for r in self._read() if r.agent.startswith(agent) and (namespace is None or r.namespace == namespace)
        ]

    def writes(self, agent: str = "modelyard-operator/", namespace: str | None = None) -> Counter[tuple[str, str]]:
        """How many writes, by verb and resource (`status` of a kind as `models/status`); leases are left out."""
        found = [r for r in self.requests(agent, namespace) if r.writes and r.resource != "leases"]
        return Counter((r.verb, r.resource) for r in found)

    def _read(self) -> Iterator[Request]:
        with self._log.open("rb") as file:
            file.seek(self._from)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                entry = json.loads(line)
                ref = entry.get("objectRef") or {}
                sub = ref.get("subresource")
                yield Request(
                    agent=entry.get("userAgent", ""),
                    verb=entry["verb"],
                    resource=ref.get("resource", "") + (f"/{sub}" if sub else ""),
                    namespace=ref.get("namespace", ""),
                    name=ref.get("name", ""),
                    code=(entry.get("responseStatus") or {}).get("code", 0),
                    time=datetime.fromisoformat(entry["stageTimestamp"]).timestamp(),
                )
