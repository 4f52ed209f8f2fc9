"""Image recipes on scikit-learn's digits: quality, ways to keep pictures, exact resume, what stock libraries load."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from modelyard_training.core import files

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

ALONE = """
import importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
import torch
from PIL import Image
folder, how, *paths = sys.argv[1:]
pictures = [Image.open(path).convert("RGB") for path in paths]
if how == "transformers":
    from transformers import AutoImageProcessor, AutoModelForImageClassification
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    pixels = AutoImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = model(pixel_values=pixels).logits
    names = [model.config.id2label[i] for i in range(model.config.num_labels)]
else:
    import timm
    model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
    change = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        found = model(torch.stack([change(p) for p in pictures]))
    names = model.pretrained_cfg["label_names"]
print(json.dumps({"outputs": found.tolist(), "names": names}))
"""


def alone(model: Path, how: str, pictures: list[Path]) -> tuple[np.ndarray, list[str]]:
    """What the saved files say in an isolated interpreter that can't see our package."""
    command = [sys.executable, "-I", "-c", ALONE, str(model), how, *map(str, pictures)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=model)
    found = json.loads(out.stdout.splitlines()[-1])
    return np.array(found["outputs"]), found["names"]


def digits(count: int | None = None) -> Iterator[tuple[bytes, int]]:
    from sklearn import datasets

    found = datasets.load_digits()
    for values, label in list(zip(found.images, found.target, strict=True))[:count]:
        buffer = io.BytesIO()
        Image.fromarray((values * 15.9).astype(np.uint8)).resize((32, 32), Image.Resampling.BILINEAR).save(
            buffer, "png"
        )
        yield buffer.getvalue(), int(label)


