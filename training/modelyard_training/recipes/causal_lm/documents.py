"""Reads the data set of a language run: which rows train, and each as tokens that count in the loss or don't.

Rows are chats (`messages`, `conversations`), prompts with completions, instructions with outputs, or plain text; a
folder of .txt files is plain text too, one document a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from modelyard_training.core import data, split
from modelyard_training.core.data import ROW, Table, Tables
from modelyard_training.core.errors import BadInput
from modelyard_training.core.stop import Stop
from modelyard_training.params import Columns, DatasetConfig, Split, resolve
from modelyard_training.recipes.causal_lm.chat import Chats, Message, messages_of

_TOKENIZE = 1000
"""Texts that are tokenized together."""


@dataclass(frozen=True)
class Document:
    """Tokens (int32 [T]), which of them count in the loss (bool [T]), and the row that they are from."""

    tokens: NDArray[np.int32]
    counts: NDArray[np.bool_]
    row: int


@dataclass
class Side:
    """Documents of the training or the held-out split."""

    table: Table
    documents: list[Document]


@dataclass
class Parts:
    """Both splits, and what a person should know of how they came about."""

    kind: str
    columns: list[str]
    train: Side
    held: Side
    notes: dict[str, int] = field(default_factory=dict)

    @property
    def highest_token(self) -> int:
        """The largest token number of both splits."""
        return max(int(d.tokens.max()) for part in (self.train, self.held) for d in part.documents)


class TextFiles(Table):
    """A table of one row a file."""

    def place(self, row: int) -> str:
        """The file's name."""
        return self.files[row][0].name


def read(root: Path, config: DatasetConfig | None, encoder: Encoder) -> Parts:
    """Both splits as tokens. Raises `BadInput`."""
    config = config or DatasetConfig()
    tables = _text_files(root, config) or data.read(root, config, as_text=True)
    kind, columns = _kind(tables.train, config.columns or Columns())
    train, held = _divide(tables, config.split)
    for name in columns:
        held.require(name, name)
    train_documents = list(encoder.documents(train, kind, columns))
    held_documents = list(encoder.documents(held, kind, columns))
    for documents, part in ((train_documents, "training"), (held_documents, "validation")):
        if not documents:
            raise BadInput(
                f"No token of the {part} split counts in the loss: every row is empty, or all that it has within "
                f"sequenceLength is masked out. Check dataset.columns, raise sequenceLength, or set lossOn: All."
            )
    return Parts(kind, columns, Side(train, train_documents), Side(held, held_documents), encoder.notes)


def _text_files(root: Path, config: DatasetConfig) -> Tables | None:
    """The tables of a data set of .txt files; None for any other."""
    base = root / config.path if config.path and ".." not in Path(config.path).parts else root
    rules = config.split or Split()
    if config.format is not None or not base.exists():
        return None
    folder = base if base.is_dir() else base.parent
    names = (rules.train, rules.validation)
    if not any(n and n.endswith(".txt") for n in names):
        found = [base] if base.is_file() else sorted(p for p in base.rglob("*") if p.is_file())
        found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(root).parts)]
        # A README beside tables is no document.
        if not found or any(p.suffix.lower() != ".txt" for p in found):
            return None
        return Tables(_texts(found), None)
    held = sorted(folder.glob(rules.validation)) if rules.validation else []
    train = sorted(p for p in folder.glob(rules.train or "**/*.txt") if p.is_file() and p not in held)
    if not train or (rules.validation and not held):
        raise BadInput("There is no such .txt file in the data set: check dataset.path and dataset.split.")
    return Tables(_texts(train), _texts(held) if held else None)


