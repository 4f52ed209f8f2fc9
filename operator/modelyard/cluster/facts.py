"""What is known beyond the watches: Secrets and users' objects read by name, names found taken, downloads, the CA.

Plain data, kept here between reads so that views can be made without I/O; `reads.py` keeps it fresh. No value of a
Secret is ever held.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from modelyard.cluster.inventory import INVENTORY
from modelyard.observed import DownloadFact, InventoryFact, NodeFact, ObjectFact, RefusalFact, SecretFact
from modelyard.plan import Obj, Ref
from modelyard.resources.meta import EVENT

TAKEN_FOR = timedelta(seconds=30)
REFUSED_FOR = timedelta(minutes=10)
"""Longer than the longest pause between two tries."""

Fact = SecretFact | ObjectFact | RefusalFact | InventoryFact


class Facts:
    """Answers for views; None always means: not known (yet)."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._facts: dict[Ref, Fact] = {}
        self._taken: dict[Ref, ObjectFact] = {}
        self._refused: dict[Ref, RefusalFact] = {}
        self._downloads: dict[tuple[str, str], DownloadFact] = {}
        self._mounts: dict[str, dict[str, frozenset[str]]] = {}
        self.ca_pem: str | None = None
        """The certificate, as PEM text, that pods must trust to report; None if nothing is reported."""

    # ---- for views

    def secret(self, ref: Ref) -> SecretFact | None:
        """What the last `get` of a Secret said, if the root's `reads` name it."""
        fact = self._facts.get(ref)
        return fact if isinstance(fact, SecretFact) else None

    def object(self, ref: Ref) -> ObjectFact | None:
        """What the last `get` of another object said, if the root's `reads` name it."""
        fact = self._facts.get(ref)
        return fact if isinstance(fact, ObjectFact) else None

    def taken(self, ref: Ref) -> Obj | None:
        """The object that had the name when a Create of ours met AlreadyExists, for 30 s after that.

        Whose it is, its owner's uid tells: our own (the store has not seen it yet), or a stranger's (NameTaken).
        """
        fact = self._taken.get(ref)
        if fact is None or self._clock() - fact.checked_at >= TAKEN_FOR:
            return None
        return fact.obj

    def nodes(self) -> tuple[NodeFact, ...] | None:
        """All nodes, if the root's `reads` name INVENTORY and they may be read."""
        fact = self._facts.get(INVENTORY)
        return fact.nodes if isinstance(fact, InventoryFact) else None

    def refusal(self, ref: Ref) -> RefusalFact | None:
        """Why the last try to create the object failed; or, of an Event's ref, why what it is about makes no pods."""
        if ref.kind == EVENT:
            fact = self._facts.get(ref)
            return fact if isinstance(fact, RefusalFact) and fact.reason else None
        fact = self._refused.get(ref)
        return fact if fact is not None and self._clock() - fact.checked_at < REFUSED_FOR else None

    def download(self, namespace: str, volume: str) -> DownloadFact | None:
        """The latest report of the download into a volume claim, while it runs."""
        return self._downloads.get((namespace, volume))

    def mounted_by(self, namespace: str, claim: str) -> frozenset[str]:
        """Names of the pods of others that mount a claim of ours, as they were seen last."""
        return self._mounts.get(namespace, {}).get(claim, frozenset())

    # ---- for those that find out

    def known(self, ref: Ref) -> Fact | None:
        """The fact about an object, whatever its kind."""
        return self._facts.get(ref)

    def learn(self, ref: Ref, fact: Fact) -> bool:
        """Takes in a read; whether it says something new."""
        old = self._facts.get(ref)
        self._facts[ref] = fact
        return old is None or not fact.same(old)

    def forget(self, ref: Ref) -> None:
        """No root reads it any more."""
        self._facts.pop(ref, None)

    def learn_taken(self, ref: Ref, obj: Obj) -> None:
        """A Create met this object under its name."""
        now = self._clock()
        self._taken = {r: f for r, f in self._taken.items() if now - f.checked_at < TAKEN_FOR}
        self._taken[ref] = ObjectFact(obj, now)

    def clear_taken(self, ref: Ref) -> None:
        """The name was met no more."""
        self._taken.pop(ref, None)

    def learn_refused(self, ref: Ref, reason: str, message: str) -> None:
        """A Create was refused."""
        now = self._clock()
        self._refused = {r: f for r, f in self._refused.items() if now - f.checked_at < REFUSED_FOR}
        self._refused[ref] = RefusalFact(reason, message, now)

    def clear_refused(self, ref: Ref) -> None:
        """The object was taken."""
        self._refused.pop(ref, None)

    def learn_downloads(self, downloads: dict[tuple[str, str], DownloadFact]) -> set[tuple[str, str]]:
        """Takes in all running downloads by namespace and volume; returns those that are new, changed or gone."""
        old, self._downloads = self._downloads, downloads
        return {at for at in old.keys() | downloads.keys() if old.get(at) != downloads.get(at)}

    def learn_mounts(self, namespace: str, mounts: dict[str, frozenset[str]]) -> set[str]:
        """Takes in which claims of a namespace are mounted by whom; returns those for which that changed."""
        old = self._mounts.pop(namespace, {})
        if mounts:
            self._mounts[namespace] = mounts
        return {claim for claim in old.keys() | mounts.keys() if old.get(claim) != mounts.get(claim)}
