"""The command line on a laptop: the same manifest as in a cluster, resume, help, other tools' configs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.resources.training.spec import TrainingSpec
from modelyard_training.cli import commands, convert, local, main, manifest
from modelyard_training.params import RECIPES

REPO = Path(__file__).parents[2]
TRAINING = """
apiVersion: modelyard.dev/v1alpha1
kind: ModelSource
metadata: {name: hub}
spec: {type: HUGGING_FACE}
---
apiVersion: modelyard.dev/v1alpha1
kind: Training
metadata: {name: digits}
spec:
  dataset:
    source: {sourceRef: hub, repo: data/digits}
  recipe:
    name: tabular-classification
    tabular: {epochs: 12, batchSize: 32, hiddenSizes: [64], earlyStopping: {patience: 0}}
    determinism: Bitwise
  checkpoint: {everySteps: 20, keep: 2, graceSeconds: 60}
  compute: {gpu: none, cpu: "2"}
"""
AXOLOTL = """
base_model: NousResearch/Meta-Llama-3-8B
model_type: AutoModelForCausalLM
load_in_8bit: false
load_in_4bit: true
datasets:
  - path: tatsu-lab/alpaca
    type: alpaca
  - path: another/set
    type: alpaca
val_set_size: 0.05
adapter: qlora
sequence_len: 4096
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_modules:
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 4
optimizer: paged_adamw_32bit
lr_scheduler: cosine
learning_rate: 0.0002
train_on_inputs: false
bf16: auto
gradient_checkpointing: true
flash_attention: true
warmup_steps: 10
saves_per_epoch: 1
weight_decay: 0.0
neftune_noise_alpha: 5
special_tokens:
  pad_token: "<|end_of_text|>"
"""
AI_TOOLKIT = """
---
job: extension
config:
  name: "my_first_flux_lora_v1"
  process:
    - type: sd_trainer
      training_folder: output
      device: cuda:0
      trigger_word: p3r5on
      network: {type: lora, linear: 16, linear_alpha: 32}
      save: {dtype: float16, save_every: 250, max_step_saves_to_keep: 4}
      datasets:
        - folder_path: /path/to/images
          caption_ext: txt
          caption_dropout_rate: 0.05
          shuffle_tokens: false
          resolution: [512, 768, 1024]
      train:
        batch_size: 1
        steps: 2000
        gradient_checkpointing: true
        noise_scheduler: flowmatch
        optimizer: adamw8bit
        lr: 1e-4
        ema_config: {use_ema: true, ema_decay: 0.99}
      model:
        name_or_path: black-forest-labs/FLUX.1-schnell
        assistant_lora_path: ostris/FLUX.1-schnell-training-adapter
        is_flux: true
        quantize: true
      sample:
        sample_every: 250
        prompts: ["[trigger] holding a sign"]
        seed: 42
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "modelyard_training.cli.main", *map(str, words)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPO / "training"), "OMP_NUM_THREADS": "1"}


