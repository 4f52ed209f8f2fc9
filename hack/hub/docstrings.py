"""A labelled text set that every machine with Python has: the standard library's docstrings, by their module.

Only the first paragraph of a docstring is taken, between 25 and 300 characters; a text that occurs twice is left out,
and so is the label's own name from the text, which would give the answer away. Sorted by a hash: the order is the same
everywhere and mixes the labels. The texts differ a little between versions of Python.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

LABELS = ("asyncio", "decimal", "email", "unittest")
_PLACES = {"decimal": "_pydecimal"}  # where the module's Python text is, if not under its own name
MOST_PER_LABEL = 150
SHORTEST, LONGEST = 25, 300
_HELD_OUT = 5  # every fifth text


def documents() -> dict[str, bytes | Path]:
    """The repository's files: train.jsonl, test.jsonl (fields `text`, `label`) and a README."""
    rows = sorted(_balanced(), key=lambda row: hashlib.sha256("\0".join(row).encode()).digest())
    train: list[str] = []
    test: list[str] = []
    seen: Counter[str] = Counter()
    for text, label in rows:
        seen[label] += 1
        (test if seen[label] % _HELD_OUT == 0 else train).append(json.dumps({"text": text, "label": label}) + "\n")
    readme = (
        "# Docstrings of Python's standard library\n\n"
        f"Which module is a docstring from? {len(rows)} first paragraphs, equally many of each label:\n"
        f"{', '.join(LABELS)}.\n"
        "train.jsonl and test.jsonl have the fields `text` and `label`. License: PSF-2.0, as Python itself.\n"
    )
    return {
        "README.md": readme.encode(),
        "train.jsonl": "".join(train).encode(),
        "test.jsonl": "".join(test).encode(),
    }


def _balanced() -> list[tuple[str, str]]:
    texts = {label: set(_texts(label)) for label in LABELS}
    often = Counter(text for found in texts.values() for text in found)
    own = {label: sorted(text for text in found if often[text] == 1) for label, found in texts.items()}
    count = min(MOST_PER_LABEL, *(len(found) for found in own.values()))
    return [
        (text, label)
        for label, found in own.items()
        for text in sorted(found, key=lambda text: hashlib.sha256(text.encode()).digest())[:count]
    ]


def _texts(label: str) -> Iterator[str]:
    library = Path(sysconfig.get_path("stdlib"))
    place = library / _PLACES.get(label, label)
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        if not {"test", "tests"} & set(path.relative_to(library).parts):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    if SHORTEST <= len(text) <= LONGEST and not re.search(label, text, re.IGNORECASE):
                        yield text
