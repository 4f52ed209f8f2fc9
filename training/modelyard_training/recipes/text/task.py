"""What the loop trains for texts: batches of about the same length, so that little is spent on padding.

Which texts come together follows from seed and epoch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from modelyard_training.core import metrics, split
from modelyard_training.core.data import ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices
from modelyard_training.core.world import World
from modelyard_training.recipes.common import generator, places, weight_groups
from modelyard_training.recipes.target import Target
from modelyard_training.recipes.text.models import TextModel, is_head

_POOL = 64
"""Batches' worth of shuffled texts that are sorted by length together."""
_MULTIPLE = 8


def texts_of(table: Table, name: str) -> list[str]:
    """The texts of a column. Raises `BadInput` if it holds none."""
    column = table.frame[name]
    if column.dtype != pl.String:
        if column.dtype.is_nested():
            raise BadInput(f"Column '{name}' holds lists or objects: a text recipe needs texts.")
        column = column.cast(pl.String)
    texts: list[str] = column.fill_null("").to_list()
    if not any(texts):
        raise BadInput(f"Column '{name}' has no text in any row: check dataset.columns.text.")
    return texts


class TextTask:
    """See `core.task.Task`."""

    unit = "texts"

    def __init__(self, run: Run, made: TextModel, parts: split.Parts, text: str, label: str) -> None:
        self._params, self._parts, self._text, self._label, self._run = run.params, parts, text, label, run
        self._made = made
        self.model: nn.Module = made.model
        self._target = Target.of(parts, run.params, run.world.device)
        self.best_metric: tuple[str, Literal["min", "max"]] = self._target.best_metric(run.params["bestMetric"])
        self._cut = 0
        self._train, self._lengths = self._tokenize(parts.train)
        run.stop.check()
        self._held, held_lengths = self._tokenize(parts.held)
        self._held_order = torch.from_numpy(np.argsort(held_lengths, kind="stable"))

    def groups(self) -> list[dict[str, Any]]:
        """An encoder at its rate, its head at its own."""
        decay, rate = self._params["weightDecay"], self._params["learningRate"]
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        if self._params["architecture"] != "Pretrained":
            return weight_groups(named, rate, decay)
        head = weight_groups([(n, p) for n, p in named if is_head(n)], self._params["headLearningRate"], decay)
        return weight_groups([(n, p) for n, p in named if not is_head(n)], rate, decay) + head

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Texts of about the same length together, in an order by seed and epoch."""
        size = self._params["batchSize"]
        random = generator(self._params["seed"], epoch)
        order = torch.randperm(len(self._train), generator=random)
        lengths = torch.from_numpy(self._lengths)
        batches: list[Tensor] = []
        for pool in torch.split(order, size * _POOL):
            batches += torch.split(pool[lengths[pool].argsort(stable=True)], size)
        return [batches[i] for i in torch.randperm(len(batches), generator=random).tolist()]

    def load(self, indices: Indices) -> Batch:
        """Tokens padded to the longest text of the batch."""
        return {**self._pad([self._train[i] for i in indices.tolist()]), "labels": self._target.train[indices]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        return self._target.loss(self._made.outputs(model, dict(batch)), batch["labels"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out texts."""

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            batch = self._pad([self._held[i] for i in indices.tolist()])
            on_device = {name: tensor.to(world.device) for name, tensor in batch.items()}
            return self._made.outputs(self.model, on_device).float(), self._target.held[indices]

        found, target = metrics.gather_outputs(
            world, self._run.stop, torch.split(self._held_order, self._params["batchSize"] * 2), outputs
        )
        return self._target.measure(found, target)

    def where(self, indices: Indices) -> str:
        """The first few texts of a batch, by file and line."""
        return places(self._parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        return Description(
            kind="Full",
            algorithm=self._made.name,
            train_samples=len(self._train),
            test_samples=len(self._held),
            target=self._label,
            use=self._made.use,
            features=[self._text],
            classes=self._parts.classes or [],
            notes={
                "rowsWithoutTarget": self._parts.dropped,
                "textsCut": self._cut,
                "longestTokens": self._made.longest,
            },
        )

    def export(self, folder: Path) -> None:
        """A folder that transformers loads, or the predictor's files. A number comes out in the target's own unit."""
        if not self._target.classes:
            last = [m for n, m in self.model.named_modules() if isinstance(m, nn.Linear) and is_head(n)][-1]
            self._target.rescale(last)
        self._made.save(self.model, folder)

    def _tokenize(self, table: Table) -> tuple[list[list[int]], Any]:
        texts = texts_of(table, self._text)
        tokens = self._made.tokens(texts, None)
        long = [i for i, ids in enumerate(tokens) if len(ids) > self._made.longest]
        if long and self._params["longText"] == "Refuse":
            at = long[0]
            raise BadInput(
                f"The text at {table.place(int(table.frame[ROW][at]))} has {len(tokens[at])} tokens, more than "
                f"{self._made.longest}: raise maxLength, shorten it, or set longText: Truncate."
            )
        if long:
            cut = self._made.tokens([texts[i] for i in long], self._made.longest)
            for at, ids in zip(long, cut, strict=True):
                tokens[at] = ids
            self._cut += len(long)
        return tokens, np.fromiter((len(ids) for ids in tokens), dtype=np.int64, count=len(tokens))

    def _pad(self, rows: list[list[int]]) -> dict[str, Tensor]:
        longest = max(len(ids) for ids in rows)
        width = min(-(-longest // _MULTIPLE) * _MULTIPLE, max(self._made.longest, longest))
        ids = torch.full((len(rows), width), self._made.padding)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}