def test_a_manifest_runs_stops_and_goes_on(tmp_path: Path, digits_csv: str) -> None:
    data, file = tmp_path / "digits.csv", tmp_path / "training.yaml"
    data.write_text(digits_csv)
    file.write_text(TRAINING)

    def start(output: str) -> subprocess.Popen[str]:
        words = command("run", file, "--dataset", data, "--output", tmp_path / output)
        return subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)

    undisturbed = start("undisturbed")
    said = undisturbed.communicate(timeout=300)[1]
    assert undisturbed.returncode == 0, said
    assert "spec.compute, spec.checkpoint.graceSeconds have no effect here" in said
    assert "epoch 12/12" in said
    assert f"The result is in {tmp_path / 'undisturbed' / 'model'}" in said

    stopped = start("stopped")
    deadline = time.monotonic() + 120
    while not list((tmp_path / "stopped").glob("checkpoints/step-*/complete.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGINT)
    said = stopped.communicate(timeout=300)[1]
    assert stopped.returncode == 75, said
    assert "The same command goes on from there." in said
    again = start("stopped")
    assert again.wait(300) == 0
    metadata = json.loads((tmp_path / "stopped" / "metadata.json").read_text())
    assert metadata["resumedFrom"] > 0
    assert metadata["training"]["name"] == "digits"
    rows = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("stopped", "undisturbed")]
    assert rows[0] == rows[1]


def test_bad_input_is_a_sentence_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    file = tmp_path / "training.yaml"
    file.write_text(TRAINING)
    words = command("run", file, "--dataset", tmp_path / "a.csv", "--output", tmp_path / "out")
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert done.returncode == 64
    assert "BadInput: The data set has no column 'target'" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["spec"].update(recipes={}), "spec has no field 'recipes' (did you mean recipe?)"),
        (lambda d: d["spec"]["recipe"].update(name="tabular"), "spec.recipe.name is 'tabular'"),
        (lambda d: d["spec"]["recipe"]["tabular"].update(epoch=3), "spec.recipe.tabular.epoch: Extra inputs"),
        (lambda d: d["spec"]["recipe"].update(text={}), "spec.recipe.text does not belong to tabular-classification"),
        (
            lambda d: d["spec"]["dataset"].update(colums={}),
            "spec.dataset has no field 'colums' (did you mean columns?)",
        ),
        (lambda d: d.update(kind="Model"), "has no Training"),
    ],
)
def test_wrong_manifests(change: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = list(yaml.safe_load_all(TRAINING))[1]
    change(document)
    file = tmp_path / "training.yaml"
    file.write_text(yaml.safe_dump(document))
    assert commands.main(["run", str(file)]) == 64
    assert words in capsys.readouterr().err


def test_places_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "training.yaml"
    file.write_text(TRAINING)
    assert commands.main(["run", str(file)]) == 64
    assert "say with --dataset where it is on this machine" in capsys.readouterr().err
    assert commands.main(["run", str(file), "--dataset", "absent"]) == 64
    assert "--dataset: there is no absent." in capsys.readouterr().err


def test_what_is_saved_is_chosen_here_too(tmp_path: Path) -> None:
    document = list(yaml.safe_load_all(TRAINING))[1]
    spec = document["spec"]
    spec["save"] = {"model": "digits", "version": "v1", "checkpoint": "Last", "form": "Merged"}
    spec["recipe"]["unsetParams"] = "Suggested"
    found = manifest.of("digits", spec)
    assert (found.config.weights, found.config.form) == ("Last", "Merged")
    assert "spec.save.model, spec.save.version, spec.recipe.unsetParams have no effect here." in found.notes[0]
    spec["save"]["checkpoint"] = "step-40"
    found = manifest.of("digits", spec)
    assert found.config.weights is None
    assert "samples/ of the output" in found.notes[1]
    with pytest.raises(manifest.ManifestError, match="did you mean version"):
        manifest.of("digits", {**spec, "save": {"model": "digits", "versoin": "v1"}})


def test_an_adapter_is_gone_on_from_here_too(tmp_path: Path) -> None:
    spec = {"model": {"ref": {"name": "chat", "version": "v1"}}, "dataset": {}, "recipe": {"name": "causal-lm"}}
    for name in ("base", "adapter", "data"):
        (tmp_path / name).mkdir()
    places = local.Places(
        model=tmp_path / "base",
        adapter=tmp_path / "adapter",
        assistant=None,
        dataset=tmp_path / "data",
        output=tmp_path / "out",
        processes=1,
        restart=False,
    )
    told = local._environment(manifest.of("further", spec), places)
    assert told["MODELYARD_ADAPTER"] == str(tmp_path / "adapter")
    assert json.loads(told["MODELYARD_CONFIG"])["adapter"] == {"name": "chat", "version": "v1"}
    with pytest.raises(manifest.ManifestError, match="--adapter: there is no"):
        local._environment(manifest.of("further", spec), replace(places, adapter=tmp_path / "absent"))


def test_a_mistyped_command_is_told(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in os.environ if name.startswith("MODELYARD_")]:
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main.main(["runn", "training.yaml"])
    assert "invalid choice: 'runn'" in capfd.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == 0
    assert "train a manifest on this machine" in capfd.readouterr().out
    # In a pod a word that is no command of ours is the user's program, and no word is the agent.
    monkeypatch.setenv("MODELYARD_OUTPUT", "/absent")
    assert main.main(["runn"]) == 64
    assert "The output folder /absent is not there" in capfd.readouterr().err


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_help_names_every_parameter(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main([recipe, "--help"]) == 0
    said = capsys.readouterr().out
    for name, info in RECIPES[recipe].params.model_fields.items():
        assert f"  {info.alias or name}  " in said
    if recipe != "custom":
        assert "Unset: 1.0 (one odd batch cannot throw the weights away)." in " ".join(said.split())


def test_axolotl(tmp_path: Path) -> None:
    file = tmp_path / "Llama 3.yml"
    file.write_text(AXOLOTL)
    found = convert.convert(file)
    spec = TrainingSpec.model_validate(found.document["spec"])
    assert found.document["metadata"]["name"] == "llama-3"
    assert found.document["spec"]["model"]["ref"] == {"name": "meta-llama-3-8b", "version": "main"}
    block = spec.recipe.params().model_dump(by_alias=True, exclude_none=True)
    assert block == {
        "method": "QLoRA",
        "sequenceLength": 4096,
        "packing": True,
        "batchSize": 2,
        "gradientAccumulation": 4,
        "epochs": 4,
        "learningRate": 2e-4,
        "schedule": "Cosine",
        "weightDecay": 0.0,
        "activationCheckpointing": True,
        "lossOn": "Assistant",
        "lora": {"rank": 32, "alpha": 16.0, "dropout": 0.05},
    }
    left_out = "\n".join(found.left_out)
    for words in (
        "warmup_steps: 10",
        "optimizer: paged_adamw_32bit (it is AdamW",
        "saves_per_epoch",
        "datasets[1]",
        "neftune_noise_alpha: 5",
        "special_tokens",
        "flash_attention: true (the attention is chosen",
    ):
        assert words in left_out
    assert "load_in" not in left_out
    assert manifest.read(written(tmp_path, found)).config.recipe == "causal-lm"


def test_ai_toolkit(tmp_path: Path) -> None:
    file = tmp_path / "flux.yaml"
    file.write_text(AI_TOOLKIT)
    found = convert.convert(file)
    config = manifest.read(written(tmp_path, found)).config
    assert found.document["metadata"]["name"] == "my-first-flux-lora-v1"
    assert found.document["spec"]["model"]["assistantRef"]["name"] == "flux-1-schnell-training-adapter"
    assert config.block().model_dump(by_alias=True, exclude_none=True) == {
        "prompt": "p3r5on",
        "resolution": 1024,
        "captionDropout": 0.05,
        "sampleEvery": 250,
        "samplePrompts": ["p3r5on holding a sign"],
        "maxSteps": 2000,
        "batchSize": 1,
        "learningRate": 1e-4,
        "activationCheckpointing": True,
        "lora": {"rank": 16, "alpha": 32.0},
    }
    left_out = "\n".join(found.left_out)
    for words in ("train.ema_config", "train.optimizer: adamw8bit", "save.dtype: float16", "model.quantize: true"):
        assert words in left_out
    assert "resolution: [512, 768, 1024]" in left_out
    # The list stands above the manifest too.
    assert found.text().startswith("# Not carried over: ")


def written(folder: Path, found: convert.Converted) -> Path:
    path = folder / "converted.yaml"
    path.write_text(found.text())
    return path


def test_what_is_no_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("pretrained_model_name_or_path: x\n")
    assert commands.main(["convert", str(file)]) == 64
    assert "is no axolotl config (base_model) and none of ai-toolkit" in capsys.readouterr().err
    file.write_text("a: [")
    assert commands.main(["convert", str(file)]) == 64
    assert "is not valid YAML (line 1)" in capsys.readouterr().err
