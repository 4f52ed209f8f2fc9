"""A Training manifest of an axolotl or ai-toolkit config, and a list of what could not be carried over.

Whatever is not in a table here is in that list: nothing of the other config goes missing in silence. The tables were
read off axolotl's and ai-toolkit's own configuration classes and examples.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from modelyard_training.cli import manifest
from modelyard_training.cli.manifest import ManifestError

_SOURCE = "hub"
"""Name of the ModelSource that the manifest's data set comes from."""


@dataclass
class Converted:
    """The manifest, and one line for each thing that is not in it."""

    document: dict[str, Any]
    left_out: list[str]

    def text(self) -> str:
        """The manifest as YAML, the list as comments above it."""
        head = "".join(f"# Not carried over: {line}\n" for line in self.left_out)
        return head + yaml.safe_dump(self.document, sort_keys=False, allow_unicode=True)


@dataclass
class _Given:
    """The other tool's keys, of which each is taken once; what stays was not carried over."""

    values: dict[str, Any]
    left_out: list[str] = field(default_factory=list)

    def take(self, key: str, default: Any = None) -> Any:
        value = self.values.pop(key, default)
        return default if value is None else value

    def drop(self, key: str, why: str) -> None:
        if (value := self.values.pop(key, None)) not in (None, False, "", [], {}):
            self.left_out.append(f"{key}: {_short(value)} ({why})")

    def rest(self, prefix: str = "") -> list[str]:
        still = [f"{prefix}{k}: {_short(v)}" for k, v in self.values.items() if v not in (None, "", [], {})]
        return [prefix + line for line in self.left_out] + still


