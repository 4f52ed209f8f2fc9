"""Text classification and regression: an encoder of transformers with a new head, trained in full or by LoRA.

The result is a plain transformers folder, the adapter merged into it. Batches hold texts of about the same length, so
that little is spent on padding; which ones follows from seed and epoch alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from modelyard_training.core import data, metrics, split
from modelyard_training.core.data import ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices
from modelyard_training.core.world import World
from modelyard_training.params import Columns
from modelyard_training.recipes.common import (
    class_weights,
    generator,
    loaded,
    places,
    rescale_head,
    weight_groups,
)

_POOL = 64
"""Batches' worth of shuffled texts that are sorted by length together."""
_MULTIPLE = 8
_HEAD_NAMES = ("classifier", "score", "classification_head", "pre_classifier", "qa_outputs")


def build(run: Run) -> TextTask:
    """The task of a text recipe. Raises `BadInput`."""
    config = run.config.dataset
    columns = (config.columns if config else None) or Columns()
    base = run.base_model()
    check_base(base)
    tables = data.read(run.dataset(), config, as_text=True)
    run.stop.check()
    text = tables.train.require(columns.text or "text", "text")
    label = data.target_column(tables.train, columns.label, columns.target, "label")
    if tables.validation is not None:
        tables.validation.require(text, "text")
    parts = split.divide(
        tables, label, config.split if config else None, classify=run.config.recipe == "text-classification"
    )
    return TextTask(run, base, parts, text, label)


