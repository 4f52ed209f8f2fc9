"""The manifests of `examples/` and the program of the documentation, on a laptop: without Kubernetes, less of each."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from support import tiny_models

REPO = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (REPO / "examples").glob("training-*.yaml"))
PROGRAM = re.findall(r"```python\n(.*?)```", (REPO / "docs/custom.md").read_text(), re.DOTALL)[0]
LESS: dict[str, dict[str, Any]] = {
    "training-causal-lm.yaml": {"causalLM": {"epochs": 1, "sequenceLength": 64}},
    "training-image.yaml": {"image": {"epochs": 1, "imageSize": 16}},
    "training-tabular-auto.yaml": {"tabular": {"epochs": 2}},
    "training-tabular.yaml": {"tabular": {"epochs": 2}},
    "training-text.yaml": {"text": {"epochs": 1}},
    "training-text-to-image.yaml": {"textToImageLoRA": {"maxSteps": 2, "sampleEvery": 2, "resolution": 64}},
}


def started(manifest: Path, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "modelyard_training.cli.main", "run", manifest, *words]
    environment = {**os.environ, "PYTHONPATH": str(REPO / "training"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(word) for word in command], env=environment, stderr=subprocess.PIPE, text=True)


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def pictures(folder: Path, count: int) -> None:
    random = np.random.default_rng(3)
    for number in range(count):
        path = folder / ("light" if number % 2 else "dark") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        level = 200 if number % 2 else 20
        Image.fromarray(random.integers(level, level + 50, (64, 64, 3), dtype=np.uint8)).save(path)
        path.with_suffix(".txt").write_text(path.parent.name)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs_on_a_laptop(example: str, tmp_path: Path, digits_csv: str, minilm: Path) -> None:
    document = yaml.safe_load((REPO / "examples" / example).read_text())
    recipe = document["spec"]["recipe"]
    for block, less in LESS.get(example, {}).items():
        recipe[block].update(less)
    manifest, data, output = tmp_path / "training.yaml", tmp_path / "data", tmp_path / "output"
    manifest.write_text(yaml.safe_dump(document))
    data.mkdir()
    models: dict[str, Callable[[], Path]] = {
        "training-causal-lm.yaml": lambda: tiny_models.language_model(tmp_path / "llama", "llama"),
        "training-text.yaml": lambda: minilm,
        "training-text-to-image.yaml": lambda: tiny_models.pipeline(tmp_path / "sdxl", "sdxl"),
    }
    if recipe["name"].startswith("image"):
        pictures(data / "train", 24)
        pictures(data / "held-out", 8)
    elif recipe["name"] == "text-to-image-lora":
        pictures(data, 6)
    elif recipe["name"].startswith("text"):
        for file in ("train.jsonl", "test.jsonl"):
            (data / file).write_text(
                lines([{"text": f"{'good' if i % 2 else 'bad'} {i}", "label": i % 2} for i in range(20)])
            )
    elif recipe["name"] == "causal-lm":
        said = [
            [{"role": "user", "content": f"{i} and 1?"}, {"role": "assistant", "content": str(i + 1)}]
            for i in range(20)
        ]
        (data / "chats.jsonl").write_text(lines([{"messages": one} for one in said]))
    else:
        (data / "rows.csv").write_text(digits_csv)

    words: list[object] = ["--dataset", data, "--output", output]
    if example in models:
        words += ["--model", models[example]()]
    running = started(manifest, *words)
    said_of_it = running.communicate(timeout=300)[1]
    assert running.returncode == 0, said_of_it
    assert f"The result is in {output / 'model'}" in said_of_it
    if recipe["name"] == "custom":
        assert json.loads((output / "model" / "counts.json").read_text()) == {"lines": 1798, "unit": "lines"}
        assert "lines 1798" in said_of_it
    else:
        assert json.loads((output / "metadata.json").read_text())["recipe"] == recipe["name"]
        assert (output / "model" / "README.md").is_file()


def test_the_documented_program_stops_and_goes_on(tmp_path: Path) -> None:
    manifest, output = tmp_path / "training.yaml", tmp_path / "output"

    def write(steps: int) -> None:
        spec = {
            "recipe": {"name": "custom", "custom": {"command": [sys.executable, "-c", PROGRAM]}},
            "compute": {"env": [{"name": "STEPS", "value": str(steps)}]},
        }
        kind = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Training", "metadata": {"name": "mine"}}
        manifest.write_text(yaml.safe_dump({**kind, "spec": spec}))

    write(1_000_000)
    stopped = started(manifest, "--output", output)
    while not list(output.glob("checkpoints/step-*/complete.json")) and stopped.poll() is None:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    said = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 75, said
    assert "The same command goes on from there." in said
    step = max(int(path.parent.name[5:]) for path in output.glob("checkpoints/step-*/complete.json"))
    write(step + 100)
    again = started(manifest, "--output", output)
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said
    assert (output / "model" / "weights.json").is_file()
    # What was computed before the stop was not computed again.
    assert f"step {step + 1}/{step + 100}" in said


@pytest.mark.parametrize(
    ("custom", "words"),
    [
        ({}, "spec.recipe.custom.command is needed"),
        ({"command": ["no-such-program"]}, "The command no-such-program can't be started on this machine"),
    ],
)
def test_a_program_that_is_not_there(custom: dict[str, Any], words: str, tmp_path: Path) -> None:
    kind = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Training", "metadata": {"name": "mine"}}
    manifest = tmp_path / "training.yaml"
    manifest.write_text(yaml.safe_dump({**kind, "spec": {"recipe": {"name": "custom", "custom": custom}}}))
    running = started(manifest, "--output", tmp_path / "output")
    said = running.communicate(timeout=60)[1]
    assert running.returncode == 64
    assert words in said
