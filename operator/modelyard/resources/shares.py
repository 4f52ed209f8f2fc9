"""A version that another namespace gets, in words that decisions and data planes share. Pure values.

Decisions say what shall be had where (`Loan`) and hand over what is there of it (`Lent`); a data plane answers with a
`Step`. What a share is made of cannot have an owner, who would be of another namespace: labels say whose it is, and the
uid among them tells a Model from one of the same name before.
"""

from __future__ import annotations

from dataclasses import dataclass

from modelyard.plan import Kind, Obj
from modelyard.resources.meta import (
    ANNOTATION_SHARED_CLAIM,
    ANNOTATION_SHARED_PATH,
    ANNOTATION_SHARED_VOLUME,
    COMPONENT_SHARE,
    LABEL_SHARED_MODEL,
    LABEL_SHARED_NAMESPACE,
    LABEL_SHARED_UID,
    LABEL_SHARED_VERSION,
    managed_labels,
)
from modelyard.resources.objects import annotation, label, uid_of


@dataclass(frozen=True, slots=True)
class Loan:
    """A version's volume, to be had in `namespace` under `name`.

    `volume` is the claim or Dataset that serves, as `kind` says; `path` the folder in it. `claim` is what it is mounted
    by at home, `source` the Dataset, and `disk` the PersistentVolume behind the claim: None if it is not known.
    """

    namespace: str
    name: str
    model: Obj
    version: str
    kind: Kind
    volume: str
    path: str
    claim: Obj
    source: Obj | None = None
    disk: Obj | None = None

    @property
    def labels(self) -> dict[str, str]:
        """What everything is labelled with that the share is made of."""
        meta = self.model["metadata"]
        return managed_labels(COMPONENT_SHARE) | {
            LABEL_SHARED_NAMESPACE: meta["namespace"],
            LABEL_SHARED_MODEL: meta["name"],
            LABEL_SHARED_VERSION: self.version,
            LABEL_SHARED_UID: uid_of(self.model),
        }

    @property
    def annotations(self) -> dict[str, str]:
        """What is written on it."""
        return {
            ANNOTATION_SHARED_VOLUME: self.volume,
            ANNOTATION_SHARED_CLAIM: uid_of(self.claim),
            ANNOTATION_SHARED_PATH: self.path,
        }


@dataclass(frozen=True, slots=True)
class Lent:
    """What there is of one share: Dataset, claim, and the PersistentVolume that was made for the claim.

    `leftover` is a PersistentVolume that the Dataset controller made and would leave behind. `stranger`: somebody
    else's object under the name.
    """

    dataset: Obj | None = None
    claim: Obj | None = None
    disk: Obj | None = None
    leftover: Obj | None = None
    stranger: Obj | None = None

    @property
    def parts(self) -> tuple[Obj, ...]:
        """All that is there."""
        return tuple(part for part in (self.dataset, self.claim, self.disk) if part is not None)

    def is_of(self, loan: Loan) -> bool:
        """Whether all of it was made for this very Model's volume."""
        return all(
            label(part, LABEL_SHARED_UID) == uid_of(loan.model)
            and all(annotation(part, key) == value for key, value in loan.annotations.items())
            for part in self.parts
        )
