"""Image adapters: stock diffusers draws the same pictures with them, resume is exact, a prompt alone makes a slider."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from modelyard_training.core import files
from modelyard_training.core.run import Run, read_config
from modelyard_training.core.stop import Stop
from modelyard_training.core.world import World
from modelyard_training.params import resolve
from modelyard_training.recipes import text_to_image
from support import tiny_models

PROMPT = "a red square"
# Alpha is not the rank: an adapter that lost its settings would draw something else.
LORA = {"rank": 4, "alpha": 16, "dropout": 0.0}

STOCK = """
import importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
import numpy as np, torch
from diffusers import DiffusionPipeline
torch.set_num_threads(1)
steps = {"sd15": 25, "sdxl": 25, "flux-dev": 20, "flux-schnell": 4}
guidance = {"sd15": 7.0, "sdxl": 6.0, "flux-dev": 3.5, "flux-schnell": 0.0}
found = {}
for name, (base, adapter) in json.load(sys.stdin).items():
    pipeline = DiffusionPipeline.from_pretrained(base)
    pipeline.set_progress_bar_config(disable=True)
    more = {"negative_prompt": ""} if name == "sdxl" else {}
    if name.startswith("flux"):
        more["max_sequence_length"] = 64
    pictures = []
    for load in (False, True):
        if load:
            pipeline.load_lora_weights(adapter)
        image = pipeline(
            "a red square", height=64, width=64, num_inference_steps=steps[name], guidance_scale=guidance[name],
            generator=torch.Generator().manual_seed(17), **more
        ).images[0]
        pictures.append(np.asarray(image).tolist())
    found[name] = pictures
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A tiny pipeline, made once."""
    root, made = tmp_path_factory.mktemp("pipelines"), {}

    def base(kind: str) -> Path:
        if kind not in made:
            made[kind] = tiny_models.pipeline(root / kind, kind)
        return made[kind]

    return base


@pytest.fixture(scope="session")
def assistant(tmp_path_factory: pytest.TempPathFactory, bases: Callable[[str], Path]) -> Path:
    """An adapter as FLUX.1-schnell's: of the stock library, with weights that matter."""
    from diffusers import FluxPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    folder = tmp_path_factory.mktemp("assistant")
    pipeline = FluxPipeline.from_pretrained(bases("flux-schnell"))
    settings = LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    pipeline.transformer.add_adapter(settings)
    FluxPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(pipeline.transformer),
        transformer_lora_adapter_metadata=pipeline.transformer.peft_config["default"].to_dict(),
    )
    return folder


