"""What has no behaviour yet is refused by name; what has is let through."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.resources.model import ModelSpec
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.problems import parse
from modelyard.resources.schema import structural
from modelyard.resources.support import MODEL_GAPS, MODELSOURCE_GAPS, TRAINING_GAPS, Gap, unsupported
from modelyard.resources.training.spec import TrainingSpec
from support.crd_examples import training

SPECS: dict[str, type[ModelSourceSpec] | type[ModelSpec] | type[TrainingSpec]] = {
    "ModelSource": ModelSourceSpec,
    "Model": ModelSpec,
    "Training": TrainingSpec,
}
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def refused(**spec: Any) -> list[str]:
    return [str(p) for p in unsupported(parse(TrainingSpec, training(**spec)))]


def test_what_is_refused() -> None:
    assert refused(compute={"secretRef": "s"}) == [
        "spec.compute.secretRef: is not supported yet by this version of Modelyard; remove it"
    ]
    assert refused(compute={"provider": "runpod"}) == [
        'spec.compute.provider: "runpod" is not supported yet by this version of Modelyard; supported: "kubernetes"'
    ]
    assert refused(compute={"nodes": 2, "queueName": "q"}) == []
    assert refused(compute={"nodes": 1, "gpu": "H100:1", "provider": "kubernetes"}) == []
    assert refused(compute={"extraResources": {}}, budget={}) == []
    assert unsupported(parse(ModelSourceSpec, {"type": "CONDA"})) == []
    assert unsupported(parse(ModelSpec, {"versions": [{"name": "b", "share": {"enabled": True}}]})) == []


def test_what_is_supported() -> None:
    everything = training(
        model={"ref": {"name": "m", "version": "v"}, "assistantRef": {"name": "m", "version": "v"}},
        recipe={
            "name": "text-classification",
            "text": {"epochs": 1},
            "determinism": "Bitwise",
            "unsetParams": "Default",
        },
        compute={
            "cpu": 1,
            "memory": "1Gi",
            "scratch": "1Gi",
            "env": [{"name": "A", "value": "b"}],
            "image": "x",
            "imagePullSecrets": [{"name": "x"}],
            "priorityClassName": "x",
            "podAnnotations": {"a": "b"},
            "nodeSelector": {"a": "b"},
            "tolerations": [{"operator": "Exists"}],
            "extraResources": {"rdma/hca": 1},
            "topology": {"required": "zone"},
        },
        suspend=True,
        checkpoint={
            "everySeconds": 1,
            "everySteps": 1,
            "keep": 1,
            "graceSeconds": 5,
            "resume": "Never",
            "from": {"training": "t"},
        },
        retry={"onInfrastructure": 1, "onError": 1},
        timeouts={"runSeconds": 60, "stallSeconds": 60},
        output={"storage": {"resources": {"requests": {"storage": "1Gi"}}}},
        save={
            "model": "m",
            "version": "v",
            "description": "d",
            "tags": ["t"],
            "form": "Merged",
            "checkpoint": "Last",
            "keepCheckpoints": True,
        },
    )
    assert unsupported(parse(TrainingSpec, everything)) == []


@pytest.mark.parametrize(
    ("gap", "model"),
    [
        *((g, ModelSourceSpec) for g in MODELSOURCE_GAPS),
        *((g, ModelSpec) for g in MODEL_GAPS),
        *((g, TrainingSpec) for g in TRAINING_GAPS),
    ],
    ids=lambda v: v.path if isinstance(v, Gap) else "",
)
def test_every_line_names_a_field_that_exists(gap: Gap, model: type[ModelSpec]) -> None:
    node = structural(model, "spec")
    for part in gap.path.split("."):
        node = node["properties"][part.removesuffix("[]")]
        node = node["items"] if part.endswith("[]") else node
    assert set(gap.only) <= set(node.get("enum", gap.only))


def manifests() -> Iterator[dict[str, Any]]:
    for path in sorted(EXAMPLES.glob("*.yaml")):
        yield from (m for m in yaml.safe_load_all(path.read_text()) if m["apiVersion"].startswith("modelyard.dev/"))


@pytest.mark.parametrize("manifest", manifests(), ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_the_examples_are_supported(manifest: dict[str, Any]) -> None:
    assert unsupported(parse(SPECS[manifest["kind"]], manifest["spec"])) == []