def _texts(paths: list[Path]) -> Table:
    texts: list[str] = []
    for path in paths:
        try:
            texts.append(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            raise BadInput(f"{path.name} is not UTF-8: save the file as UTF-8.") from None
    return TextFiles(pl.DataFrame({"text": texts}).with_row_index(ROW), tuple((p, 1) for p in paths))


def _kind(table: Table, columns: Columns) -> tuple[str, list[str]]:
    names = table.frame.columns
    if columns.messages:
        return "chats", [table.require(columns.messages, "messages")]
    if columns.text:
        return "texts", [table.require(columns.text, "text")]
    for name in ("messages", "conversations"):
        if name in names:
            return "chats", [name]
    if "prompt" in names and "completion" in names:
        return "completions", ["prompt", "completion"]
    if "instruction" in names and "output" in names:
        return "instructions", ["instruction", *(["input"] if "input" in names else []), "output"]
    if "text" in names:
        return "texts", ["text"]
    shown = [c for c in names if c != ROW][:20]
    raise BadInput(
        "The data set has none of the columns messages, prompt and completion, instruction and output, or text: set "
        f"dataset.columns.messages or .text. It has: {', '.join(shown)}."
    )


def _divide(tables: Tables, rules: Split | None) -> tuple[Table, Table]:
    if tables.validation is not None:
        return tables.train, tables.validation
    effective = resolve(rules or Split())
    frame = tables.train.frame
    train, held = split.rows(frame.height, None, effective["validationFraction"], effective["seed"])
    return tables.train.pick(frame[train]), tables.train.pick(frame[held])


class Encoder:
    """Turns rows into documents of at most `limit` tokens, and counts what it had to leave out."""

    def __init__(self, tokenizer: Any, params: dict[str, Any], limit: int, stop: Stop) -> None:
        self._tokenizer, self._limit, self._stop = tokenizer, limit, stop
        self._loss_on, self._refuse = params["lossOn"], params["longText"] == "Refuse"
        self._end: int | None = tokenizer.eos_token_id
        self._chats: Chats | None = None
        self.notes = {"documentsCut": 0, "documentsWithoutLoss": 0, "longestTokens": 0}

    def documents(self, table: Table, kind: str, columns: list[str]) -> Iterator[Document]:
        """The documents of a table that have a token that counts. Raises `BadInput`."""
        encoded = self._texts(table, columns[0]) if kind == "texts" else self._answers(table, kind, columns)
        rows = table.frame[ROW].to_list()
        for number, (tokens, counts) in enumerate(encoded):
            if number % _TOKENIZE == 0:
                self._stop.check()
            self.notes["longestTokens"] = max(self.notes["longestTokens"], len(tokens))
            pieces = list(
                self._fit(np.asarray(tokens, np.int32), np.asarray(counts, np.bool_), kind, table, rows[number])
            )
            if not pieces:
                self.notes["documentsWithoutLoss"] += 1
            yield from pieces

    def _fit(
        self, tokens: NDArray[np.int32], counts: NDArray[np.bool_], kind: str, table: Table, row: int
    ) -> Iterator[Document]:
        pieces = [slice(0, self._limit)]
        if len(tokens) > self._limit:
            if self._refuse:
                raise BadInput(
                    f"The document at {table.place(row)} has {len(tokens)} tokens, more than {self._limit}: raise "
                    "sequenceLength, shorten it, or set longText: Truncate."
                )
            self.notes["documentsCut"] += 1
            if kind == "texts":
                # Nothing of a plain text is lost: its pieces are documents of their own.
                pieces = [slice(at, at + self._limit) for at in range(0, len(tokens), self._limit)]
        for piece in pieces:
            # Nothing comes before the first token that could predict it.
            if counts[piece][1:].any():
                yield Document(tokens[piece], counts[piece], row)

    def _texts(self, table: Table, column: str) -> Iterator[tuple[list[int], list[bool]]]:
        values = table.frame[column]
        if values.dtype.is_nested():
            raise BadInput(f"Column '{column}' holds lists or objects: for chats set dataset.columns.messages.")
        texts = values.cast(pl.String).fill_null("").to_list()
        for at in range(0, len(texts), _TOKENIZE):
            found = self._tokenizer(texts[at : at + _TOKENIZE], verbose=False)["input_ids"]
            for text, tokens in zip(texts[at : at + _TOKENIZE], found, strict=True):
                ended = self._ended(tokens) if text else []
                yield ended, [True] * len(ended)

    def _ended(self, tokens: list[int]) -> list[int]:
        if self._end is None or (tokens and tokens[-1] == self._end):
            return tokens
        return [*tokens, self._end]

    def _answers(self, table: Table, kind: str, columns: list[str]) -> Iterator[tuple[list[int], list[bool]]]:
        names = [*columns, *(["tools"] if "tools" in table.frame.columns else [])]
        for row, values in zip(
            table.frame[ROW].to_list(), table.frame.select(names).iter_rows(named=True), strict=True
        ):
            if kind == "completions" and isinstance(values["prompt"], str):
                yield self._completion(values["prompt"], str(values["completion"] or ""))
                continue
            yield self._chat(kind, columns, values, table, row)

    def _completion(self, prompt: str, completion: str) -> tuple[list[int], list[bool]]:
        before = self._tokenizer(prompt, verbose=False)["input_ids"]
        if before and before[-1] == self._end:
            before = before[:-1]
        after = self._ended(self._tokenizer(completion, add_special_tokens=False, verbose=False)["input_ids"])
        return [*before, *after], [self._loss_on == "All"] * len(before) + [True] * len(after)

    def _chat(
        self, kind: str, columns: list[str], values: dict[str, Any], table: Table, row: int
    ) -> tuple[list[int], list[bool]]:
        self._chats = self._chats or Chats(self._tokenizer)
        place = table.place(row)
        try:
            messages, asked = self._messages(kind, columns, values)
        except ValueError as error:
            raise BadInput(f"The chat at {place} (column '{columns[-1]}') {error}.") from None
        tools = values.get("tools")
        if self._loss_on == "All":
            tokens = self._chats.encode_all(messages, tools, place)
            return tokens, [True] * len(tokens)
        tokens, turns = self._chats.encode(messages, tools, place)
        # Of a chat, the completion is the last answer; of a prompt and a completion, the answers after the prompt.
        turns = turns[asked:] if asked else turns
        if self._loss_on == "Completion" and kind != "completions":
            turns = turns[-1:]
        counts = [False] * len(tokens)
        for begin, end in turns:
            counts[begin:end] = [True] * (end - begin)
        return tokens, counts

    def _messages(self, kind: str, columns: list[str], values: dict[str, Any]) -> tuple[list[Message], int]:
        """The messages, and how many of the assistant's turns are part of the prompt."""
        if kind == "chats":
            return messages_of(values[columns[0]]), 0
        if kind == "instructions":
            asked = "\n\n".join(str(values[name]) for name in columns[:-1] if values[name])
            answer = str(values[columns[-1]] or "")
            return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], 0
        prompt, completion = values["prompt"], values["completion"]
        messages = messages_of([*(prompt or []), *(completion or [])])
        before = sum(1 for m in messages[: len(prompt or [])] if m["role"] == "assistant")
        return messages, before if self._loss_on == "Completion" else 0
