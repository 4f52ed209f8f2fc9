"""What decisions need from the adapters that are handed to them: a data plane.

Adapters live beside `decide`, not above or below it; neither imports the other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from modelyard.plan import Action
from modelyard.resources.shares import Lent, Loan
from modelyard.resources.volumes import Seen, Step, Want


class DataPlane(Protocol):
    """How files get into a volume."""

    def step(self, want: Want, seen: Seen, now: datetime) -> Step:
        """What to do next so that the volume holds what is wanted, and how far it is. Never waits, never fails."""
        ...

    def remove(self, seen: Seen) -> tuple[Action, ...]:
        """Deletes the volume and what was made to fill it. Asks for nothing twice while it is going."""
        ...

    def is_complete(self, seen: Seen) -> bool:
        """Whether the volume holds all its files, as far as the cluster's objects can tell without our status."""
        ...


class SharingPlane(DataPlane, Protocol):
    """And how other namespaces get it."""

    def lend(self, loan: Loan, lent: Lent, now: datetime) -> Step:
        """What to do next so that another namespace has the version, and how far it is."""
        ...

    def take_back(self, lent: Lent) -> tuple[Action, ...]:
        """Deletes all that a share is made of, and none of the files. Asks for nothing twice while it is going."""
        ...