def _short(value: Any) -> str:
    text = " ".join(yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").split())
    return text if len(text) <= 80 else text[:77] + "…"


def convert(path: Path) -> Converted:
    """The config in a file, whichever of the two tools it is of. Raises `ManifestError`."""
    documents = manifest.load(path)
    config = documents[0] if documents else None
    if not isinstance(config, dict):
        raise ManifestError(f"{path} holds no configuration.")
    if "job" in config and isinstance(config.get("config"), dict):
        found = _ai_toolkit(config)
    elif "base_model" in config:
        found = _axolotl(config, path)
    else:
        raise ManifestError(f"{path} is no axolotl config (base_model) and none of ai-toolkit (job: extension).")
    spec = found.document["spec"]
    # What is written is what the trainer takes: a value out of its range is told here and not in the cluster.
    manifest.of(found.document["metadata"]["name"], spec)
    return found


def _document(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": "Training",
        "metadata": {"name": _slug(name)[:45].rstrip("-")},
        "spec": spec,
    }


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "training"


def _model(repo: str, revision: Any, left_out: list[str]) -> dict[str, str]:
    name, version = _slug(repo.rstrip("/").split("/")[-1])[:63].rstrip("-"), _slug(str(revision or "main"))[:63]
    left_out.append(f"base model {repo}: make a Model called {name} with a version {version} of that repository")
    return {"name": name, "version": version}


def _put(target: dict[str, Any], name: str, value: Any, as_: Callable[[Any], Any] = lambda v: v) -> None:
    if value is None:
        return
    try:
        target[name] = as_(value)
    except (TypeError, ValueError):
        raise ManifestError(f"{_short(value)} is no value for {name}.") from None


# ---- axolotl

_SCHEDULES = {
    "cosine": "Cosine",
    "linear": "Linear",
    "constant": "Constant",
    "constant_with_warmup": "Constant",
}
_NO_NEED = {
    "flash_attention": "the attention is chosen by the trainer",
    "sdp_attention": "the attention is chosen by the trainer",
    "attn_implementation": "the attention is chosen by the trainer",
    "pad_to_sequence_len": "rows are padded as far as they must be",
    "eval_sample_packing": "the held-out split is packed like the training split",
    "group_by_length": "packing makes it needless",
    "remove_unused_columns": "columns are named in dataset.columns",
    "output_dir": "the output is a volume",
    "dataset_prepared_path": "tokens are made anew in each attempt",
    "model_type": "it follows from the model's config.json",
    "tokenizer_type": "it follows from the model's files",
    "is_llama_derived_model": "it follows from the model's config.json",
    "strict": "unknown fields are always refused",
    "logging_steps": "every step is logged",
    "evals_per_epoch": "the held-out split is measured after each epoch",
    "eval_steps": "the held-out split is measured after each epoch",
    "resume_from_checkpoint": "a run goes on by itself",
    "auto_resume_from_checkpoints": "a run goes on by itself",
    "local_rank": "set by the launcher",
    "tf32": "the precision is a parameter of the recipe",
    "fp16": "there is no FP16: BF16 or FP32",
    "load_in_8bit": "there is no 8-bit base: QLoRA has 4 bits, LoRA 16",
    "hub_model_id": "see spec.export.huggingFace",
    "hub_strategy": "see spec.export.huggingFace",
    "trust_remote_code": "code of a repository is never run",
    "deepspeed": "several GPUs: causalLM.sharding",
    "fsdp": "several GPUs: causalLM.sharding",
    "fsdp_config": "several GPUs: causalLM.sharding",
    "wandb_project": "metrics are in status and metrics.jsonl",
    "wandb_entity": "metrics are in status and metrics.jsonl",
    "wandb_watch": "metrics are in status and metrics.jsonl",
    "wandb_name": "metrics are in status and metrics.jsonl",
    "wandb_log_model": "metrics are in status and metrics.jsonl",
}


def _axolotl(config: Mapping[str, Any], path: Path) -> Converted:
    given = _Given(dict(config))
    for key, why in _NO_NEED.items():
        given.drop(key, why)
    block: dict[str, Any] = {}
    base = str(given.take("base_model"))
    model = _model(base, given.take("revision_of_model"), given.left_out)
    _put(block, "method", _method(given))
    lora = _axolotl_lora(given)
    if lora and block["method"] != "Full":
        block["lora"] = lora
    for key, name, kind in (
        ("sequence_len", "sequenceLength", int),
        ("sample_packing", "packing", bool),
        ("micro_batch_size", "batchSize", int),
        ("gradient_accumulation_steps", "gradientAccumulation", int),
        ("num_epochs", "epochs", int),
        ("max_steps", "maxSteps", int),
        ("learning_rate", "learningRate", float),
        ("warmup_ratio", "warmupRatio", float),
        ("weight_decay", "weightDecay", float),
        ("max_grad_norm", "gradientClip", float),
        ("gradient_checkpointing", "activationCheckpointing", bool),
        ("torch_compile", "compile", bool),
        ("seed", "seed", int),
    ):
        _put(block, name, given.take(key), kind)
    given.drop("gradient_checkpointing_kwargs", "chosen by the trainer")
    warmup = given.take("warmup_steps")
    if warmup is not None and block.get("maxSteps"):
        block["warmupRatio"] = round(int(warmup) / block["maxSteps"], 6)
    elif warmup:
        given.left_out.append(f"warmup_steps: {warmup} (it is a share of all steps here: warmupRatio)")
    _choose(given, block, "lr_scheduler", "schedule", _SCHEDULES)
    optimizer = str(given.take("optimizer", "adamw_torch"))
    if not optimizer.startswith("adamw_torch"):
        given.left_out.append(f"optimizer: {optimizer} (it is AdamW in 32 bits)")
    bf16 = given.take("bf16")
    if bf16 not in (None, "auto"):
        block["precision"] = "BF16" if bf16 else "FP32"
    if (on_inputs := given.take("train_on_inputs")) is not None:
        block["lossOn"] = "All" if on_inputs else "Assistant"
    spec: dict[str, Any] = {"model": {"ref": model}, "dataset": _axolotl_data(given)}
    spec["recipe"] = {"name": "causal-lm", "causalLM": block}
    policy: dict[str, Any] = {}
    _put(policy, "everySteps", given.take("save_steps"), int)
    _put(policy, "keep", given.take("save_total_limit"), int)
    given.drop("saves_per_epoch", "checkpoints are by steps or seconds: checkpoint.everySteps")
    if policy:
        spec["checkpoint"] = policy
    return Converted(_document(path.stem, spec), given.rest())


def _method(given: _Given) -> str:
    adapter = given.take("adapter")
    four = given.take("load_in_4bit", False)
    dora = given.take("peft_use_dora", False)
    if adapter in (None, ""):
        return "Full"
    if adapter == "qlora" or (adapter == "lora" and four):
        return "QLoRA"
    if adapter == "lora":
        return "DoRA" if dora else "LoRA"
    raise ManifestError(f"adapter: {adapter} is not one that causal-lm has: it knows LoRA, DoRA and QLoRA.")


def _axolotl_lora(given: _Given) -> dict[str, Any]:
    lora: dict[str, Any] = {}
    _put(lora, "rank", given.take("lora_r"), int)
    _put(lora, "alpha", given.take("lora_alpha"), float)
    _put(lora, "dropout", given.take("lora_dropout"), float)
    targets = given.take("lora_target_modules")
    # Every linear layer is what unset means.
    if not given.take("lora_target_linear", False) and targets not in (None, "all-linear"):
        _put(lora, "targetModules", [targets] if isinstance(targets, str) else list(targets))
    return lora


def _axolotl_data(given: _Given) -> dict[str, Any]:
    found: dict[str, Any] = {}
    sets = [d for d in given.take("datasets", []) if isinstance(d, dict)]
    if not sets:
        raise ManifestError("The axolotl config has no datasets.")
    first = _Given(dict(sets[0]))
    path, kind = str(first.take("path", "")), str(first.take("type", ""))
    files = first.take("data_files")
    local = path.startswith((".", "/", "~")) or Path(path).suffix in (".jsonl", ".json", ".parquet", ".csv", ".txt")
    if local or path in ("json", "parquet", "csv", "text"):
        given.left_out.append(
            f"datasets[0].path: {files or path} (a local file: put it into a volume, or use --dataset)"
        )
    else:
        found["source"] = {"sourceRef": _SOURCE, "repo": path}
        given.left_out.append(f"data set {path}: make a ModelSource called {_SOURCE} of type HUGGING_FACE")
        _put(found["source"], "revision", first.take("revision"), str)
        _put(found["source"], "subset", first.take("name"), str)
    columns: dict[str, Any] = {}
    messages = first.take("field_messages") or ("conversations" if kind.startswith("sharegpt") else None)
    if kind.startswith(("chat_template", "sharegpt")):
        _put(columns, "messages", messages, str)
    if kind.startswith("completion"):
        _put(columns, "text", first.take("field"), str)
    elif not kind.startswith(("chat_template", "sharegpt", "alpaca")):
        given.left_out.append(f"datasets[0].type: {kind} (columns are messages, prompt and completion, or text)")
    if columns:
        found["columns"] = columns
    split: dict[str, Any] = {}
    held = given.take("val_set_size")
    if isinstance(held, int | float) and 0 < held < 1:
        split["validationFraction"] = float(held)
    elif held:
        given.left_out.append(f"val_set_size: {held} (it is a share here: dataset.split.validationFraction)")
    if (name := first.take("split")) not in (None, "train"):
        given.left_out.append(f"datasets[0].split: {name} (name the files: dataset.split.train)")
    if split:
        found["split"] = split
    given.left_out += first.rest("datasets[0].")
    given.left_out += [f"datasets[{n}]: {_short(d)} (one data set a run)" for n, d in enumerate(sets[1:], start=1)]
    return found


def _choose(given: _Given, block: dict[str, Any], key: str, name: str, known: Mapping[str, str]) -> None:
    value = given.take(key)
    if value is None:
        return
    if str(value) in known:
        block[name] = known[str(value)]
    else:
        given.left_out.append(f"{key}: {value} (it knows {', '.join(sorted(set(known.values())))})")


# ---- ai-toolkit


def _ai_toolkit(config: Mapping[str, Any]) -> Converted:
    inner = _Given(dict(config["config"]))
    processes = inner.take("process", [])
    if not processes or not isinstance(processes[0], dict) or processes[0].get("type") != "sd_trainer":
        raise ManifestError("The ai-toolkit config has no process of type sd_trainer.")
    given = _Given(dict(processes[0]))
    left_out = [f"process[{n}]: {_short(p)}" for n, p in enumerate(processes[1:], start=1)]
    given.drop("type", "")
    given.left_out.clear()
    for key in ("training_folder", "device", "performance_log_every"):
        given.drop(key, "the cluster says where it runs")
    parts = {k: _Given(dict(given.take(k, {}))) for k in ("network", "save", "train", "model", "sample")}
    sets = [d for d in given.take("datasets", []) if isinstance(d, dict)]
    data = _Given(dict(sets[0]) if sets else {})
    left_out += [f"datasets[{n}]: {_short(d)} (one data set a run)" for n, d in enumerate(sets[1:], start=1)]
    block: dict[str, Any] = {}
    trigger = given.take("trigger_word")
    _put(block, "prompt", trigger, str)
    if trigger:
        left_out.append(
            "trigger_word: it is the caption of pictures without one; [trigger] in captions is not replaced"
        )
    spec: dict[str, Any] = {"model": _ai_model(parts["model"], left_out), "dataset": _ai_data(data, block, left_out)}
    _ai_train(parts["train"], block)
    network = parts["network"]
    if (kind := network.take("type", "lora")) != "lora":
        left_out.append(f"network.type: {kind} (it is LoRA)")
    lora: dict[str, Any] = {}
    _put(lora, "rank", network.take("linear"), int)
    _put(lora, "alpha", network.take("linear_alpha"), float)
    _put(lora, "dropout", network.take("dropout"), float)
    if lora:
        block["lora"] = lora
    sample = parts["sample"]
    _put(block, "sampleEvery", sample.take("sample_every"), int)
    prompts = [str(p).replace("[trigger]", str(trigger or "")).strip() for p in sample.take("prompts", [])]
    if prompts:
        block["samplePrompts"] = prompts[:16]
        left_out += [f"sample.prompts[{n}]: at most 16 are drawn" for n in range(16, len(prompts))]
    spec["recipe"] = {"name": "text-to-image-lora", "textToImageLoRA": block}
    policy: dict[str, Any] = {}
    _put(policy, "everySteps", parts["save"].take("save_every"), int)
    _put(policy, "keep", parts["save"].take("max_step_saves_to_keep"), int)
    if policy:
        spec["checkpoint"] = policy
    for name, part in (*parts.items(), ("datasets[0]", data)):
        left_out += part.rest(f"{name}.")
    left_out += given.rest()
    name = str(inner.take("name", "adapter"))
    return Converted(_document(name, spec), left_out)


def _ai_model(model: _Given, left_out: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"ref": _model(str(model.take("name_or_path", "base")), None, left_out)}
    for flag in ("is_flux", "is_xl", "is_v3", "arch"):
        model.drop(flag, "it follows from the model's files")
    model.left_out.clear()
    if assistant := model.take("assistant_lora_path"):
        found["assistantRef"] = _model(str(assistant), None, left_out)
    model.drop("quantize", "the base is kept in 16 bits on a GPU")
    return found


def _ai_data(data: _Given, block: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    if folder := data.take("folder_path"):
        left_out.append(f"datasets[0].folder_path: {folder} (a local folder: put it into a volume, or use --dataset)")
    if (ending := str(data.take("caption_ext", "txt")).lstrip(".")) != "txt":
        left_out.append(f"datasets[0].caption_ext: {ending} (captions are in .txt files)")
    _put(block, "captionDropout", data.take("caption_dropout_rate"), float)
    _put(block, "flip", data.take("flip_x"), bool)
    sizes = data.take("resolution")
    if isinstance(sizes, list) and len(sizes) > 1:
        left_out.append(f"datasets[0].resolution: {sizes} (one area: the largest)")
    if sizes:
        block["resolution"] = max(int(s) for s in sizes) if isinstance(sizes, list) else int(sizes)
    data.drop("cache_latents_to_disk", "latents are always cached, in memory")
    data.drop("cache_latents", "latents are always cached, in memory")
    return {}


def _ai_train(train: _Given, block: dict[str, Any]) -> None:
    for key, name, kind in (
        ("steps", "maxSteps", int),
        ("batch_size", "batchSize", int),
        ("gradient_accumulation_steps", "gradientAccumulation", int),
        ("lr", "learningRate", float),
        ("max_grad_norm", "gradientClip", float),
        ("gradient_checkpointing", "activationCheckpointing", bool),
    ):
        _put(block, name, train.take(key), kind)
    if train.take("train_text_encoder", False):
        train.left_out.append("train_text_encoder: true (text encoders are frozen)")
    train.take("train_unet")
    optimizer = str(train.take("optimizer", "adamw"))
    if optimizer != "adamw":
        train.left_out.append(f"optimizer: {optimizer} (it is AdamW in 32 bits)")
    train.drop("noise_scheduler", "it follows from the model")
    train.drop("dtype", "BF16 on a GPU that has it")
    train.drop("skip_first_sample", "there is no sample before the first step")
    train.drop("ema_config", "there is no moving average of the weights")
