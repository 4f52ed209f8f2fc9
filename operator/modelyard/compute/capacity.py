"""Whether a run can ever be placed in this cluster, or only not now, with the numbers that show it. Pure.

What is compared is what people run out of: labels, taints, and amounts. The scheduler knows more (volumes, topology);
where these three leave room, its own words stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from modelyard.compute import gpu, placing
from modelyard.compute.observed import Cause
from modelyard.observed import NodeFact
from modelyard.resources.quantities import parse_quantity

_BYTES: Final = ("memory", "ephemeral-storage")
_WAIT: Final = "It begins as soon as there is room."
_NEVER: Final = "Add such nodes (a cluster that does so by itself may be at it), or make the Training anew with less."


def explain(compute: Mapping[str, Any], wanted: Mapping[str, str], nodes: Sequence[NodeFact]) -> Cause | None:
    """Why pods that ask for `wanted` find no place; None where nodes have room for them."""
    count, asked = placing.node_count(compute), {name: parse_quantity(v) for name, v in wanted.items()}
    kind = placing.wanted_gpus(compute).type
    what = f"{len(nodes)} nodes"
    labelled = [n for n in nodes if _labels_fit(compute, n)]
    if not labelled:
        which = f" with {kind}" if kind else ""
        more = " and the labels of spec.compute.nodeSelector" if compute.get("nodeSelector") else ""
        return Cause("NoNodeFits", f"None of {what} is one{which}{more}. {_NEVER}")
    having = f"{len(labelled)} nodes with {kind}" if kind else f"{len(labelled)} nodes"
    usable = [n for n in labelled if n.schedulable and _tolerates(compute, n)]
    if not usable:
        return Cause("NoNodeFits", f"None of {having} takes pods of this run: they are tainted or cordoned. {_NEVER}")
    for name, amount in asked.items():
        largest = max(n.allocatable.get(name, Decimal(0)) for n in usable)
        if largest < amount:
            words = f"It asks for {_text(name, amount)} on one node, and the largest of {having} has"
            return Cause("NoNodeFits", f"{words} {_text(name, largest)}. {_NEVER}")
    ever = sum(_pods(n.allocatable, asked) for n in usable)
    if ever < count:
        return Cause("NoNodeFits", f"It needs {count} pods at once, and {having} have room for {ever}. {_NEVER}")
    free = [_free(n) for n in usable]
    if sum(_pods(f, asked) for f in free) >= count:
        return None
    scarce = max(asked, key=lambda name: _share_missing(asked[name], free, name))
    total = sum((n.allocatable.get(scarce, Decimal(0)) for n in usable), Decimal(0))
    most = max(f.get(scarce, Decimal(0)) for f in free)
    left = sum((f.get(scarce, Decimal(0)) for f in free), Decimal(0))
    pods = f"{count} pods of " if count > 1 else ""
    return Cause(
        "ClusterFull",
        f"All places are taken: it asks for {pods}{_text(scarce, asked[scarce])}; of {_text(scarce, total)} on "
        f"{having} {_number(scarce, left)} are free, at most {_number(scarce, most)} on one node. {_WAIT}",
    )


def _labels_fit(compute: Mapping[str, Any], node: NodeFact) -> bool:
    chosen = (compute.get("nodeSelector") or {}).items() <= node.labels.items()
    kind = placing.wanted_gpus(compute).type
    return chosen and (not kind or gpu.matches(gpu.node_terms(kind), node.labels))


def _tolerates(compute: Mapping[str, Any], node: NodeFact) -> bool:
    ours = placing.tolerations(compute)
    return all(any(_covers(t, taint) for t in ours) for taint in node.taints)


def _covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, taint.get("effect")):
        return False
    if toleration.get("key") not in (None, taint.get("key")):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _free(node: NodeFact) -> dict[str, Decimal]:
    return {name: amount - node.used.get(name, Decimal(0)) for name, amount in node.allocatable.items()}


def _pods(room: Mapping[str, Decimal], asked: Mapping[str, Decimal]) -> int:
    """How many such pods fit."""
    return max(int(min(room.get(name, Decimal(0)) // amount for name, amount in asked.items() if amount)), 0)


def _share_missing(amount: Decimal, free: Sequence[Mapping[str, Decimal]], name: str) -> Decimal:
    most = max(f.get(name, Decimal(0)) for f in free)
    return (amount - most) / amount if amount else Decimal(0)


def _text(name: str, amount: Decimal) -> str:
    return f"{_number(name, amount)} {name}"


def _number(name: str, amount: Decimal) -> str:
    if name in _BYTES:
        return f"{float(amount / 2**30):.0f} GiB of" if amount >= 2**30 else f"{float(amount / 2**20):.0f} MiB of"
    return f"{float(amount):g}"
