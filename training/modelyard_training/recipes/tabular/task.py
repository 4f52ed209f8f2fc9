"""The networks over a table: multi-layer perceptron, linear model, Transformer. They differ in their module alone.

The module is in `predict`, which is saved with the model as `predict.py`, so that what is saved is what was trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from modelyard_training.core import metrics
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices, Use
from modelyard_training.core.world import World
from modelyard_training.recipes.common import generator, places, weight_groups
from modelyard_training.recipes.tabular import onnx, predict
from modelyard_training.recipes.tabular.encode import Encoded

_HELD_BATCH = 8192
_CODE = (
    "import csv, sys",
    "sys.path.insert(0, folder)",
    "from predict import Predictor",
    'with open("rows.csv", newline="") as file:',
    "    rows = list(csv.DictReader(file))",
    "print(Predictor(folder).predict(rows))",
)


class TableTask:
    """What all algorithms over a table share; see `core.task.Task`."""

    unit = "rows"

    def __init__(self, run: Run, params: dict[str, Any], data: Encoded) -> None:
        self.params, self.data = params, data
        self._stop, self._device = run.stop, run.world.device
        self.spec: dict[str, Any] = {**data.spec, "algorithm": params["algorithm"]}
        self.best_metric: tuple[str, Literal["min", "max"]] = metrics.best_metric(
            params["bestMetric"], len(data.classes) if data.classes else None
        )

    def where(self, indices: Indices) -> str:
        """The first few rows of a batch, by file and line."""
        return places(self.data.parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        data = self.data
        notes: dict[str, Any] = {"rowsWithoutTarget": data.parts.dropped}
        if data.ignored:
            notes["columnsWithoutValues"] = data.ignored
        dates = {c["name"]: c["written"] for c in self.spec["numeric"] if c["kind"] == "date"}
        if dates:
            notes["dates"] = dates
        return Description(
            kind="Tabular",
            algorithm=self.params["algorithm"],
            train_samples=len(data.train_target),
            test_samples=len(data.held_target),
            target=data.target,
            use=Use(f"tabular-{'classification' if data.classes else 'regression'}", None, _CODE),
            features=[c["name"] for c in self.spec["numeric"]] + [c["name"] for c in self.spec["categorical"]],
            classes=data.classes or [],
            notes=notes,
        )

    def measure(self, found: Tensor, target: Tensor) -> dict[str, float]:
        """Metrics of class scores, or of scaled numbers, [N, O] against the held-out target."""
        if self.data.classes:
            return metrics.classification(found, target)
        center, scale = self.spec["targetCenter"], self.spec["targetScale"]
        return metrics.regression(found[:, 0].double() * scale + center, target, scale)

    def write(self, folder: Path) -> None:
        """The encoders and the predictor."""
        (folder / "model.json").write_text(json.dumps(self.spec, indent=1, allow_nan=False))
        shutil.copyfile(predict.__file__, folder / "predict.py")


class NetworkTask(TableTask):
    """A network. The encoded training rows stay on the device."""

    def __init__(self, run: Run, params: dict[str, Any], data: Encoded) -> None:
        super().__init__(run, params, data)
        self.spec["network"] = _shape(params)
        self.model: nn.Module = predict.NETWORKS[params["algorithm"]](self.spec)
        self._train = (data.train[0].to(self._device), data.train[1].to(self._device))
        self._train_target = data.train_target.to(self._device)
        self._weights = data.weights.to(self._device) if data.weights is not None else None

    def groups(self) -> list[dict[str, Any]]:
        """Weight decay for matrices only: a decayed bias learns nothing better."""
        return weight_groups(self.model.named_parameters(), self.params["learningRate"], self.params["weightDecay"])

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Shuffled by seed and epoch."""
        order = torch.randperm(len(self._train_target), generator=generator(self.params["seed"], epoch))
        return torch.split(order, self.params["batchSize"])

    def load(self, indices: Indices) -> Batch:
        """Rows by number, where they already are."""
        at = indices.to(self._device)
        return {
            "numbers": self._train[0].index_select(0, at),
            "categories": self._train[1].index_select(0, at),
            "target": self._train_target.index_select(0, at),
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        found = model(batch["numbers"], batch["categories"])
        if self.data.classes:
            return nn.functional.cross_entropy(found, batch["target"], weight=self._weights)
        return nn.functional.mse_loss(found[:, 0], batch["target"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out rows."""
        held_target = self.data.held_target

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            numbers, categories = (t[indices].to(self._device) for t in self.data.held)
            return self.model(numbers, categories).float(), held_target[indices]

        batches = torch.split(torch.arange(len(held_target)), _HELD_BATCH)
        found, target = metrics.gather_outputs(world, self._stop, batches, outputs)
        return self.measure(found, target)

    def export(self, folder: Path) -> None:
        """Weights, the encoders as JSON, the predictor, and the network as ONNX."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        onnx.write_network(folder / "model.onnx", self.spec, weights)
        self.write(folder)


def _shape(params: dict[str, Any]) -> dict[str, Any]:
    if params["algorithm"] == "Transformer":
        return {name: params[name] for name in ("width", "layers", "heads", "dropout")}
    linear = params["algorithm"] == "Linear"
    return {
        "hidden": [] if linear else params["hiddenSizes"],
        "activation": params["activation"],
        "dropout": params["dropout"],
    }
