"""Texts with labels: token lengths by the base model's own tokenizer, balance, copies, and the text as tokens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from modelyard_training.analysis import suggest, tables, weights
from modelyard_training.analysis.lengths import lengths, long_texts
from modelyard_training.analysis.report import Findings
from modelyard_training.core import data, split
from modelyard_training.core.data import ROW, Table
from modelyard_training.core.errors import BadInput

if TYPE_CHECKING:
    from modelyard_training.analysis.look import Given

Tokenize = Callable[[list[str]], list[list[str]]]
_BATCH = 1000
_SAMPLES, _SHOWN = 3, 500


def look(given: Given) -> Findings:
    """The texts of a text recipe. Raises `BadInput`."""
    if given.model is None:
        raise BadInput(f"The recipe {given.config.recipe} needs a base model, and none is mounted: set model.ref.")
    model = weights.transformer(given.model)
    read = data.read(given.root(), given.data, as_text=True)
    text = read.train.require(given.columns.text or "text", "text")
    target = data.target_column(read.train, given.columns.label, given.columns.target, "label")
    if read.validation is not None:
        read.validation.require(text, "text")
    parts = split.divide(read, target, given.data.split, classify=given.config.recipe == "text-classification")
    limit = min(int(given.params["maxLength"]), int(model.get("positions") or 2**20))
    tokenize = tokenizer(given.model)
    train = _count(tokenize, parts.train, text)
    held = _count(tokenize, parts.held, text)
    if not any(train):
        raise BadInput(f"Column '{text}' has no text in any row: check dataset.columns.text.")
    if given.params["longText"] == "Refuse":
        _refuse(parts.train, train, limit)
        _refuse(parts.held, held, limit)
    profile = {**tables.profile_of(read, given), "kind": "texts", **tables.about_parts(parts, target)}
    profile["tokens"] = lengths(train, held, limit)
    texts = [t.frame.select(pl.col(text).cast(pl.String).fill_null("")) for t in (parts.train, parts.held)]
    profile["duplicateRows"] = sum(len(t) - t.n_unique() for t in texts)
    profile["rowsInBothParts"] = tables.shared(*texts)
    if empty := sum(int((t[text] == "").sum()) for t in texts):
        profile["emptyTexts"] = empty
    warnings = tables.about_both(profile, named=read.validation is not None)
    warnings += long_texts(profile["tokens"], profile["rows"], "recipe.text.maxLength")
    if empty:
        warnings.append(f"{empty} of {profile['rows']} texts are empty.")
    return Findings(
        profile,
        model,
        suggest.text(profile, given.config.recipe, target, int(model.get("positions") or 2**20)),
        warnings,
        _samples(tokenize, parts.train, text, target, limit),
        tables.summary(profile, "texts") + f" Half of them have up to {profile['tokens']['median']} tokens.",
    )


def tokenizer(folder: Path) -> Tokenize:
    """Texts to the names of their tokens, special ones among them. Raises `BadInput`."""
    path = folder / "tokenizer.json"
    if path.is_file():
        from tokenizers import Tokenizer

        try:
            fast: Any = Tokenizer.from_file(str(path))
        except Exception:  # the library raises nothing narrower
            raise BadInput("The base model's tokenizer.json can't be read: it is damaged; fetch it again.") from None
        fast.no_truncation()
        fast.no_padding()
        return lambda texts: [found.tokens for found in fast.encode_batch(texts)]
    from transformers import AutoTokenizer

    try:
        slow: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError):
        raise BadInput("The base model's tokenizer can't be loaded: its files are incomplete or damaged.") from None
    return lambda texts: [slow.convert_ids_to_tokens(ids) for ids in slow(texts, verbose=False)["input_ids"]]


def _count(tokenize: Tokenize, table: Table, column: str) -> list[int]:
    values = table.frame[column]
    if values.dtype.is_nested():
        raise BadInput(f"Column '{column}' holds lists or objects: a text recipe needs texts.")
    texts = values.cast(pl.String).fill_null("").to_list()
    return [len(tokens) for at in range(0, len(texts), _BATCH) for tokens in tokenize(texts[at : at + _BATCH])]


def _refuse(table: Table, counts: list[int], limit: int) -> None:
    at = next((i for i, count in enumerate(counts) if count > limit), None)
    if at is not None:
        raise BadInput(
            f"The text at {table.place(int(table.frame[ROW][at]))} has {counts[at]} tokens, more than {limit}: raise "
            "maxLength, shorten it, or set longText: Truncate."
        )


def _samples(tokenize: Tokenize, table: Table, text: str, target: str, limit: int) -> list[Any]:
    rows = table.frame.select(ROW, text, target).head(_SAMPLES).iter_rows()
    return [
        {
            "from": table.place(int(row)),
            "text": str(value or "")[:_SHOWN],
            "tokens": tokenize([str(value or "")])[0][: min(limit, 128)],
            "label": str(label),
        }
        for row, value, label in rows
    ]
