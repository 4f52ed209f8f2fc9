"""Which changes of a Training are refused, as CEL rules at the root of its CRD.

Until the run is committed everything can be edited. The operator's write of intent sets `status.frozen`; from then on
what the run was made of stays as it is, because a Job exists that was made of it. No optional types: they multiply
the estimated cost by more than a hundred.
"""

from __future__ import annotations

from typing import Final

from modelyard.resources.base import Rule
from modelyard.resources.names import TRAINING_NAME_MAX
from modelyard.resources.training.spec import EDITABLE, TrainingSpec
from modelyard.resources.training.status import TERMINAL_PHASES

_OPEN: Final = "!has(oldSelf.status) || !has(oldSelf.status.frozen) || !oldSelf.status.frozen"
_UNSAVED: Final = "!has(oldSelf.status) || !has(oldSelf.status.saved)"
_TERMINAL: Final = "[" + ", ".join(f"'{phase}'" for phase in TERMINAL_PHASES) + "]"


def _unchanged(path: str) -> str:
    """CEL: `path` (below spec) is the same in `self` and `oldSelf`, be it there or not."""
    parts = path.split(".")
    present = {
        who: " && ".join(f"has({who}.spec.{'.'.join(parts[: n + 1])})" for n in range(len(parts)))
        for who in ("self", "oldSelf")
    }
    return (
        f"({present['self']}) == ({present['oldSelf']}) && "
        f"(!({present['self']}) || self.spec.{path} == oldSelf.spec.{path})"
    )


def _frozen(path: str) -> Rule:
    return Rule(
        f"{_OPEN} || ({_unchanged(path)})",
        f"spec.{path} cannot be changed once the run is committed (status.frozen): create another Training",
    )


_FROZEN_FIELDS: Final = [
    name for name in (info.alias or name for name, info in TrainingSpec.model_fields.items()) if name not in EDITABLE
]

FROZEN_RULES: Final = (
    *(_frozen(name) for name in _FROZEN_FIELDS),
    _frozen("output.storage"),
    Rule(
        f"{_UNSAVED} || ({_unchanged('save')})",
        "spec.save cannot be changed once the result is saved (status.saved): remove the change, or train again",
    ),
)

ROOT_RULES: Final = (
    Rule(
        f"self.metadata.name.size() <= {TRAINING_NAME_MAX}",
        f"the name of a Training is part of its Jobs' names: use at most {TRAINING_NAME_MAX} characters",
    ),
    Rule(
        "!self.metadata.name.contains('.')",
        "the name of a Training is part of its pods' host names: use letters, digits and '-' only",
    ),
    Rule(
        "!self.metadata.name.startsWith('fetch-') && !self.metadata.name.startsWith('dataset-')",
        "names that begin with fetch- or dataset- are those of download Jobs: choose another name",
    ),
    Rule(
        f"!has(oldSelf.status) || !has(oldSelf.status.phase) || !(oldSelf.status.phase in {_TERMINAL}) || "
        "(has(self.status) && has(self.status.phase) && self.status.phase == oldSelf.status.phase)",
        "a run that has ended stays ended: create another Training",
    ),
    Rule(
        f"{_OPEN} || (has(self.status) && has(self.status.frozen) && self.status.frozen)",
        "a run that is committed stays committed: create another Training",
    ),
)
