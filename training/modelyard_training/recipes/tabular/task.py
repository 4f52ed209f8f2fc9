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
        self.params, self.data, self.target = params, data, data.target
        self._stop, self._device = run.stop, run.world.device
        self.spec: dict[str, Any] = {**data.spec, "algorithm": params["algorithm"]}
        self.best_metric: tuple[str, Literal["min", "max"]] = self.target.best_metric(params["bestMetric"])

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
            train_samples=len(self.target.train),
            test_samples=len(self.target.held),
            target=self.spec["target"],
            use=Use(f"tabular-{'classification' if self.target.classes else 'regression'}", None, _CODE),
            features=[c["name"] for c in self.spec["numeric"]] + [c["name"] for c in self.spec["categorical"]],
            classes=self.target.classes or [],
            notes=notes,
        )

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
        self._train_target = self.target.train.to(self._device)

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
        return self.target.loss(model(batch["numbers"], batch["categories"]), batch["target"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out rows."""
        wanted = self.target.held

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            numbers, categories = (t[indices].to(self._device) for t in self.data.held)
            return self.model(numbers, categories).float(), wanted[indices]

        batches = torch.split(torch.arange(len(wanted)), _HELD_BATCH)
        found, target = metrics.gather_outputs(world, self._stop, batches, outputs)
        return self.target.measure(found, target)

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
