"""Good and bad manifests, one pair or more for each rule of the CRDs: the API server and the types judge the same ones.

`refused` is part of the message that a user must see; None means that the manifest is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Spec = Mapping[str, Any]

TABULAR: Spec = {"name": "tabular-classification"}
FROM_CLAIM: Spec = {"pvc": {"claimName": "data"}}


@dataclass(frozen=True)
class Example:
    """A spec that is created."""

    id: str
    kind: str
    spec: Spec
    refused: str | None = None
    name: str = "example"
    """Name of the object."""
    server_only: bool = False
    """A rule about metadata, which the types do not see."""


@dataclass(frozen=True)
class Change:
    """A Training that is there, with this status, and another spec or status for it."""

    id: str
    before: Spec
    after: Spec
    status: Mapping[str, Any] = field(default_factory=dict)
    new_status: Mapping[str, Any] | None = None
    refused: str | None = None


def training(**more: Any) -> dict[str, Any]:
    return {"recipe": TABULAR, "dataset": FROM_CLAIM, **more}


def version(**fields: Any) -> dict[str, Any]:
    return {"versions": [{"name": "v1", **fields}]}


def _recipe(name: str, **blocks: Any) -> dict[str, Any]:
    return training(recipe={"name": name, **blocks})


MODELSOURCE = [
    Example("source", "ModelSource", {"type": "HUGGING_FACE", "secretRef": "hub", "config": {"endpoint": "https://x"}}),
    Example("source-bare", "ModelSource", {"type": "HTTP"}),
    Example("source-type", "ModelSource", {"type": "FTP"}, "type"),
    Example("source-no-type", "ModelSource", {}, "type"),
    Example("source-typo", "ModelSource", {"type": "HTTP", "secretref": "x"}, "secretref"),
    Example("source-secret-name", "ModelSource", {"type": "HTTP", "secretRef": "No Name"}, "secretRef"),
    Example("source-config-number", "ModelSource", {"type": "GIT", "config": {"depth": 1}}, "depth"),
]

MODEL = [
    Example("model-empty", "Model", {}),
    Example(
        "model-repo", "Model", {"sourceRef": "hub", **version(repo="org/name", revision="main", include=["*.json"])}
    ),
    Example("model-saved", "Model", version(state="PRESENT")),
    Example("model-upper-case", "Model", {"versions": [{"name": "FP16"}, {"name": "v2.0.0"}, {"name": "Q4_K"}]}),
    Example(
        "model-no-source", "Model", version(repo="org/name"), "sourceRef is required as soon as a version has a repo"
    ),
    Example("model-revision-alone", "Model", version(revision="main"), "set repo too, or remove them"),
    Example("model-storage-alone", "Model", version(storage={"storageClassName": "x"}), "set repo too, or remove them"),
    Example("model-version-name", "Model", {"versions": [{"name": "no/slash"}]}, "name"),
    Example("model-version-long", "Model", {"versions": [{"name": "x" * 64}]}, "name"),
    Example("model-precision", "Model", version(precision="FP12"), "precision"),
    Example("model-state", "Model", version(state="present"), "state"),
    Example(
        "model-selector",
        "Model",
        version(share={"enabled": True, "namespaceSelector": {"matchLabels": {"example.com/team": "a"}}}),
    ),
    Example(
        "model-selector-key",
        "Model",
        version(share={"enabled": True, "namespaceSelector": {"matchLabels": {"no key": "a"}}}),
        "keys must be label keys",
    ),
    Example(
        "model-storage",
        "Model",
        {
            "sourceRef": "hub",
            **version(
                repo="a", storage={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            ),
        },
    ),
    Example(
        "model-storage-size",
        "Model",
        {"sourceRef": "hub", **version(repo="a", storage={"resources": {"requests": {"storage": "much"}}})},
        "storage",
    ),
    Example("model-name", "Model", {}, name="m" * 63, server_only=True),
    Example("model-name-long", "Model", {}, "use at most 63 characters", name="m" * 64, server_only=True),
]

TRAINING = [
    Example("training", "Training", training()),
    Example("training-empty", "Training", {}, "recipe"),
    Example("dataset-none", "Training", training(dataset={"path": "x"}), "set exactly one of dataset.ref"),
    Example(
        "dataset-two",
        "Training",
        training(dataset={**FROM_CLAIM, "ref": {"model": "m", "version": "v"}}),
        "set exactly one of dataset.ref",
    ),
    Example("dataset-ref", "Training", training(dataset={"ref": {"model": "m", "version": "FP16"}})),
    Example("dataset-source", "Training", training(dataset={"source": {"sourceRef": "hub", "repo": "org/data"}})),
    Example(
        "split-two",
        "Training",
        training(dataset={**FROM_CLAIM, "split": {"validation": "v.csv", "validationFraction": 0.5}}),
        "set one of them",
    ),
    Example("split-fraction", "Training", training(dataset={**FROM_CLAIM, "split": {"validationFraction": 0.5}})),
    Example(
        "split-fraction-zero",
        "Training",
        training(dataset={**FROM_CLAIM, "split": {"validationFraction": 0}}),
        "validationFraction",
    ),
    Example("recipe-name", "Training", _recipe("tabular"), "name"),
    Example("recipe-params", "Training", _recipe("tabular-regression", tabular={"epochs": 3, "learningRate": 0.1})),
    Example("recipe-typo", "Training", _recipe("tabular-regression", tabular={"epoch": 3}), "epoch"),
    Example("recipe-type", "Training", _recipe("tabular-regression", tabular={"epochs": "3"}), "epochs"),
    Example("recipe-range", "Training", _recipe("tabular-regression", tabular={"epochs": 0}), "epochs"),
    *(
        Example(f"block-{block}", "Training", _recipe(name, **{block: body}))
        for block, name, body in (
            ("text", "text-regression", {}),
            ("image", "image-classification", {}),
            ("causalLM", "causal-lm", {"lora": {"rank": 8}}),
            ("textToImageLoRA", "text-to-image-lora", {"prompt": "a cat"}),
            ("custom", "custom", {"command": ["true"]}),
        )
    ),
    *(
        Example(f"block-{block}-wrong", "Training", _recipe("tabular-classification", **{block: {}}), f"recipe.{block}")
        for block in ("text", "image", "causalLM", "textToImageLoRA", "custom")
    ),
    Example("block-tabular-wrong", "Training", _recipe("text-regression", tabular={}), "recipe.tabular"),
    Example("custom-no-command", "Training", _recipe("custom", custom={"args": ["x"]}), "needs recipe.custom.command"),
    Example(
        "compute",
        "Training",
        training(
            compute={
                "gpu": "H100:8",
                "cpu": 4,
                "memory": "64Gi",
                "nodeSelector": {"example.com/pool": "gpu"},
                "tolerations": [{"operator": "Exists"}],
                "extraResources": {"rdma/hca": 1},
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
                "imagePullSecrets": [{"name": "registry"}],
            }
        ),
    ),
    Example("compute-gpu", "Training", training(compute={"gpu": "8xH100"}), "gpu"),
    Example("compute-cpu", "Training", training(compute={"cpu": "four"}), "cpu"),
    Example(
        "compute-selector", "Training", training(compute={"nodeSelector": {"a b": "c"}}), "keys must be label keys"
    ),
    Example(
        "compute-resource", "Training", training(compute={"extraResources": {"a b": 1}}), "keys must be resource names"
    ),
    Example(
        "env-two",
        "Training",
        training(
            compute={"env": [{"name": "A", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
        ),
        "set only one of value and valueFrom",
    ),
    Example(
        "env-empty-source", "Training", training(compute={"env": [{"name": "A", "valueFrom": {}}]}), "exactly one of"
    ),
    Example("env-ours", "Training", training(compute={"env": [{"name": "MODELYARD_UID"}]}), "choose another name"),
    Example("budget", "Training", training(budget={"maxUSD": "12.50", "onExceed": "Suspend"})),
    Example("budget-text", "Training", training(budget={"maxUSD": "12 dollars"}), "maxUSD"),
    Example("save-step", "Training", training(save={"model": "m", "version": "v", "checkpoint": "step-20"})),
    Example(
        "save-checkpoint",
        "Training",
        training(save={"model": "m", "version": "v", "checkpoint": "first"}),
        "checkpoint",
    ),
    Example("export", "Training", training(export={"huggingFace": {"repo": "a/b", "secretRef": "s"}})),
    Example(
        "export-two",
        "Training",
        training(
            export={
                "huggingFace": {"repo": "a/b", "secretRef": "s"},
                "objectStorage": {"uri": "s3://b/f", "secretRef": "s"},
            }
        ),
        "set only one of export",
    ),
    Example("training-name", "Training", training(), name="t" * 45, server_only=True),
    Example("training-name-long", "Training", training(), "use at most 45 characters", name="t" * 46, server_only=True),
    Example("training-name-dot", "Training", training(), "letters, digits and '-' only", name="a.b", server_only=True),
    Example("training-name-fetch", "Training", training(), "choose another name", name="fetch-x", server_only=True),
    Example("training-name-dataset", "Training", training(), "choose another name", name="dataset-x", server_only=True),
]

EXAMPLES = [*MODELSOURCE, *MODEL, *TRAINING]

FROZEN = {"frozen": True, "phase": "Running"}

_LOCKED = {
    "model": {"ref": {"name": "m", "version": "v"}},
    "dataset": {"pvc": {"claimName": "other"}},
    "recipe": {"name": "tabular-classification", "tabular": {"epochs": 9}},
    "compute": {"gpu": "H100"},
    "pauseAfter": "Analysis",
    "checkpoint": {"keep": 3},
    "export": {"huggingFace": {"repo": "a/b", "secretRef": "s"}},
}
_FREE = {
    "suspend": True,
    "budget": {"maxUSD": "1"},
    "timeouts": {"runSeconds": 60},
    "retry": {"onError": 3},
    "output": {"unsavedTTLSeconds": 3600},
    "save": {"model": "m", "version": "v"},
}
_STORAGE = {"resources": {"requests": {"storage": "1Gi"}}}
_SAVE = {"model": "m", "version": "v"}

CHANGES = [
    *(Change(f"open-{name}", training(), training(**{name: value})) for name, value in _LOCKED.items()),
    *(
        Change(
            f"frozen-{name}", training(), training(**{name: value}), FROZEN, refused=f"spec.{name} cannot be changed"
        )
        for name, value in _LOCKED.items()
    ),
    *(
        Change(f"frozen-{name}-removed", training(**{name: value}), training(), FROZEN, refused=f"spec.{name} cannot")
        for name, value in _LOCKED.items()
        if name not in ("dataset", "recipe")
    ),
    *(Change(f"free-{name}", training(), training(**{name: value}), FROZEN) for name, value in _FREE.items()),
    *(Change(f"free-{name}-removed", training(**{name: value}), training(), FROZEN) for name, value in _FREE.items()),
    Change("not-frozen-yet", training(), training(compute={"gpu": "H100"}), {"frozen": False, "phase": "Validating"}),
    Change(
        "frozen-parameter",
        _recipe("tabular-classification", tabular={"earlyStopping": {"patience": 3}}),
        _recipe("tabular-classification", tabular={"earlyStopping": {"patience": 4}}),
        FROZEN,
        refused="spec.recipe cannot be changed",
    ),
    Change(
        "frozen-storage",
        training(output={"storage": _STORAGE}),
        training(output={"storage": {"storageClassName": "fast"}}),
        FROZEN,
        refused="spec.output.storage cannot be changed",
    ),
    Change(
        "frozen-output-removed",
        training(output={"storage": _STORAGE}),
        training(),
        FROZEN,
        refused="spec.output.storage cannot be changed",
    ),
    Change(
        "frozen-ttl",
        training(output={"storage": _STORAGE}),
        training(output={"storage": _STORAGE, "unsavedTTLSeconds": 60}),
        FROZEN,
    ),
    Change("save-changed", training(save=_SAVE), training(save={**_SAVE, "version": "w"}), FROZEN),
    Change(
        "saved-changed",
        training(save=_SAVE),
        training(save={**_SAVE, "version": "w"}),
        {**FROZEN, "saved": _SAVE},
        refused="spec.save cannot be changed",
    ),
    Change(
        "saved-removed",
        training(save=_SAVE),
        training(),
        {**FROZEN, "saved": _SAVE},
        refused="spec.save cannot be changed",
    ),
    Change("saved-suspend", training(save=_SAVE), training(save=_SAVE, suspend=True), {**FROZEN, "saved": _SAVE}),
    Change("phase-on", training(), training(), FROZEN, {**FROZEN, "phase": "Succeeded"}),
    *(
        Change(
            f"phase-left-{phase}",
            training(),
            training(),
            {"frozen": True, "phase": phase},
            FROZEN,
            "a run that has ended stays ended",
        )
        for phase in ("Succeeded", "Failed")
    ),
    Change("phase-kept", training(), training(), {"phase": "Failed"}, {"phase": "Failed", "reason": "Error"}),
    Change("phase-removed", training(), training(), {"phase": "Failed"}, {}, "a run that has ended stays ended"),
    Change(
        "unfrozen",
        training(),
        training(),
        FROZEN,
        {"frozen": False, "phase": "Running"},
        "a run that is committed stays committed",
    ),
    Change(
        "unfrozen-removed",
        training(),
        training(),
        FROZEN,
        {"phase": "Running"},
        "a run that is committed stays committed",
    ),
]
