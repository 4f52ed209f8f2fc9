"""What a controller of one kind is to the runtime: from observed objects to roots, from a root to a view, to a plan.

A controller holds no state of its own beside indexes in the store: it can be asked about any root at any time, twice,
or never. Nothing in it awaits.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final, Protocol, TypeVar

from modelyard.cluster.facts import Facts
from modelyard.cluster.store import Store
from modelyard.plan import Key, Kind, Obj, Plan, Ref

V = TypeVar("V")

SETTLE_SECONDS: Final = 0.3
"""What others make and change comes in bursts, for which one look at the root is enough, and one write."""


class Controller(Protocol[V]):
    """One implementation per kind, constructed with the settings."""

    kind: Kind
    settle: float
    """Seconds without a change of something else that concerns a root, until the root is looked at; none at its own."""

    def setup(self, store: Store) -> None:
        """Called once before anything is observed: adds the indexes that `roots` and `view` use."""

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        """Which roots of this kind an observed object of any kind concerns. Called for an old and a new state alike.

        The object may be gone from the store already. Must not raise for an object that the API server accepts.
        """

    def indifferent(self, kind: Kind, old: Obj, new: Obj) -> bool:
        """Whether what changed of an object makes no difference to any root of this kind."""

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        """Objects outside the watches that the view needs: each has been read by the time that `view` is called."""

    def view(self, store: Store, facts: Facts, key: Key) -> V | None:
        """Everything that the decision needs, immutable; None if the root is gone."""

    def decide(self, view: V, now: datetime) -> Plan:
        """What should be done. Pure."""
