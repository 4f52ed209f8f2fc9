"""Predicts with a trained LSTM or CNN over words: one file that needs torch and safetensors, and nothing else.

It lies beside `model.json` (the words) and `model.safetensors`, and is what the model was trained with, too.

    echo "A text" | python predict.py

    from predict import Predictor
    Predictor().predict(["A text", "another one"])
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

PADDING, UNKNOWN = 0, 1
WORDS = r"\w+|[^\w\s]"
_FIND = re.compile(WORDS)
_BATCH = 64


def words(text: str) -> list[str]:
    """The words and signs of a text, in small letters."""
    return _FIND.findall(text.lower())


def numbered(text: str, index: dict[str, int]) -> list[int]:
    """The numbers of a text's words; at least one."""
    return [index.get(word, UNKNOWN) for word in words(text)] or [UNKNOWN]


class LSTM(nn.Module):
    """Words [N, T] (int64) and which of them are there [N, T] to outputs [N, O]: read in both directions."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        width = spec["width"]
        self.embedding = nn.Embedding(len(spec["words"]) + 2, width, padding_idx=PADDING)
        self.reader = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(spec["dropout"])
        self.classifier = nn.Linear(4 * width, spec["outputs"])

    def forward(self, numbers: Tensor, there: Tensor) -> Tensor:
        """Class scores, or the number."""
        lengths = there.sum(dim=1).cpu()
        given = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(numbers)), lengths, batch_first=True, enforce_sorted=False
        )
        read, _ = nn.utils.rnn.pad_packed_sequence(self.reader(given)[0], batch_first=True, total_length=there.shape[1])
        inside = there.unsqueeze(2).to(read.dtype)
        mean = (read * inside).sum(dim=1) / inside.sum(dim=1)
        most = read.masked_fill(inside == 0, -1.0).amax(dim=1)
        output: Tensor = self.classifier(self.dropout(torch.cat([mean, most], dim=1)))
        return output


class CNN(nn.Module):
    """The same from groups of three to five neighbouring words, of which the strongest count (Kim, 2014)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        width = spec["width"]
        self.embedding = nn.Embedding(len(spec["words"]) + 2, width, padding_idx=PADDING)
        self.filters = nn.ModuleList(nn.Conv1d(width, width, size, padding="same") for size in (3, 4, 5))
        self.dropout = nn.Dropout(spec["dropout"])
        self.classifier = nn.Linear(3 * width, spec["outputs"])

    def forward(self, numbers: Tensor, there: Tensor) -> Tensor:
        """Class scores, or the number."""
        inside = there.unsqueeze(1)
        given = self.embedding(numbers).transpose(1, 2) * inside
        # What stands behind a text's end says nothing, however long the others are.
        found = [nn.functional.relu(f(given)).masked_fill(inside == 0, 0.0).amax(dim=2) for f in self.filters]
        output: Tensor = self.classifier(self.dropout(torch.cat(found, dim=1)))
        return output


NETWORKS: dict[str, type[nn.Module]] = {"LSTM": LSTM, "CNN": CNN}


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Numbers [N, T] and which of them are there."""
    longest = max(len(row) for row in rows)
    numbers = torch.zeros((len(rows), longest), dtype=torch.int64)
    there = torch.zeros((len(rows), longest), dtype=torch.int64)
    for at, row in enumerate(rows):
        numbers[at, : len(row)] = torch.tensor(row)
        there[at, : len(row)] = 1
    return numbers, there


class Predictor:
    """The model in `folder` (unset: where this file is)."""

    def __init__(self, folder: str | Path | None = None) -> None:
        place = Path(folder) if folder is not None else Path(__file__).resolve().parent
        self.spec: dict[str, Any] = json.loads((place / "model.json").read_text())
        self.index = {word: number for number, word in enumerate(self.spec["words"], start=2)}
        self.network = NETWORKS[self.spec["architecture"]](self.spec)
        self.network.load_state_dict(load_file(place / "model.safetensors"))
        self.network.eval()

    @torch.inference_mode()
    def outputs(self, texts: list[str]) -> Tensor:
        """Probabilities [N, classes], or predicted numbers [N]."""
        found = []
        for at in range(0, len(texts), _BATCH):
            rows = [numbered(text, self.index)[: self.spec["longest"]] for text in texts[at : at + _BATCH]]
            found.append(self.network(*padded(rows)))
        joined = torch.cat(found)
        return joined.softmax(dim=1) if self.spec["classes"] else joined[:, 0]

    def predict(self, texts: list[str]) -> list[Any]:
        """The most probable class, or the predicted number, of each text."""
        found = self.outputs(texts)
        if self.spec["classes"]:
            return [self.spec["classes"][int(i)] for i in found.argmax(dim=1)]
        return [float(value) for value in found]


def main() -> None:
    """Predicts the lines of standard input."""
    for answer in Predictor().predict([line.rstrip("\n") for line in sys.stdin]):
        print(answer)


if __name__ == "__main__":
    main()
