"""Whether a run fits: estimates by what a base model and a data set are, and refusals in words with what would fit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.resources.gpus import GpuFacts, fitting, gpu_facts
from modelyard.resources.meta import ANNOTATION_APPROVE, JOB, TRAINING
from modelyard_training.params.analysis import pack
from support.training_life import T
from support.trainings import (
    ANALYSED,
    Yard,
    add_ready_model,
    condition,
    end,
    make_pod,
    run,
    schedule,
    start,
    status,
    tabular,
)

LLAMA_8B = {
    "family": "llama",
    "parameters": 8_030_261_248,
    "linearSizes": 2_621_440,
    "hidden": 4096,
    "layers": 32,
    "inner": 14336,
    "vocabulary": 128256,
    "positions": 131072,
}
CHATS = {
    "profile": {
        "kind": "chats",
        "rows": 10_000,
        "columns": [],
        "split": {"train": 8_000, "validation": 2_000},
        "tokens": {
            "min": 9,
            "median": 300,
            "p95": 900,
            "max": 4000,
            "mean": 350,
            "total": 3_500_000,
            "train": 2_800_000,
        },
    },
    "model": LLAMA_8B,
    "suggested": {},
    "message": "10000 chats.",
}
BIG = {"storage": {"resources": {"requests": {"storage": "2Ti"}}}}
PATIENT = {"graceSeconds": 3600}


def chat_run(world: Yard, gpu: str, **spec: Any) -> dict[str, Any]:
    """The status of a language run once it was looked at."""
    add_ready_model(world, "llama", kind="Full")
    recipe = {"name": "causal-lm", "causalLM": spec.pop("params", {})}
    base = {"model": {"ref": {"name": "llama", "version": "v1"}}, "compute": {"gpu": gpu}, "recipe": recipe}
    world.put(TRAINING, tabular(**{**base, **spec}))
    run(world, settings=ANALYSED)
    (job,) = [r for r in world.objects if r.kind == JOB]
    pod = make_pod(world, job)
    schedule(world, pod)
    start(world, pod)
    end(world, pod, 0, json.dumps({"result": "done", "analysis": pack(CHATS)}))
    run(world, settings=ANALYSED)
    return status(world)


def test_what_fits_goes_on_with_its_estimate(world: Yard) -> None:
    found = chat_run(world, "H200", output=BIG)
    would = found["analysis"]["estimate"]
    assert found["frozen"]
    assert would["gpuMemoryLimit"] == "129.8Gi"
    assert 70 < float(would["gpuMemory"].removesuffix("Gi")) < 100
    assert would["checkpointBytes"] == 16 * LLAMA_8B["linearSizes"] * 12
    assert would["steps"] == 353 * 3
    assert 0.15 < would["hours"] < 0.4, "published: 12,473 tokens a second on one H100"


def test_what_does_not_fit_the_gpu_is_refused_with_what_would(world: Yard) -> None:
    found = chat_run(world, "H100", output=BIG)
    assert (found["phase"], found["reason"]) == ("Validating", "GPUMemoryTooSmall")
    said = found["message"]
    assert "batchSize: 2 with gradientAccumulation: 2, which learns the same" in said
    assert "activationCheckpointing: true" in said
    assert condition(world, "Stalled")[0] == "True"
    assert condition(world, "DataReady")[0] == "True"
    assert not found.get("frozen")
    smaller = {"name": "causal-lm", "causalLM": {"batchSize": 2, "gradientAccumulation": 2}}
    world.edit(T, lambda o: o["spec"].update(recipe=smaller))
    run(world, settings=ANALYSED)
    assert status(world)["frozen"], "an edit mends it, and needs no other look"
    assert status(world)["analysis"]["estimate"]["steps"] == found["analysis"]["estimate"]["steps"]


def test_all_weights_of_eight_billion_fit_on_no_single_h100(world: Yard) -> None:
    found = chat_run(world, "H100", params={"method": "Full"}, output=BIG, checkpoint=PATIENT)
    assert found["reason"] == "GPUMemoryTooSmall"
    assert "method: LoRA" in found["message"]
    assert "(B300)" in found["message"]


def test_a_person_may_know_better(world: Yard) -> None:
    found = chat_run(world, "H100", output=BIG)
    digest = found["analysis"]["digest"]
    assert digest in found["message"]
    world.edit(T, lambda o: o["metadata"].update(annotations={ANNOTATION_APPROVE: digest}))
    run(world, settings=ANALYSED)
    assert status(world)["frozen"]


def test_a_volume_that_is_too_small_is_refused_with_the_size(world: Yard) -> None:
    params = {"method": "Full", "activationCheckpointing": True, "batchSize": 1, "sequenceLength": 1024}
    found = chat_run(world, "B300", params=params, checkpoint=PATIENT)
    assert found["reason"] == "OutputTooSmall"
    assert "output.storage of at least 428Gi" in found["message"]
    assert "10Gi" in found["message"]


def test_a_grace_period_that_is_too_short_is_refused_with_a_longer_one(world: Yard) -> None:
    params = {"method": "Full", "activationCheckpointing": True, "batchSize": 1, "sequenceLength": 1024}
    found = chat_run(world, "B300", params=params, output=BIG)
    assert found["reason"] == "GraceTooShort"
    assert "checkpoint.graceSeconds of at least 497" in found["message"]


def test_an_unknown_gpu_is_not_judged(world: Yard) -> None:
    found = chat_run(world, "NVIDIA-FUTURE-X", output=BIG)
    assert found["frozen"]
    assert "hours" not in found["analysis"]["estimate"]


def test_what_it_may_cost_is_told_before(world: Yard) -> None:
    found = chat_run(
        world, "H100", params={"batchSize": 1}, output=BIG, budget={"maxUSD": "0.5"}, pauseAfter="Analysis"
    )
    assert found["phase"] == "AwaitingApproval"
    assert "more than the 0.5 of spec.budget.maxUSD" in found["message"]
    assert float(found["analysis"]["estimate"]["estimatedUSD"]) > 0.5


@pytest.mark.parametrize(
    ("name", "memory"),
    [
        ("H100", 80),
        ("h200", 141),
        ("A100", 40),
        ("NVIDIA-A100-SXM4-80GB", 80),
        ("NVIDIA-H100-NVL", 94),
        ("NVIDIA-GH200-480GB", 96),
        ("NVIDIA-GH200-144G-HBM3e", 144),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 5),
        ("NVIDIA-RTX-6000-Ada-Generation", 48),
    ],
)
def test_gpus_by_type_and_by_label(name: str, memory: float) -> None:
    assert (gpu_facts(name) or GpuFacts(0, 0)).memory == memory


def test_smaller_gpus_are_named_first() -> None:
    assert gpu_facts("NVIDIA-FUTURE-X") is None
    assert fitting(100)[0] == "H200"
    assert fitting(1000) == ()
