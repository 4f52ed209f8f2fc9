"""What both data planes need: names that others have, and how a Job ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.plan import Obj
from modelyard.resources import conditions
from modelyard.resources.meta import PVC
from modelyard.resources.objects import controller_uid, whose
from modelyard.resources.volumes import Seen, Stage, Step, Want

TAKEN_RECHECK_SECONDS: Final = 30


def taken(want: Want, seen: Seen) -> Step | None:
    """What to say if somebody else has one of our names, or None."""
    owner = want.owner["uid"]
    found = [*((seen.volume,) if seen.volume is not None else ()), *seen.strangers]
    words = [
        f"{'Volume claim' if obj.get('kind') == PVC.kind else obj.get('kind')} {obj['metadata']['name']} "
        f"is there already and {whose(obj)}"
        for obj in found
        if controller_uid(obj) != owner
    ]
    if not words:
        return None
    left, them = ("they are", "them") if len(words) > 1 else ("it is", "it")
    return Step(
        Stage.FAILED,
        "NameTaken",
        f"{'; '.join(words)}; {left} left alone. Remove {them}, or give the version another name.",
        requeue_after=TAKEN_RECHECK_SECONDS,
    )


def finished(job: Obj, type: str) -> Mapping[str, Any] | None:
    """The Job's condition of that type (`Complete`, `Failed`) if it is true."""
    found = conditions.find((job.get("status") or {}).get("conditions") or (), type)
    return found if found is not None and found.get("status") == "True" else None
