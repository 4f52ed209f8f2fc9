"""What is known beyond the watches, answered from a world: the operator's facts, always fresh."""

from __future__ import annotations

from dataclasses import dataclass, field

from modelyard.observed import DownloadFact, NodeFact, ObjectFact, RefusalFact, SecretFact
from modelyard.plan import Obj, Ref
from modelyard.resources.meta import POD
from support.world import World, claims_of


@dataclass
class WorldFacts:
    """Reads of Secrets and objects by name, names found taken, reports of downloads."""

    world: World
    downloads: dict[tuple[str, str], DownloadFact] = field(default_factory=dict)
    ca_pem: str | None = None
    refused: dict[Ref, RefusalFact] = field(default_factory=dict)
    inventory: tuple[NodeFact, ...] | None = None

    def secret(self, ref: Ref) -> SecretFact:
        """What a `get` of the Secret says now."""
        found = self.world.objects.get(ref)
        if found is None:
            return SecretFact(False, self.world.now)
        data = found.get("stringData") or {}
        return SecretFact(
            True,
            self.world.now,
            resource_version=found["metadata"]["resourceVersion"],
            present=frozenset(k for k, v in data.items() if v.strip()),
            empty=frozenset(k for k, v in data.items() if not v.strip()),
        )

    def object(self, ref: Ref) -> ObjectFact:
        """What a `get` of the object says now."""
        return ObjectFact(self.world.objects.get(ref), self.world.now)

    def taken(self, ref: Ref) -> Obj | None:
        """The object that a create met."""
        return self.world.taken.get(ref)

    def refusal(self, ref: Ref) -> RefusalFact | None:
        """What a test says of a refused object, or of a Job without pods."""
        return self.refused.get(ref)

    def nodes(self) -> tuple[NodeFact, ...] | None:
        """The nodes that a test gives."""
        return self.inventory

    def download(self, namespace: str, volume: str) -> DownloadFact | None:
        """The latest report of the download into a volume."""
        return self.downloads.get((namespace, volume))

    def mounted_by(self, namespace: str, claim: str) -> frozenset[str]:
        """Pods of others that mount the claim."""
        pods = [p for p in self.world.list(POD, namespace) if claim in claims_of(p)]
        running = [p for p in pods if (p.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
        ours = "app.kubernetes.io/managed-by"
        return frozenset(p["metadata"]["name"] for p in running if ours not in (p["metadata"].get("labels") or {}))
