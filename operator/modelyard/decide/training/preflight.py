"""Whether a run fits what it asks for, before it queues: the GPU, the output volume, the grace period. Pure.

What does not fit is refused in words, with what would fit. What merely looks odd is a worry: the run may go on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from pydantic import ValidationError

from modelyard.decide.training import cost
from modelyard.decide.training.config import used_params
from modelyard.decide.training.estimate import GIB, USABLE, Would, estimate, gibibytes
from modelyard.decide.training.making import output_claim
from modelyard.decide.training.view import Context
from modelyard.resources.gpus import fitting
from modelyard.resources.quantities import quantity_bytes
from modelyard_training.params.common import resolve

WRITE_BYTES: Final = 200 * 10**6
"""Bytes a second that a checkpoint is written with: a plain network volume."""
MARGIN_SECONDS: Final = 15
"""Of the grace period: until all processes have noticed, and for the agent's last words."""

Misfit = tuple[str, str]


def misfit(ctx: Context, would: Would, found: Mapping[str, Any]) -> Misfit | None:
    """Reason and words, if the run can't work as it is."""
    return _gpu(ctx, would, found) or _volume(ctx, would) or _grace(ctx, would)


def worries(ctx: Context, would: Would) -> tuple[str, ...]:
    """What a person should look at, one sentence each."""
    said = []
    budget = ctx.spec.budget
    if (
        budget is not None
        and budget.max_usd is not None
        and would.usd is not None
        and would.usd > Decimal(budget.max_usd)
    ):
        said.append(f"It may cost {would.usd} US dollars, more than the {budget.max_usd} of spec.budget.maxUSD.")
    limit = ctx.spec.timeouts.run_seconds if ctx.spec.timeouts is not None else None
    if limit is not None and would.seconds is not None and would.seconds > limit:
        said.append(f"It may run {would.seconds:.0f} s, more than the {limit} of spec.timeouts.runSeconds.")
    return tuple(said)


def _gpu(ctx: Context, would: Would, found: Mapping[str, Any]) -> Misfit | None:
    if would.gpu_bytes is None or would.gpu_limit is None or would.gpu_bytes <= would.gpu_limit:
        return None
    kind = cost.gpu_type(ctx.spec)
    ways = list(_less(ctx, would.gpu_limit, found))
    larger = fitting(would.gpu_bytes / GIB / USABLE)
    if larger:
        ways.append(f"a GPU with more memory ({', '.join(larger)})")
    fits = f"What would fit: {', or '.join(ways)}." if ways else "No smaller setting and no known GPU would fit."
    return (
        "GPUMemoryTooSmall",
        f"The run needs about {gibibytes(would.gpu_bytes)} on each GPU, and of the memory of one {kind} it can use "
        f"{gibibytes(would.gpu_limit)}. {fits}",
    )


def _less(ctx: Context, limit: int, found: Mapping[str, Any]) -> Iterator[str]:
    """Settings of the recipe that would fit, in words."""
    params = used_params(ctx.spec, found)
    block, effective = type(params), resolve(params)
    written = params.model_dump(mode="json", by_alias=True, exclude_none=True)

    def fits(change: Mapping[str, Any]) -> bool:
        try:
            other = block.model_validate({**written, **change})
        except ValidationError:
            return False
        would = estimate(ctx.spec, other, found, ctx.settings)
        return would is not None and would.gpu_bytes is not None and would.gpu_bytes <= limit

    if effective.get("batch") == "Fixed" and fits({"batch": "Auto"}):
        yield "batch: Auto"
    batch = int(effective.get("batchSize") or 1) if effective.get("batch") != "Auto" else 1
    while batch > 1:
        batch //= 2
        if fits({"batchSize": batch}):
            times = math.ceil(int(effective["batchSize"]) / batch) * int(effective.get("gradientAccumulation") or 1)
            yield f"batchSize: {batch} with gradientAccumulation: {times}, which learns the same"
            break
    checkpointing = {"activationCheckpointing": True}
    if effective.get("activationCheckpointing") is False:
        if fits(checkpointing):
            yield "activationCheckpointing: true"
        elif fits({**checkpointing, "batchSize": 1}):
            yield "activationCheckpointing: true with batchSize: 1"
    if effective.get("method") == "Full" and (fits({"method": "LoRA"}) or fits({"method": "LoRA", **checkpointing})):
        more = "" if fits({"method": "LoRA"}) else " with activationCheckpointing: true"
        yield f"method: LoRA{more}"


def _volume(ctx: Context, would: Would) -> Misfit | None:
    spec = output_claim(ctx, "")["spec"]
    size = quantity_bytes(spec["resources"]["requests"]["storage"])
    if would.output_bytes is None or would.checkpoint_bytes is None or would.output_bytes <= size:
        return None
    keep = (ctx.spec.checkpoint.keep if ctx.spec.checkpoint is not None else None) or 2
    ways = [f"output.storage of at least {_rounded(would.output_bytes)}"]
    if keep > 1 and would.output_bytes - (keep - 1) * would.checkpoint_bytes <= size:
        ways.append("checkpoint.keep: 1")
    return (
        "OutputTooSmall",
        f"The run writes up to {gibibytes(would.output_bytes)} ({keep} checkpoints of "
        f"{gibibytes(would.checkpoint_bytes)}, the best one, one in the making, and the result), and the output volume "
        f"has {spec['resources']['requests']['storage']}. What would fit: {', or '.join(ways)}.",
    )


def _rounded(size: int) -> str:
    """As a quantity for a manifest, with a little room."""
    return f"{math.ceil(size * 1.1 / GIB)}Gi" if size >= GIB else f"{math.ceil(size * 1.1 / 2**20)}Mi"


def _grace(ctx: Context, would: Would) -> Misfit | None:
    if would.checkpoint_bytes is None:
        return None
    grace = ctx.compute.grace_seconds(ctx.view.training["spec"])
    needed = math.ceil(would.checkpoint_bytes / WRITE_BYTES) + MARGIN_SECONDS
    if would.checkpoint_bytes < WRITE_BYTES or needed <= grace:
        return None
    return (
        "GraceTooShort",
        f"A checkpoint of {gibibytes(would.checkpoint_bytes)} takes about {needed} s to write at "
        f"{WRITE_BYTES // 10**6} MB/s, and a pod that is told to stop gets {grace} s: what was paid for would be lost. "
        f"What would fit: checkpoint.graceSeconds of at least {needed}, or recipe parameters that train fewer weights.",
    )