def as_folders(root: Path, count: int | None = None) -> None:
    for number, (content, label) in enumerate(digits(count)):
        path = root / str(label) / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def as_shards(root: Path, count: int) -> None:
    found = list(digits(count))
    for shard in range(2):
        with tarfile.open(root / f"digits-{shard}.tar", "w") as tar:
            for number, (content, label) in enumerate(found[shard::2]):
                written = {"png": content}
                written |= (
                    {"cls": str(label).encode()} if number % 2 else {"json": json.dumps({"label": label}).encode()}
                )
                for ending, value in written.items():
                    member = tarfile.TarInfo(f"part/{number:04d}.{ending}")
                    member.size = len(value)
                    tar.addfile(member, io.BytesIO(value))
            link = tarfile.TarInfo("part/9999.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)


CONFIG: dict[str, Any] = {
    "recipe": "image-classification",
    "params": {"epochs": 1, "imageSize": 16, "batchSize": 32},
    "dataset": {},
}


def test_digits_reach_their_accuracy_and_load_in_transformers(trainer: Callable[..., Any]) -> None:
    config = {**CONFIG, "params": {"epochs": 8, "imageSize": 32}}
    run = trainer(config)
    as_folders(run.root / "data")
    code, result = run.here()
    assert code == 0, result
    assert result["summary"]["metrics"]["accuracy"] >= 0.97
    assert {"f1", "auroc"} <= set(result["summary"]["metrics"])
    metadata = run.metadata()
    assert metadata["classes"] == [str(i) for i in range(10)]
    assert (metadata["trainSamples"], metadata["testSamples"]) == (1438, 359)
    pictures = sorted((run.root / "data").glob("*/*.png"))[::40]
    found, names = alone(run.output / "model", "transformers", pictures)
    truth = [path.parent.name for path in pictures]
    assert np.mean([names[i] == t for i, t in zip(found.argmax(1), truth, strict=True)]) >= 0.97


def test_every_way_to_keep_pictures_is_read_alike(trainer: Callable[..., Any]) -> None:
    found = list(digits(120))
    table = pl.DataFrame({"image": [{"bytes": c, "path": None} for c, _ in found], "label": [y for _, y in found]})
    runs = {name: trainer(CONFIG, name=name) for name in ("folders", "parquet", "tar", "paths")}
    as_folders(runs["folders"].root / "data", 120)
    table.write_parquet(runs["parquet"].root / "data" / "digits.parquet")
    as_shards(runs["tar"].root / "data", 120)
    as_folders(runs["paths"].root / "data", 120)
    rows = [f"{label}/{number:04d}.png,{label}" for number, (_, label) in enumerate(found)]
    (runs["paths"].root / "data" / "labels.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    for name, run in runs.items():
        code, result = run.here()
        assert code == 0, (name, result)
        metadata = run.metadata()
        assert metadata["classes"] == [str(i) for i in range(10)], name
        assert metadata["trainSamples"] + metadata["testSamples"] == 120, name
    # The same rows in the same order are the same run.
    assert runs["paths"].rows() == runs["parquet"].rows()


def test_pictures_that_do_not_fit_into_memory_are_decoded_when_wanted(
    trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modelyard_training.recipes.image import pictures

    kept, streamed = trainer(CONFIG, name="kept"), trainer(CONFIG, name="streamed")
    for run in (kept, streamed):
        as_folders(run.root / "data", 200)
    assert kept.here()[0] == 0
    monkeypatch.setattr(pictures, "_MEMORY", 0)
    assert streamed.here()[0] == 0
    assert streamed.rows() == kept.rows()


@pytest.mark.parametrize("architecture", ["CNN", "ViT"])
def test_stopped_anywhere_and_resumed_is_bit_identical(
    architecture: str, trainer: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    params = {**CONFIG["params"], "architecture": architecture, "epochs": 2, "augment": "Strong"}
    config = {**CONFIG, "params": params, "determinism": "Bitwise", "checkpoint": {"everySteps": 3, "keep": 100}}
    run = trainer(config)
    as_folders(run.root / "data", 160)
    assert run.here()[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    run.forget_after(3)
    code, result = run.here()
    assert code == 0
    assert result["resumedFrom"] == 3
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


def test_two_processes_go_on_exactly(trainer: Callable[..., Any]) -> None:
    params = {**CONFIG["params"], "epochs": 2, "batchSize": 16}
    config = {**CONFIG, "params": params, "determinism": "Bitwise", "checkpoint": {"everySteps": 2, "keep": 100}}
    run = trainer(config)
    as_folders(run.root / "data", 160)
    assert run.run(*TORCHRUN)[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    run.forget_after(2)
    assert run.run(*TORCHRUN)[0] == 0
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


def test_a_pretrained_vit_and_a_timm_backbone_learn_and_load(trainer: Callable[..., Any], tmp_path: Path) -> None:
    import timm
    from timm.models import save_for_hf
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(3)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **shape)).save_pretrained(tmp_path / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "vit")
    save_for_hf(timm.create_model("test_resnet", num_classes=7), str(tmp_path / "timm"), safe_serialization=True)
    for base in ("vit", "timm"):
        params = {"epochs": 1, "augment": "None"} | ({"imageSize": 24} if base == "timm" else {})
        run = trainer({**CONFIG, "params": params, "model": {"kind": "Full"}}, name=f"on-{base}", model=tmp_path / base)
        as_folders(run.root / "data", 100)
        code, result = run.here()
        assert code == 0, (base, result)
        pictures = sorted((run.root / "data").glob("*/*.png"))[::10]
        found, names = alone(run.output / "model", "transformers", pictures)
        assert names == [str(i) for i in range(10)]
        assert found.shape == (10, 10)
        if base == "timm":
            stock, names = alone(run.output / "model", "timm", pictures)
            assert names == [str(i) for i in range(10)]
            np.testing.assert_allclose(stock, found, atol=1e-5)


def test_the_size_of_pictures_is_what_the_base_model_can_take(trainer: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import (
        BitImageProcessor,
        Dinov2Config,
        Dinov2ForImageClassification,
        ViTConfig,
        ViTForImageClassification,
    )

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    # As the real one: positions for larger pictures than those that it was made for.
    dino = Dinov2Config(image_size=56, patch_size=14, mlp_ratio=1, **shape)
    Dinov2ForImageClassification(dino).save_pretrained(tmp_path / "dino")
    BitImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}).save_pretrained(
        tmp_path / "dino"
    )
    vit = ViTConfig(image_size=16, patch_size=8, intermediate_size=32, **shape)
    ViTForImageClassification(vit).save_pretrained(tmp_path / "vit")
    sizes = {("dino", None): 28, ("dino", 42): 42, ("vit", None): 16, ("vit", 24): None}
    for (base, asked), found in sizes.items():
        params = {"epochs": 1, **({"imageSize": asked} if asked else {})}
        run = trainer(
            {**CONFIG, "params": params, "model": {"kind": "Full"}}, name=f"{base}-{asked}", model=tmp_path / base
        )
        as_folders(run.root / "data", 40)
        code, result = run.here()
        if found is None:
            assert code == 64
            assert "can't take pictures of 24 by 24: set imageSize to 16" in result["message"]
        else:
            assert code == 0, result
            assert run.metadata()["notes"]["imageSize"] == found


def test_regression_says_the_targets_unit(trainer: Callable[..., Any]) -> None:
    rows = [
        {"image": {"bytes": c, "path": ""}, "shade": float(np.asarray(Image.open(io.BytesIO(c))).mean())}
        for c, _ in digits(300)
    ]
    config = {
        **CONFIG,
        "recipe": "image-regression",
        "params": {"epochs": 6, "imageSize": 32, "augment": "None"},
        "dataset": {"columns": {"label": "shade"}},
    }
    run = trainer(config)
    pl.DataFrame(rows).write_parquet(run.root / "data" / "a.parquet")
    code, result = run.here()
    assert code == 0, result
    assert result["summary"]["metrics"]["r2"] >= 0.5
    pictures = []
    for number, row in enumerate(rows[:30]):
        pictures.append(run.root / f"{number}.png")
        pictures[-1].write_bytes(row["image"]["bytes"])
    found, _ = alone(run.output / "model", "transformers", pictures)
    truth = np.array([row["shade"] for row in rows[:30]])
    assert np.abs(found[:, 0] - truth).mean() < truth.std()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("broken", "3 of 40 pictures can't be read, 0/0000.png among them"),
        ("one class", "has only one class, '0'"),
        ("nothing", "There is no picture in the data set"),
        ("label", "The label 'x' at x/0001.png is not among the 9 labels of the training split"),
        ("size", "a ViT from scratch cuts pictures 8 by 8"),
        ("base", "architecture Pretrained needs a base model"),
        ("packed", "shard.tar.gz is compressed"),
        ("cut", "shard.tar is not a readable tar file"),
        ("outside", "is outside the data set"),
    ],
)
def test_bad_input_ends_with_a_sentence(change: str, words: str, trainer: Callable[..., Any]) -> None:
    config = json.loads(json.dumps(CONFIG))
    run = trainer(config)
    data = run.root / "data"
    if change not in ("nothing", "packed", "cut", "outside"):
        as_folders(data, 40)
    if change == "broken":
        for path in sorted(data.glob("*/*.png"))[:3]:
            path.write_bytes(path.read_bytes()[:60])
    if change == "one class":
        config["dataset"]["path"] = "0"
        (data / "0" / "0").mkdir()
        for path in sorted((data / "0").glob("*.png")):
            path.rename(data / "0" / "0" / path.name)
    if change == "label":
        (data / "train").mkdir()
        for label in range(9):
            (data / str(label)).rename(data / "train" / str(label))
        (data / "held" / "x").mkdir(parents=True)
        (data / "9").rename(data / "held" / "9")
        for number, path in enumerate(sorted((data / "held" / "9").glob("*.png"))):
            path.rename(data / "held" / "x" / f"{number + 1:04d}.png")
        config["dataset"]["split"] = {"train": "train", "validation": "held"}
    if change == "size":
        config["params"] |= {"architecture": "ViT", "imageSize": 20}
    if change == "base":
        config["params"]["architecture"] = "Pretrained"
    if change == "packed":
        (data / "shard.tar.gz").write_bytes(b"")
    if change == "cut":
        as_shards(data, 20)
        content = (data / "digits-0.tar").read_bytes()
        (data / "shard.tar").write_bytes(b"\xff" * 700 + content[700:1200])
    if change == "outside":
        (data / "a.csv").write_text("image,label\n../../secret.png,1\n")
    run.config.update(config)
    code, result = run.here()
    assert code == 64, result
    assert words in result["message"]


def test_a_few_broken_pictures_are_left_out_and_counted(trainer: Callable[..., Any]) -> None:
    run = trainer({**CONFIG, "params": {**CONFIG["params"], "maxBrokenShare": 0.1}})
    as_folders(run.root / "data", 80)
    for path in sorted((run.root / "data").glob("*/*.png"))[:2]:
        path.write_bytes(b"no picture")
    assert run.here()[0] == 0
    metadata = run.metadata()
    assert metadata["notes"]["brokenPictures"] == 2
    assert metadata["trainSamples"] + metadata["testSamples"] == 78
