"""What the cluster's nodes have and what of it is taken: two lists, read only while something finds no place.

Not watched: pods of others are none of ours, and their number has no bound. Labels, taints and amounts are all that is
kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from modelyard.cluster.client import Client
from modelyard.observed import NodeFact
from modelyard.plan import Obj, Ref
from modelyard.resources.conditions import find
from modelyard.resources.meta import NODE, POD
from modelyard.resources.quantities import parse_quantity

INVENTORY: Final = Ref(NODE, "", "")
"""Asks for all nodes."""
_PLACED: Final = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"


async def read(client: Client) -> tuple[NodeFact, ...]:
    """All nodes, by name. Raises ApiError."""
    nodes = [node async for items, _ in client.pages(NODE) for node in items]
    used: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    async for items, _ in client.pages(POD, fields=_PLACED):
        for pod in items:
            for name, amount in asked(pod).items():
                used[pod["spec"]["nodeName"]][name] += amount
    return tuple(fact(node, used[node["metadata"]["name"]]) for node in sorted(nodes, key=_name))


def fact(node: Obj, used: Mapping[str, Decimal]) -> NodeFact:
    """A node, with what is taken of it."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    ready = find(status.get("conditions") or (), "Ready")
    return NodeFact(
        _name(node),
        dict(node["metadata"].get("labels") or {}),
        tuple(dict(t) for t in spec.get("taints") or () if t.get("effect") != "PreferNoSchedule"),
        not spec.get("unschedulable") and (ready is None or ready.get("status") == "True"),
        {name: parse_quantity(amount) for name, amount in (status.get("allocatable") or {}).items()},
        dict(used),
    )


def asked(pod: Obj) -> dict[str, Decimal]:
    """What a pod's containers ask for; those that come before count where they ask for more."""
    spec = pod.get("spec") or {}
    found = _sum(spec.get("containers") or ())
    for before in spec.get("initContainers") or ():
        for name, amount in _sum([before]).items():
            found[name] = max(found.get(name, Decimal(0)), amount)
    return {**found, "pods": Decimal(1)}


def _sum(containers: Any) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for container in containers:
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            found[name] += parse_quantity(amount)
    return dict(found)


def _name(node: Obj) -> str:
    return str(node["metadata"]["name"])