def pictures(folder: Path, count: int = 6, size: tuple[int, int] = (64, 64), captions: bool = True) -> None:
    """Red squares at several places, each with its caption."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = np.full((size[1], size[0], 3), 30, dtype=np.uint8)
        at = 4 + 4 * number % 24
        pixels[at : at + 30, at : at + 30] = (220, 20, 30)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if captions:
            (folder / f"{number}.txt").write_text(PROMPT if number % 2 else "a square")


def config_of(params: dict[str, Any], *, dataset: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    short = {"resolution": 64, "maxSteps": 8, "batchSize": 2, "lora": LORA, "learningRate": 5e-3, **params}
    found = {"recipe": "text-to-image-lora", "params": {"samplePrompts": [PROMPT], **short}, **more}
    return {**found, "dataset": dataset} if dataset is not None else found


def build(trainer: Any) -> Any:
    told = read_config(json.dumps(trainer.config))
    world = World(0, 1, torch.device("cpu"))
    return text_to_image.build(Run(told, resolve(told.block()), world, Stop(), trainer.environment()))


def test_stock_diffusers_draws_the_same_pictures(
    trainer: Callable[..., Any], bases: Callable[[str], Path], assistant: Path
) -> None:
    asked, ours = {}, {}
    for kind in tiny_models.PIPELINES:
        config = config_of({"sampleEvery": 5}, dataset={})
        more: dict[str, Any] = {}
        if kind == "flux-schnell":
            config["assistant"] = {"name": "assistant"}
            more["extra"] = {"MODELYARD_ASSISTANT": str(assistant)}
        run = trainer(config, name=kind, model=bases(kind), **more)
        pictures(run.root / "data")
        code, result = run.here()
        assert code == 0, result
        assert result["summary"]["kind"] == "Adapter"
        assert sorted(p.name for p in (run.output / "samples").iterdir()) == ["step-00000005", "step-00000008"]
        names = ["00.png", "grid.png", "pytorch_lora_weights.safetensors"]
        assert sorted(p.name for p in (run.output / "samples" / "step-00000005").iterdir()) == names
        exported = ["README.md", "curves.png", "pytorch_lora_weights.safetensors"]
        assert list(files.listing(run.output / "model")) == exported
        last = run.output / "samples" / "step-00000008"
        assert files.sha256(last / names[2]) == files.sha256(run.output / "model" / names[2])
        asked[kind] = (str(bases(kind)), str(run.output / "model"))
        ours[kind] = np.asarray(Image.open(last / "00.png"), dtype=np.int64)
    command = [sys.executable, "-I", "-c", STOCK]
    said = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=True).stdout
    for kind, (without, with_adapter) in json.loads(said).items():
        # One level of 255 is what another number of threads makes of the same floats.
        assert np.abs(np.array(with_adapter) - ours[kind]).max() <= 1, kind
        assert np.abs(np.array(without) - ours[kind]).max() > 8, kind


@pytest.mark.parametrize("kind", ["sd15", "flux-dev"])
def test_it_learns_its_pictures(kind: str, trainer: Callable[..., Any], bases: Callable[[str], Path]) -> None:
    params = {"maxSteps": 60, "sampleEvery": 1000, "batchSize": 4, "captionDropout": 0.0, "flip": True}
    config = config_of(params, dataset={"split": {"validationFraction": 0.25}})
    run = trainer(config, model=bases(kind))
    pictures(run.root / "data", 8)
    assert run.here()[0] == 0
    held = [row["validationLoss"] for row in run.rows() if "epoch" in row]
    assert held[-1] < held[0]
    assert run.metadata()["testSamples"] == 2


def same(one: Any, other: Any) -> bool:
    """Whether two runs have the same losses, adapters and sample pictures, byte by byte."""
    folders = ("model", "samples")
    alike = [files.listing(one.output / name) == files.listing(other.output / name) for name in folders]
    return all(alike) and one.rows() == other.rows()


def test_killed_and_resumed_is_bit_identical(
    trainer: Callable[..., Any],
    bases: Callable[[str], Path],
    wait_for: Callable[..., None],
    done: Callable[..., Any],
) -> None:
    params = {"maxSteps": 16, "sampleEvery": 6, "lora": {**LORA, "dropout": 0.1}, "captionDropout": 0.3, "flip": True}
    policy = {"everySteps": 2, "keep": 2}
    config = config_of(params, dataset={}, checkpoint=policy, determinism="Bitwise")
    undisturbed, killed = (trainer(config, name=name, model=bases("sd15")) for name in ("undisturbed", "killed"))
    for run in (undisturbed, killed):
        pictures(run.root / "data")
    assert undisturbed.run()[0] == 0
    process = killed.start()
    wait_for(lambda: max([0, *killed.steps()]) >= 6 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert done(process)[0] == -signal.SIGKILL
    assert killed.run()[0] == 0
    assert killed.metadata()["resumedFrom"] > 0
    assert same(killed, undisturbed)


def test_slider_stopped_and_resumed_is_bit_identical(
    trainer: Callable[..., Any], bases: Callable[[str], Path], assistant: Path, stop_later: Callable[[int], Stop]
) -> None:
    params = {"prompt": PROMPT, "maxSteps": 10, "sampleEvery": 4, "lora": {**LORA, "dropout": 0.1}}
    config = {**config_of(params), "assistant": {"name": "assistant"}}
    extra = {"MODELYARD_ASSISTANT": str(assistant)}
    undisturbed, stopped = (
        trainer(config, name=name, model=bases("flux-schnell"), extra=extra) for name in ("undisturbed", "stopped")
    )
    assert undisturbed.here()[0] == 0
    code, result = stopped.here(stop_later(12))
    assert code == 75
    assert 0 < result["step"] < 10
    assert stopped.here()[0] == 0
    assert same(stopped, undisturbed)


@pytest.mark.parametrize("kind", ["sdxl", "flux-schnell"])
def test_a_prompt_alone_makes_a_slider(
    kind: str, trainer: Callable[..., Any], bases: Callable[[str], Path], assistant: Path
) -> None:
    params = {"prompt": PROMPT, "oppositePrompt": "nothing", "maxSteps": 40, "sampleEvery": 1000, "learningRate": 1e-2}
    config = config_of(params)
    if kind == "flux-schnell":
        config["assistant"] = {"name": "assistant"}
    run = trainer(config, model=bases(kind), extra={"MODELYARD_ASSISTANT": str(assistant)})
    code, result = run.here()
    assert code == 0, result
    losses = [row["loss"] for row in run.rows() if "epoch" not in row]
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])
    assert run.metadata()["trainSamples"] == 0


def test_shapes_captions_and_broken_pictures(trainer: Callable[..., Any], bases: Callable[[str], Path]) -> None:
    params = {"prompt": "of a thing", "resolution": 128, "sampleEvery": 1000, "maxSteps": 3}
    run = trainer(config_of(params, dataset={}), model=bases("flux-dev"))
    data = run.root / "data"
    pictures(data / "wide", 6, (256, 128))
    pictures(data / "square", 6, (200, 200), captions=False)
    pictures(data / "small", 1, (70, 70))
    (data / "broken.png").write_bytes((data / "wide" / "0.png").read_bytes()[:200])
    assert run.here()[0] == 0
    notes = run.metadata()["notes"]
    assert notes["brokenPictures"] == 1
    assert notes["buckets"] == ["64x64", "176x96", "128x128"]
    task = build(run)
    said = {p.caption for p in task._found.train}
    assert said == {"of a thing", PROMPT, "a square"}
    for batch in task.batches(0):
        assert len({task._found.train[i].bucket for i in batch.tolist()}) == 1
    assert sorted(torch.cat(list(task.batches(3))).tolist()) == list(range(13))


@pytest.mark.parametrize("how", ["jsonl", "parquet"])
def test_tables_of_pictures(how: str, trainer: Callable[..., Any], bases: Callable[[str], Path]) -> None:
    import polars as pl

    run = trainer(config_of({"maxSteps": 1, "sampleEvery": 1000}, dataset={}), model=bases("sd15"))
    data = run.root / "data"
    pictures(run.root / "there", 4, captions=False)
    if how == "jsonl":
        data.mkdir(exist_ok=True)
        (run.root / "there").rename(data / "images")
        rows = [{"file_name": f"images/{n}.png", "text": f"number {n}"} for n in range(4)]
        (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        found = [(run.root / "there" / f"{n}.png").read_bytes() for n in range(4)]
        rows = [{"image": {"bytes": b, "path": "x.png"}, "caption": f"number {n}"} for n, b in enumerate(found)]
        pl.DataFrame(rows).write_parquet(data / "a.parquet")
    assert run.here()[0] == 0
    assert {p.caption for p in build(run)._found.train} == {f"number {n}" for n in range(4)}


def test_bad_input_is_64_and_a_sentence(
    trainer: Callable[..., Any], bases: Callable[[str], Path], tiny_bert: Path
) -> None:
    def refused(params: dict[str, Any], words: str, *, base: Path, how: str = "good", name: str) -> None:
        dataset = None if how == "none" else {}
        run = trainer(config_of(params, dataset=dataset), name=name, model=base)
        if how == "good":
            pictures(run.root / "data")
        if how in ("uncaptioned", "broken"):
            pictures(run.root / "data", captions=False)
        if how == "broken":
            for number in range(3):
                (run.root / "data" / f"{number}.png").write_bytes(b"no picture")
        code, result = run.here()
        assert code == 64
        assert words in result["message"]

    base = bases("sd15")
    refused({}, "no diffusers pipeline", base=tiny_bert, name="bert")
    refused({}, "set model.assistantRef to its training adapter", base=bases("flux-schnell"), name="schnell")
    refused({}, "0.png has no caption", base=base, how="uncaptioned", name="uncaptioned")
    refused({"prompt": "x"}, "3 of 6 pictures can't be read, 0.png", base=base, how="broken", name="broken")
    refused({}, "There is no picture in the data set", base=base, how="empty", name="empty")
    refused({}, "Training without pictures needs a prompt", base=base, how="none", name="none")
    refused({"lora": {"targetModules": ["nothing"]}}, "no layers called nothing", base=base, name="targets")


def test_a_full_disk_is_told_when_samples_do_not_fit(
    trainer: Callable[..., Any],
    bases: Callable[[str], Path],
    files_up_to: Callable[[int], AbstractContextManager[None]],
) -> None:
    run = trainer(config_of({"sampleEvery": 2}, dataset={}), model=bases("sd15"))
    pictures(run.root / "data")
    with files_up_to(16 * 1024):
        code, result = run.here()
    assert (code, result["reason"]) == (64, "DiskFull")
    assert result["message"].startswith("The output volume is full: the samples of step 2 could not be written.")
    assert not (run.output / "samples" / "step-00000002").exists()
    assert run.here()[0] == 0


def test_an_adapter_is_trained_further(trainer: Callable[..., Any], bases: Callable[[str], Path]) -> None:
    config = config_of({"sampleEvery": 8}, dataset={})
    first = trainer(config, name="first", model=bases("sd15"))
    # Steps of no size: what comes out is what went in.
    params = {**config["params"], "learningRate": 1e-12, "weightDecay": 0.0, "lora": {}}
    still = {**config, "params": params, "adapter": {"name": "first", "kind": "Adapter"}}
    further = trainer(
        still, name="further", model=bases("sd15"), extra={"MODELYARD_ADAPTER": str(first.output / "model")}
    )
    for run in (first, further):
        pictures(run.root / "data")
        code, result = run.here()
        assert code == 0, result
    name = "pytorch_lora_weights.safetensors"
    before, after = (load_file(run.output / "model" / name) for run in (first, further))
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[k], after[k], atol=1e-6) for k in before)
