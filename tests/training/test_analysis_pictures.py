"""The look at pictures: every one is decoded once; sizes, formats, copies, captions, and the pipeline's sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support import tiny_models
from support.looking import look

CONFIG: dict[str, Any] = {"recipe": "text-to-image-lora", "params": {"resolution": 64}, "model": {"kind": "Full"}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty pictures of two sizes and formats with captions, one of them twice."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.Generator(np.random.PCG64(3))
    for number in range(20):
        size = (64, 96) if number % 2 else (80, 80)
        picture = Image.fromarray(random.integers(0, 255, (*size, 3), dtype=np.uint8))
        picture.save(folder / (f"{number:02d}.png" if number % 4 else f"{number:02d}.jpg"))
        (folder / f"{number:02d}.txt").write_text(f"a picture, number {number}")
    (folder / "99.png").write_bytes((folder / "01.png").read_bytes())
    (folder / "99.txt").write_text("a copy")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.pipeline(tmp_path_factory.mktemp("base"), "sd15")


def test_every_picture_is_seen(tmp_path: Path, data: Path, base: Path) -> None:
    (data / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (data / "broken.txt").write_text("broken")
    seen = look(tmp_path, CONFIG, model=base)
    profile = seen.profile
    assert (profile["rows"], profile["broken"], profile["duplicateRows"]) == (22, 1, 1)
    assert profile["formats"] == {"PNG": 16, "JPEG": 5}
    assert profile["pictures"]["width"] == {"min": 80, "median": 96, "max": 96}
    assert profile["captions"] == 22
    assert seen.file["samples"][0]["caption"] == "a picture, number 0"
    assert seen.found["model"]["kind"] == "sd"
    assert seen.found["model"]["linearSizes"] > 0
    assert seen.found["suggested"]["params"]["maxSteps"]["value"] == 22 * 75
    assert seen.warned("1 of 22 pictures can't be read")


def test_a_picture_without_a_caption_needs_a_prompt(tmp_path: Path, data: Path, base: Path) -> None:
    (data / "07.txt").unlink()
    seen = look(tmp_path, CONFIG, model=base)
    assert (seen.code, "07.png has no caption" in seen.words["message"]) == (64, True)
    seen = look(tmp_path, {**CONFIG, "params": {"prompt": "a picture"}}, model=base)
    assert seen.code == 0


def test_pictures_in_folders_by_class(tmp_path: Path) -> None:
    from sklearn import datasets

    digits = datasets.load_digits()
    for number, (values, digit) in enumerate(zip(digits.images[:300], digits.target[:300], strict=True)):
        folder = tmp_path / "data" / f"digit-{digit}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((values * 15).astype(np.uint8)).resize((32, 32)).save(folder / f"{number}.png")
    seen = look(tmp_path, {"recipe": "image-classification", "dataset": {"split": {"validationFraction": 0.2}}})
    profile = seen.profile
    assert profile["rows"] == 300
    assert profile["formats"] == {"PNG": 300}
    assert (profile["target"]["outputs"], sum(profile["target"]["classes"].values())) == (10, 300)
    assert sum(profile["split"].values()) == 300
    assert profile["imageSize"] == 64
    suggested = seen.found["suggested"]
    assert suggested["recipe"]["value"] == "image-classification"
    assert suggested["params"]["imageSize"]["value"] == 32
    assert seen.file["samples"][0]["shownAs"] == [64, 64]
