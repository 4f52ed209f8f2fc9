"""What the loop trains: packed rows, the sum of their tokens' losses over the tokens of the whole optimizer step.

Every token weighs the same, however documents fall into rows, batches, accumulated batches and processes: a mean of
means would weigh the tokens of short batches more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from modelyard_training.core.data import ROW
from modelyard_training.core.errors import Stopped
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices, Use
from modelyard_training.core.world import World
from modelyard_training.recipes.causal_lm import base
from modelyard_training.recipes.causal_lm.documents import Document, Parts, Side
from modelyard_training.recipes.causal_lm.packing import pack
from modelyard_training.recipes.common import generator, weight_groups

_MULTIPLE = 8
_LOGITS = 2**27
"""Numbers of logits that are in memory at once: half a GiB."""
_WHOLE = (
    "from transformers import pipeline",
    'write = pipeline("text-generation", model=folder)',
    'print(write("Once upon a time", max_new_tokens=40)[0]["generated_text"])',
)
_ADAPTER = (
    "from peft import PeftModel",
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "tokenizer = AutoTokenizer.from_pretrained(folder)",
    "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)",
    'tokens = tokenizer("Once upon a time", return_tensors="pt")',
    "print(tokenizer.decode(model.generate(**tokens, max_new_tokens=40)[0]))",
)


class Objective(nn.Module):
    """A language model that answers with the sum of its tokens' losses, so that not all logits are ever in memory."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        language = model.get_base_model() if hasattr(model, "get_base_model") else model
        # Not registered: they are parts of `model`, under their names there.
        self._parts = (language.base_model, language.get_output_embeddings())

    def forward(self, input_ids: Tensor, position_ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Tokens and positions [B, T]; `places` [M] in the flattened batch predict `targets` [M]. Sum, float32."""
        body, head = self._parts
        # The positions start anew with each document, which keeps them apart; with a cache they would mix.
        hidden = body(input_ids=input_ids, position_ids=position_ids, use_cache=False).last_hidden_state
        picked = hidden.flatten(0, 1)[places]
        rows = max(1, _LOGITS // head.weight.shape[0])
        if len(picked) <= rows:
            return _loss(head, picked, targets)
        total = torch.zeros((), device=hidden.device)
        for some, wanted in zip(torch.split(picked, rows), torch.split(targets, rows), strict=True):
            total = total + checkpoint(_loss, head, some, wanted, use_reentrant=False)
        return total


def _loss(head: nn.Module, hidden: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(head(hidden).float(), targets, reduction="sum")


def _in_order(path: Path) -> None:
    """peft writes sets in any order; the same run makes the same file."""
    config = json.loads(path.read_text())
    for name, value in config.items():
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            config[name] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


class Rows:
    """Documents in rows: `packing` puts several into one, else each has its own."""

    def __init__(self, side: Side, limit: int, packing: bool) -> None:
        self._documents = side.documents
        lengths = [len(d.tokens) for d in side.documents]
        self.rows = pack(lengths, limit) if packing else [[i] for i in range(len(lengths))]
        self.targets = [sum(int(side.documents[d].counts[1:].sum()) for d in row) for row in self.rows]

    def documents(self, row: int) -> list[Document]:
        """The documents of a row, in order."""
        return [self._documents[d] for d in self.rows[row]]

    def tensors(self, indices: Indices, padding: int) -> dict[str, Tensor]:
        """`Objective`'s arguments for a batch of rows. Padding is a document of its own at the end of a row."""
        rows = [self.documents(i) for i in indices.tolist()]
        width = max(sum(len(d.tokens) for d in row) for row in rows)
        width = -(-width // _MULTIPLE) * _MULTIPLE
        ids = np.full((len(rows), width), padding, dtype=np.int64)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        predicted = np.zeros((len(rows), width), dtype=np.bool_)
        for number, row in enumerate(rows):
            at = 0
            for document in row:
                end = at + len(document.tokens)
                ids[number, at:end] = document.tokens
                positions[number, at:end] = np.arange(end - at)
                predicted[number, at + 1 : end] = document.counts[1:]
                at = end
            positions[number, at:] = np.arange(width - at)
        flat = np.flatnonzero(predicted)
        return {
            "input_ids": torch.from_numpy(ids),
            "position_ids": torch.from_numpy(positions),
            "places": torch.from_numpy(flat - 1),
            "targets": torch.from_numpy(ids.reshape(-1)[flat]),
        }


class CausalLMTask:
    """See `core.task.Task`. An example of the loop is a row."""

    unit = "tokens"
    best_metric: tuple[str, Literal["min", "max"]] = ("validationLoss", "min")

    def __init__(self, run: Run, model: Any, tokenizer: Any, parts: Parts, limit: int) -> None:
        self._run, self._params, self._parts = run, run.params, parts
        self._tokenizer, self._limit = tokenizer, limit
        self._family = str(model.config.model_type)
        self.model: nn.Module = Objective(model)
        self._train = Rows(parts.train, limit, run.params["packing"])
        self._held = Rows(parts.held, limit, run.params["packing"])
        pad = tokenizer.pad_token_id
        self._padding = int(pad if pad is not None else tokenizer.eos_token_id or 0)
        self._shares: dict[int, float] = {}

    def groups(self) -> list[dict[str, Any]]:
        """Everything that is trained, at one rate."""
        return weight_groups(self.model.named_parameters(), self._params["learningRate"], self._params["weightDecay"])

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Rows in an order by seed and epoch; which documents share a row is always the same."""
        order = torch.randperm(len(self._train.rows), generator=generator(self._params["seed"], epoch))
        batches = list(torch.split(order, self._params["batchSize"]))
        self._weigh(batches)
        return batches

    def _weigh(self, batches: list[Tensor]) -> None:
        """By what a batch's sum is to be multiplied, so that the mean over batches and processes is one over tokens."""
        size, accumulation = self._run.world.size, self._params["gradientAccumulation"]
        used = batches[: len(batches) // size * size]
        for at in range(0, len(used), size * accumulation):
            step = used[at : at + size * accumulation]
            tokens = sum(self._train.targets[row] for batch in step for row in batch.tolist())
            for batch in step:
                self._shares[int(batch[0])] = len(step) / tokens

    def load(self, indices: Indices) -> Batch:
        """Rows as tensors, and what a token of them weighs."""
        found = self._train.tensors(indices, self._padding)
        return {**found, "share": torch.tensor(self._shares[int(indices[0])])}

    def count(self, indices: Indices) -> int:
        """Tokens in a batch, padding not among them."""
        return sum(len(d.tokens) for row in indices.tolist() for d in self._train.documents(row))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum over the batch's tokens, as a part of the mean over the step's."""
        total: Tensor = model(batch["input_ids"], batch["position_ids"], batch["places"], batch["targets"])
        return total * batch["share"]

    def evaluate(self, world: World) -> dict[str, float]:
        """Mean loss of a held-out token, and its exponential."""
        batches = torch.split(torch.arange(len(self._held.rows)), self._params["batchSize"])
        sums = torch.zeros(2, dtype=torch.float64)
        for at in range(0, len(batches), world.size):
            if world.agree(self._run.stop.requested)[0]:
                raise Stopped
            # A sharded model needs every process for each pass, also one whose turn has no batch left.
            tensors = self._held.tensors(batches[min(at + world.rank, len(batches) - 1)], self._padding)
            total = self.model(**{name: tensor.to(world.device) for name, tensor in tensors.items()})
            if at + world.rank < len(batches):
                sums += torch.tensor([float(total), len(tensors["targets"])], dtype=torch.float64)
        total, tokens = world.mean(sums).tolist()
        loss = total / tokens
        return {"validationLoss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}

    def where(self, indices: Indices) -> str:
        """The first few documents of a batch, by file and line."""
        table = self._parts.train.table
        documents = [d for row in indices.tolist() for d in self._train.documents(row)]
        named = [table.place(d.row) for d in documents[:3]]
        return ", ".join(named) + (", …" if len(documents) > 3 else "")

    def describe(self) -> Description:
        """What was trained, on what."""
        return Description(
            kind="Full" if self._merged else "Adapter",
            algorithm=f"{self._family} ({self._params['method']})",
            train_samples=self._parts.train.table.frame[ROW].len(),
            test_samples=self._parts.held.table.frame[ROW].len(),
            target="",
            use=Use("text-generation", *(("transformers", _WHOLE) if self._merged else ("peft", _ADAPTER))),
            features=self._parts.columns,
            notes={
                **self._parts.notes,
                "data": self._parts.kind,
                "sequenceLength": self._limit,
                "trainRows": len(self._train.rows),
                "trainTokens": sum(len(d.tokens) for d in self._parts.train.documents),
                "lossTokens": sum(self._train.targets),
            },
        )

    @property
    def _merged(self) -> bool:
        return self._params["method"] == "Full" or self._run.config.form == "Merged"

    def export(self, folder: Path) -> None:
        """A transformers folder, or a peft adapter; the tokenizer with its chat template in both."""
        model: Any = self.model.model
        if self._params["method"] == "Full":
            model.config.use_cache = True
            model.save_pretrained(folder)
        elif self._merged:
            if self._params["method"] == "QLoRA":
                model = self._on_whole_weights(model)
            whole = model.merge_and_unload()
            whole.config.use_cache = True
            whole.save_pretrained(folder)
        else:
            model.save_pretrained(folder, save_embedding_layers=False)
            _in_order(folder / "adapter_config.json")
        self._tokenizer.save_pretrained(folder)

    def _on_whole_weights(self, model: Any) -> Any:
        """The adapter on the base's own weights: merged into the 4-bit ones they would stay rounded to them."""
        from peft import get_peft_model_state_dict, set_peft_model_state_dict

        params = {**self._params, "method": "LoRA", "activationCheckpointing": False}
        whole = base.load_model(self._run.base_model(), params, torch.device("cpu"), self._run.adapter())
        set_peft_model_state_dict(whole, get_peft_model_state_dict(model))
        return whole
