"""Pictures with labels: found and divided by the image recipes' own code, each decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard_training.analysis import images, suggest, tables, weights
from modelyard_training.analysis.images import Load, Seen
from modelyard_training.analysis.report import Findings
from modelyard_training.core import split
from modelyard_training.core.data import ROW, Table, Tables

if TYPE_CHECKING:
    from modelyard_training.analysis.look import Given

_SAMPLES = 3


def look(given: Given) -> Findings:
    """The pictures of an image recipe. Raises `BadInput`."""
    from modelyard_training.recipes.image import backbones, sources

    base = given.model if given.config.model is not None else None
    size = backbones.edge(base, given.params)
    model = weights.transformer(base) if base is not None else {}
    read = sources.read(given.root(), given.config.dataset)

    def loads(found: Iterable[Any]) -> Iterator[tuple[str, Load]]:
        for one in found:
            yield one.name, one.source.read_bytes if isinstance(one.source, Path) else _bytes(one.source)

    train, held = list(images.decoded(loads(read.train))), list(images.decoded(loads(read.validation or ())))
    profile = images.profile_of(given, [*train, *held], float(given.params["maxBrokenShare"]))
    profile["imageSize"] = size
    good = _good(read.train, train)
    held_good = _good(read.validation, held) if read.validation is not None else good
    table = sources.table([one for one, _ in good], read.target)
    held_table = sources.table([one for one, _ in held_good], read.target) if read.validation is not None else None
    parts = split.divide(
        Tables(table, held_table),
        read.target,
        given.data.split,
        classify=given.config.recipe == "image-classification",
    )
    profile |= tables.about_parts(parts, read.target)
    known = _digests(parts.train, good)
    profile["rowsInBothParts"] = sum(digest in known for digest in _digests(parts.held, held_good))
    samples = [
        {"from": seen.name, "size": [seen.width, seen.height], "shownAs": [size, size], "label": str(one.label)}
        for one, seen in good[:_SAMPLES]
    ]
    return Findings(
        profile,
        model,
        suggest.pictures(profile, given.config.recipe, scratch=base is None),
        images.odd(profile, named=read.validation is not None),
        samples,
        f"{images.summary(profile)} {tables.summary(profile, 'of them')}",
    )


def _bytes(source: Any) -> Load:
    """Of bytes, or of a member of a shard."""
    return (lambda: source) if isinstance(source, bytes) else source.read


def _good(found: Iterable[Any], seen: Iterable[Seen]) -> list[tuple[Any, Seen]]:
    return [(one, what) for one, what in zip(found, seen, strict=True) if what.format is not None]


def _digests(part: Table, good: list[tuple[Any, Seen]]) -> list[str]:
    return [good[int(row)][1].digest for row in part.frame[ROW].to_list()]
