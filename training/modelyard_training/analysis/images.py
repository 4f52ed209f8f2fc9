"""Pictures: each decoded once; sizes and formats, broken ones, copies, labels or captions."""

from __future__ import annotations

import hashlib
import io
import os
import statistics
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard_training.analysis import suggest, tables, weights
from modelyard_training.analysis.report import Findings
from modelyard_training.core.errors import BadInput

if TYPE_CHECKING:
    from modelyard_training.analysis.look import Given

_SAMPLES, _SHOWN, _AT_ONCE = 3, 500, 256
_BROKEN_SHARE = 0.1
"""Of the pictures of an adapter, as its recipe has it."""


Load = Callable[[], bytes]


@dataclass(frozen=True)
class Seen:
    """One picture; a format of None: it can't be decoded."""

    name: str
    digest: str
    format: str | None
    width: int
    height: int


def look(given: Given) -> Findings:
    """The pictures of an adapter with their captions, or a prompt alone. Raises `BadInput`."""
    from modelyard_training.recipes.text_to_image import pictures

    if given.model is None:
        raise BadInput("The recipe text-to-image-lora needs a base model, and none is mounted: set model.ref.")
    model = weights.pipeline(given.model)
    prompt = given.params["prompt"]
    if given.dataset is None or given.params["method"] == "Concept":
        if not prompt:
            raise BadInput("Training without pictures needs a prompt: set textToImageLoRA.prompt, or give a data set.")
        shown = [{"prompt": prompt[:_SHOWN]}]
        return Findings({"kind": "prompt", "rows": 0}, model, samples=shown, message="No pictures: a prompt alone.")
    named: list[tuple[str, str]] = []

    def sources() -> Iterator[tuple[str, Load]]:
        for source, name, caption in pictures.sources(given.root(), given.data):
            named.append((name, caption))
            yield name, partial(_content, source)

    seen = list(decoded(sources()))
    captions = [caption for _, caption in named]
    profile = profile_of(given, seen, _BROKEN_SHARE)
    profile["captions"] = sum(1 for caption in captions if caption)
    without = next((name for name, caption in named if not caption), None)
    if without is not None and not prompt:
        raise BadInput(
            f"{without} has no caption: put it into a .txt file of the same name or the column of "
            "dataset.columns.caption, or set textToImageLoRA.prompt for those without."
        )
    profile["split"] = {"train": profile["rows"] - profile["broken"], "validation": 0}
    samples = [
        {"from": one.name, "size": [one.width, one.height], "caption": (caption or prompt or "")[:_SHOWN]}
        for one, caption in zip(seen[:_SAMPLES], captions, strict=False)
    ]
    suggested = suggest.pictures(profile, given.config.recipe)
    return Findings(profile, model, suggested, odd(profile), samples, summary(profile))


def decoded(sources: Iterable[tuple[str, Load]]) -> Iterator[Seen]:
    """Every picture, decoded by as many threads as there are cores."""
    waiting: list[Any] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, load in sources:
            waiting.append(pool.submit(_decode, name, load))
            if len(waiting) >= _AT_ONCE:
                yield waiting.pop(0).result()
        for one in waiting:
            yield one.result()


def _content(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def _decode(name: str, load: Load) -> Seen:
    from PIL import Image

    try:
        content = load()
    except OSError:
        content = b""
    digest = hashlib.sha256(content).hexdigest()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                return Seen(name, digest, image.format or "other", image.width, image.height)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError):
        return Seen(name, digest, None, 0, 0)


def profile_of(given: Given, seen: list[Seen], broken_share: float) -> dict[str, Any]:
    """Sizes, formats and copies. Raises `BadInput` where there is no picture, or too many are broken."""
    if not seen:
        raise BadInput("There is no picture in the data set: put .png, .jpg or .webp files there; check dataset.path.")
    good = [one for one in seen if one.format is not None]
    broken = [one.name for one in seen if one.format is None]
    if not good or len(broken) > broken_share * len(seen):
        raise BadInput(
            f"{len(broken)} of {len(seen)} pictures can't be read, {broken[0]} among them: mend or remove them. A few "
            "would be left out."
        )
    return {
        "kind": "pictures",
        **tables.sizes(given.root(), given.data.path),
        "rows": len(seen),
        "broken": len(broken),
        "duplicateRows": len(seen) - len({one.digest for one in seen}),
        "formats": dict(Counter(one.format for one in good).most_common(8)),
        "pictures": {
            "width": _range([one.width for one in good]),
            "height": _range([one.height for one in good]),
            "medianEdge": int(statistics.median(min(one.width, one.height) for one in good)),
        },
    }


def _range(values: list[int]) -> dict[str, int]:
    return {"min": min(values), "median": int(statistics.median(values)), "max": max(values)}


def odd(profile: dict[str, Any], *, named: bool = False) -> list[str]:
    """Warnings on copies and on pictures that can't be read."""
    said = tables.about_both(profile, named=named)
    if profile["broken"]:
        said.append(f"{profile['broken']} of {profile['rows']} pictures can't be read and are left out.")
    return said


def summary(profile: dict[str, Any]) -> str:
    """One sentence on the pictures."""
    width, height = profile["pictures"]["width"], profile["pictures"]["height"]
    formats = ", ".join(f"{count} {name}" for name, count in profile["formats"].items())
    return (
        f"{profile['rows']} pictures ({formats}) of {width['min']} to {width['max']} by {height['min']} to "
        f"{height['max']} pixels."
    )