def check_base(base: Path) -> dict[str, Any]:
    """The base model's configuration. Raises `BadInput` unless the folder holds an encoder in safetensors."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CAN_CLASSIFY

    if (base / "model_index.json").is_file():
        raise BadInput("The base model is a diffusers pipeline: a text recipe needs an encoder such as BERT.")
    if (base / "adapter_config.json").is_file() and not (base / "config.json").is_file():
        raise BadInput("The base model is an adapter: name the model that it adapts, or its merged form.")
    try:
        config: dict[str, Any] = json.loads((base / "config.json").read_text())
    except (OSError, ValueError):
        raise BadInput(
            "The base model has no readable config.json: check model.ref and the files that its version includes."
        ) from None
    kind, names = str(config.get("model_type", "")), [str(a) for a in config.get("architectures") or []]
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        raise BadInput(
            f"The base model is of the family '{kind}', which writes text: a text recipe needs an encoder like BERT. "
            "For language models there is the recipe causal-lm."
        )
    if kind not in CAN_CLASSIFY or "auto_map" in config:
        raise BadInput(
            f"The base model's family '{kind}' is not an encoder that transformers can give a head for labels."
        )
    if not list(base.glob("*.safetensors")):
        raise BadInput(
            "The base model has no *.safetensors file. Weights in other formats can hold programs and are not loaded: "
            "take a revision with safetensors, or include them in the version."
        )
    return config


class TextTask:
    """See `core.task.Task`."""

    unit = "texts"

    def __init__(self, run: Run, base: Path, parts: split.Parts, text: str, label: str) -> None:
        from transformers import AutoTokenizer

        self._params, self._parts, self._text, self._label, self._run = run.params, parts, text, label, run
        self.tokenizer = loaded(lambda: AutoTokenizer.from_pretrained(base, local_files_only=True), "tokenizer")
        self.model: nn.Module = self._build(base)
        self.best_metric: tuple[str, Literal["min", "max"]] = metrics.best_metric(
            run.params["bestMetric"], len(parts.classes) if parts.classes else None
        )
        self._longest = self._length_limit()
        self._cut = 0
        self._train, self._lengths = self._tokenize(parts.train)
        run.stop.check()
        self._held, held_lengths = self._tokenize(parts.held)
        self._held_order = torch.from_numpy(np.argsort(held_lengths, kind="stable"))
        self._weights: Tensor | None = None
        self._center, self._scale = 0.0, 1.0
        if parts.classes:
            self._train_target = torch.from_numpy(parts.train_target)
            self._held_target = torch.from_numpy(parts.held_target)
            if run.params["classWeights"] == "Balanced":
                self._weights = class_weights(self._train_target, len(parts.classes)).to(run.world.device)
        else:
            self._center, self._scale = float(parts.train_target.mean()), float(parts.train_target.std()) or 1.0
            self._train_target = torch.from_numpy(
                ((parts.train_target - self._center) / self._scale).astype(np.float32)
            )
            self._held_target = torch.from_numpy(parts.held_target)

    def groups(self) -> list[dict[str, Any]]:
        """The encoder at its rate, the head at its own."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        head = [(n, p) for n, p in named if _is_head(n)]
        body = [(n, p) for n, p in named if not _is_head(n)]
        decay = self._params["weightDecay"]
        return weight_groups(body, self._params["learningRate"], decay) + weight_groups(
            head, self._params["headLearningRate"], decay
        )

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
        return {**self._pad([self._train[i] for i in indices.tolist()]), "labels": self._train_target[indices]}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        if self._parts.classes:
            return nn.functional.cross_entropy(logits, batch["labels"], weight=self._weights)
        return nn.functional.mse_loss(logits[:, 0], batch["labels"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out texts."""

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            batch = self._pad([self._held[i] for i in indices.tolist()])
            on_device = {name: tensor.to(world.device) for name, tensor in batch.items()}
            return self.model(**on_device).logits.float(), self._held_target[indices]

        found, target = metrics.gather_outputs(
            world, self._run.stop, torch.split(self._held_order, self._params["batchSize"] * 2), outputs
        )
        if self._parts.classes:
            return metrics.classification(found, target)
        return metrics.regression(found[:, 0].double() * self._scale + self._center, target, self._scale)

    def where(self, indices: Indices) -> str:
        """The first few texts of a batch, by file and line."""
        return places(self._parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        return Description(
            kind="Full",
            algorithm=f"{self.model.config.model_type} ({self._params['method']})",  # type: ignore[union-attr]
            train_samples=len(self._train),
            test_samples=len(self._held),
            target=self._label,
            features=[self._text],
            classes=self._parts.classes or [],
            notes={"rowsWithoutTarget": self._parts.dropped, "textsCut": self._cut, "longestTokens": self._longest},
        )

    def export(self, folder: Path) -> None:
        """A transformers folder: `AutoModelForSequenceClassification.from_pretrained` and its tokenizer."""
        model: Any = self.model
        if self._params["method"] == "LoRA":
            model = model.merge_and_unload()
        if not self._parts.classes:
            last = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and _is_head(n)][-1]
            rescale_head(last, self._scale, self._center)
        model.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)

    def _build(self, base: Path) -> nn.Module:
        from transformers import AutoModelForSequenceClassification

        classes = self._parts.classes
        names = classes or ["value"]
        model: Any = loaded(
            lambda: AutoModelForSequenceClassification.from_pretrained(
                base,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                num_labels=len(names),
                id2label=dict(enumerate(names)),
                label2id={name: i for i, name in enumerate(names)},
                problem_type="single_label_classification" if classes else "regression",
                ignore_mismatched_sizes=True,
            ),
            "weights",
        )
        if self._params["method"] == "LoRA":
            model = _adapt(model, self._params["lora"])
        return model  # type: ignore[no-any-return]

    def _length_limit(self) -> int:
        config: Any = self.model.config
        most: list[int] = [self._params["maxLength"]]
        positions = getattr(config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa counts positions from its padding number on.
            offset = (getattr(config, "pad_token_id", None) or 0) + 1 if "roberta" in config.model_type else 0
            most.append(positions - offset)
        return min(most)

    def _tokenize(self, table: Table) -> tuple[list[list[int]], Any]:
        column = table.frame[self._text]
        if column.dtype != pl.String:
            if column.dtype.is_nested():
                raise BadInput(f"Column '{self._text}' holds lists or objects: a text recipe needs texts.")
            column = column.cast(pl.String)
        texts = column.fill_null("").to_list()
        if not any(texts):
            raise BadInput(f"Column '{self._text}' has no text in any row: check dataset.columns.text.")
        tokens: list[list[int]] = self.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        long = [i for i, ids in enumerate(tokens) if len(ids) > self._longest]
        if long and self._params["longText"] == "Refuse":
            at = long[0]
            raise BadInput(
                f"The text at {table.place(int(table.frame[ROW][at]))} has {len(tokens[at])} tokens, more than "
                f"{self._longest}: raise maxLength, shorten it, or set longText: Truncate."
            )
        if long:
            cut = self.tokenizer([texts[i] for i in long], truncation=True, max_length=self._longest)["input_ids"]
            for at, ids in zip(long, cut, strict=True):
                tokens[at] = ids
            self._cut += len(long)
        return tokens, np.fromiter((len(ids) for ids in tokens), dtype=np.int64, count=len(tokens))

    def _pad(self, rows: list[list[int]]) -> dict[str, Tensor]:
        longest = max(len(ids) for ids in rows)
        width = min(-(-longest // _MULTIPLE) * _MULTIPLE, max(self._longest, longest))
        ids = torch.full((len(rows), width), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(rows), width), dtype=torch.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return {"input_ids": ids, "attention_mask": mask}


def _is_head(name: str) -> bool:
    return any(part in _HEAD_NAMES for part in name.split("."))


def _adapt(model: Any, lora: dict[str, Any]) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    settings = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=lora["rank"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["targetModules"] or "all-linear",
    )
    try:
        return get_peft_model(model, settings)
    except ValueError:
        raise BadInput(
            f"The base model has no layers called {', '.join(lora['targetModules'] or [])}: correct "
            "lora.targetModules, or leave it out for every linear layer."
        ) from None
