"""What a run has cost: GPU seconds from the moment that nodes were given to it until they were free again. Pure.

The sum is carried from write to write together with the moment up to which it counts (`asOf`), and each write adds just
what lies between. So a restart counts nothing twice, and the sum is exact when the last moment is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Final, NamedTuple

from modelyard.resources.quantities import parse_gpu
from modelyard.resources.times import format_time, parse_time
from modelyard.resources.training.spec import TrainingSpec

LIVE_SECONDS: Final = 60
"""How often the cost of a running attempt is brought up to date."""
_AMOUNT = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_CENT = Decimal("0.01")


class Price(NamedTuple):
    """US dollars for one GPU and hour, and where that comes from."""

    per_gpu_hour: Decimal
    source: str


def gpus(spec: TrainingSpec) -> int:
    """GPUs on all nodes of the run."""
    if spec.compute is None:
        return 0
    return parse_gpu(spec.compute.gpu).count * (spec.compute.nodes or 1)


def gpu_type(spec: TrainingSpec) -> str:
    """The type of the GPUs as the user wrote it; empty for none."""
    return parse_gpu(spec.compute.gpu).type if spec.compute is not None else ""


def price(spec: TrainingSpec, prices: Mapping[str, Decimal]) -> Price | None:
    """The Training's own price, else the operator's for that GPU type, or None where nobody says."""
    if spec.budget is not None and spec.budget.price_per_gpu_hour is not None:
        return Price(Decimal(spec.budget.price_per_gpu_hour), "spec.budget.pricePerGPUHour")
    wanted = gpu_type(spec).upper()
    for name, amount in prices.items():
        if wanted and name.upper() == wanted:
            return Price(Decimal(amount), f"settings.prices.{name}")
    return None


def node_price(node: Mapping[str, Any] | None, label: str | None) -> Price | None:
    """What the label of the node that the run is on says, if it is an amount."""
    if node is None or label is None:
        return None
    said = str((node["metadata"].get("labels") or {}).get(label, ""))
    if not _AMOUNT.fullmatch(said):
        return None
    return Price(Decimal(said), f"label {label} of node {node['metadata']['name']}")


def known_price(cost: Mapping[str, Any]) -> Price | None:
    """The price that the cost was last counted with: the node that said it may be gone."""
    amount, source = cost.get("pricePerGPUHour"), cost.get("priceSource")
    return Price(Decimal(amount), source) if amount and source else None


def charged(
    cost: Mapping[str, Any], spec: TrainingSpec, known: Price | None, placed: datetime | None, until: datetime
) -> dict[str, Any]:
    """The cost with all that was held up to `until`. `placed`: when the attempt got its nodes, None if it never did."""
    seconds, until = int(cost.get("gpuSeconds") or 0), until.replace(microsecond=0)
    if placed is not None:
        since = parse_time(cost["asOf"]) if cost.get("asOf") else placed
        # A moment from before this attempt was placed belongs to an earlier one. One that is later than `until` was
        # counted before the true end was known, and what was too much is taken back.
        seconds += gpus(spec) * int((max(until, placed) - max(since, placed)).total_seconds())
    return _written(max(seconds, 0), spec, known, until)


def held(spec: TrainingSpec, placed: datetime | None, until: datetime) -> int:
    """GPU seconds of one attempt."""
    return 0 if placed is None else gpus(spec) * max(int((until - placed).total_seconds()), 0)


def settled(cost: Mapping[str, Any], spec: TrainingSpec, known: Price | None, default: datetime) -> dict[str, Any]:
    """The same seconds at the price that is known now; `default` where nothing was ever counted."""
    until = parse_time(cost["asOf"]) if cost.get("asOf") else default
    return _written(int(cost.get("gpuSeconds") or 0), spec, known, until)


def due(cost: Mapping[str, Any], now: datetime) -> bool:
    """Whether a running attempt's cost is old enough to be written again."""
    return not cost.get("asOf") or now - parse_time(cost["asOf"]) >= timedelta(seconds=LIVE_SECONDS)


def usd(seconds: int, per_gpu_hour: Decimal) -> Decimal:
    """US dollars, exact."""
    return per_gpu_hour * seconds / 3600


def _written(seconds: int, spec: TrainingSpec, known: Price | None, until: datetime) -> dict[str, Any]:
    written: dict[str, Any] = {"gpuSeconds": seconds, "asOf": format_time(until)}
    if known is not None:
        written |= {
            "estimatedUSD": _text(usd(seconds, known.per_gpu_hour)),
            "pricePerGPUHour": str(known.per_gpu_hour),
            "hourlyRate": _text(known.per_gpu_hour * gpus(spec)),
            "priceSource": known.source,
        }
    return written


def _text(amount: Decimal) -> str:
    return str(amount.quantize(_CENT, ROUND_HALF_UP))
