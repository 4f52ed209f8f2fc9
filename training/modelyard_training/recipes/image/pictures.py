"""The pictures themselves: decoded and scaled to one size, kept in memory if they fit, changed at random to train."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelyard_training.core.determinism import cpus
from modelyard_training.core.errors import BadInput
from modelyard_training.core.stop import Stop
from modelyard_training.recipes.image.sources import Found, Member, Source

_MEMORY = 4 * 2**30
"""Bytes of pictures that are kept decoded."""


class Store:
    """Pictures as [3, S, S] of bytes, by number: decoded ones by their `rows`, or decoded whenever they are wanted."""

    def __init__(self, found: Sequence[Found], size: int, pool: ThreadPoolExecutor, decoded: Tensor | None) -> None:
        self._found, self._size, self._pool, self._decoded = found, size, pool, decoded
        self._ahead: dict[int, Future[Tensor]] = {}

    def get(self, numbers: Tensor) -> Tensor:
        """The pictures [B, 3, S, S]."""
        if self._decoded is not None:
            return self._decoded[numbers]
        self.expect(numbers)
        return torch.stack([self._ahead.pop(number).result() for number in numbers.tolist()])

    def expect(self, numbers: Tensor) -> None:
        """Begins to decode what will be wanted next."""
        if self._decoded is None:
            for number in numbers.tolist():
                if number not in self._ahead:
                    self._ahead[number] = self._pool.submit(decode, self._found[number].source, self._size)


def check(
    found: list[Found], size: int, most_broken: float, stop: Stop, pool: ThreadPoolExecutor
) -> tuple[list[Found], Tensor | None, int]:
    """The pictures that can be read, decoded if they fit into memory, and how many can't be.

    Raises `BadInput` when more than the share `most_broken` is unreadable.
    """
    each = 3 * size * size
    fits = len(found) * each <= _MEMORY
    kept = torch.empty((len(found), 3, size, size), dtype=torch.uint8) if fits else None
    good: list[Found] = []
    broken: list[str] = []
    for one, picture in zip(found, pool.map(lambda f: _try(f.source, size), found), strict=True):
        stop.check()
        if picture is None:
            broken.append(one.name)
            continue
        if kept is not None:
            kept[len(good)] = picture
        good.append(one)
    if len(broken) > most_broken * len(found):
        raise BadInput(
            f"{len(broken)} of {len(found)} pictures can't be read, {broken[0]} among them: mend or remove them, or "
            f"raise image.maxBrokenShare ({most_broken:g}) to leave them out."
        )
    return good, kept[: len(good)] if kept is not None else None, len(broken)


def _try(source: Source, size: int) -> Tensor | None:
    try:
        return decode(source, size)
    except (OSError, ValueError, SyntaxError, Warning):
        return None


def decode(source: Source, size: int) -> Tensor:
    """The whole picture as RGB [3, S, S], bytes, turned as its camera was.

    Raises OSError, ValueError, SyntaxError or a Warning for a broken one.
    """
    from PIL import Image, ImageOps

    content: Any = source if isinstance(source, Path) else io.BytesIO(_bytes(source))
    with warnings.catch_warnings():
        # A picture that would fill the memory is broken, too.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(content) as image:
                whole = ImageOps.exif_transpose(image).convert("RGB")
        except Image.DecompressionBombError as error:
            raise ValueError from error
    if whole.size != (size, size):
        whole = whole.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(whole)).permute(2, 0, 1)


def _bytes(source: bytes | Member) -> bytes:
    return source.read() if isinstance(source, Member) else source


def change(pictures: Tensor, how: str, random: torch.Generator) -> Tensor:
    """Pictures [N, 3, S, S] (0 to 1), each shifted at random; `Strong`: cropped and coloured at random, too."""
    if how == "None":
        return pictures
    count = len(pictures)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand((count, *shape), generator=random) * (high - low) + low

    if how == "Strong":
        scale = draw(0.65, 1.0)
        shift = draw(-1.0, 1.0, 2) * (1 - scale)[:, None]
    else:
        scale = torch.ones(count)
        shift = draw(-0.2, 0.2, 2)
    where = torch.zeros(count, 2, 3)
    where[:, 0, 0] = where[:, 1, 1] = scale
    where[:, :, 2] = shift
    grid = torch.nn.functional.affine_grid(where, list(pictures.shape), align_corners=False)
    found = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    if how == "Strong":
        middle = found.mean(dim=(1, 2, 3), keepdim=True)
        light, contrast, colour = draw(0.7, 1.3, 1, 1, 1), draw(0.7, 1.3, 1, 1, 1), draw(0.9, 1.1, 3, 1, 1)
        found = (((found - middle) * contrast + middle) * light * colour).clamp(0, 1)
    return found


def pool() -> ThreadPoolExecutor:
    """Threads that decode: Pillow lets go of Python meanwhile."""
    return ThreadPoolExecutor(cpus(), thread_name_prefix="pictures")
