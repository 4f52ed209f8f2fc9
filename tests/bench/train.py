"""The trainer beside the stock ways: steps a second, time to an accuracy, start-up and memory. `make bench-train`.

Every pair has the same model, data, precision and batch, in the same process or the same kind of process, and takes
turns, each as often first as the other; the figure is the median of the turns. Time is what a clock on the wall shows,
on one thread: take an idle machine. Rates leave out the first steps. Sizes: MODELYARD_BENCH_STEPS,
MODELYARD_BENCH_TURNS.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelyard_training.core import run as core
from modelyard_training.core.checkpoint import Checkpoints
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.run import Run, read_config
from modelyard_training.core.stop import Stop
from modelyard_training.core.train import Loop
from modelyard_training.core.world import World
from modelyard_training.params import CheckpointPolicy, resolve
from support import bench, tiny_models

STEPS = int(os.environ.get("MODELYARD_BENCH_STEPS", "60"))
TURNS = int(os.environ.get("MODELYARD_BENCH_TURNS", "5"))
WARM = 5
BATCH = 8
RATE = 1e-3
PROMPT = "a red square"


class Clocked(Loop):
    """The loop, with the time at which each step ended."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.ends: list[float] = []

    def _step(self, batches: Any) -> None:
        super()._step(batches)
        self.ends.append(time.perf_counter())


def rate(ends: list[float]) -> float:
    """Steps a second between the warm-up and the last one."""
    return (len(ends) - 1 - WARM) / (ends[-1] - ends[WARM])


def ours(root: Path, name: str, config: dict[str, Any], data: Path, model: Path | None) -> Clocked:
    """A loop over the recipe's own task, ready to run."""
    output = Path(tempfile.mkdtemp(dir=root))
    environment = {"MODELYARD_DATASET": str(data), "MODELYARD_OUTPUT": str(output)}
    if model is not None:
        environment["MODELYARD_MODEL"] = str(model)
    told = read_config(json.dumps(config))
    run = Run(told, resolve(told.block()), World(0, 1, torch.device("cpu")), Stop(), environment)
    module = __import__(f"modelyard_training.recipes.{name}", fromlist=["build"])
    task = module.build(run)
    settings = core._settings(run, task, resolve(CheckpointPolicy()))
    keeper = Checkpoints(output / "checkpoints", 2, run.world)
    return Clocked(task, settings, run.world, keeper, MetricsFile(output / "metrics.jsonl"), Reporter("", ""), run.stop)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def turns(*ways: Callable[[], float]) -> list[float]:
    """The median figure of each way, after they took turns."""
    found: list[list[float]] = [[] for _ in ways]
    for turn in range(TURNS):
        for figures, way in list(zip(found, ways, strict=True))[:: -1 if turn % 2 else 1]:
            gc.collect()
            # Each turn begins with other weights, so that no lucky start decides.
            torch.manual_seed(turn)
            np.random.seed(turn)
            with quiet():
                figures.append(way())
    return [statistics.median(figures) for figures in found]


# ---- what is trained


def texts(folder: Path, count: int) -> tuple[Path, list[str], list[int]]:
    """Lines with the label whether they speak of an argument."""
    folder.mkdir()
    lines = (tiny_models.local_text() * 20)[:count]
    labels = [int("arg" in line) for line in lines]
    rows = [{"text": line, "label": ["no", "yes"][label]} for line, label in zip(lines, labels, strict=True)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder, lines, labels


def bert(folder: Path) -> Path:
    from transformers import BertConfig, BertForSequenceClassification

    tokenizer = tiny_models.bpe_tokenizer()
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(5)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def clock() -> tuple[Any, list[float]]:
    """A callback of `Trainer` that notes the time at which each step ended."""
    from transformers import TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            ends.append(time.perf_counter())

    return Clock(), ends


def arguments(root: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(root / "stock"),
        "max_steps": STEPS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": RATE,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


# ---- the pairs


def text(root: Path) -> bench.Row:
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    data, lines, labels = texts(root / "texts", BATCH * (STEPS + 10))
    base = bert(root / "bert")
    params = {"batchSize": BATCH, "maxSteps": STEPS, "learningRate": RATE, "maxLength": 128}
    config = {"recipe": "text-classification", "params": params, "dataset": {"split": {"validationFraction": 0.05}}}

    def we() -> float:
        loop = ours(root, "text", config, data, base)
        loop.run(None)
        return rate(loop.ends)

    def they() -> float:
        tokenizer = AutoTokenizer.from_pretrained(base)
        rows = [
            {**tokenizer(t, truncation=True, max_length=128), "labels": y} for t, y in zip(lines, labels, strict=True)
        ]
        callback, ends = clock()
        Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(base),
            args=TrainingArguments(**arguments(root)),
            train_dataset=rows,
            data_collator=DataCollatorWithPadding(tokenizer),
            callbacks=[callback],
        ).train()
        return rate(ends)

    return bench.more_is_better("text-classification, BERT", "steps/s", *turns(we, they), "HF Trainer", 1.2)


def digits(folder: Path, count: int) -> Path:
    """Digits of 32 pixels as files, a folder for each class."""
    from PIL import Image
    from sklearn.datasets import load_digits

    known = load_digits()
    for number in range(count):
        at = number % len(known.target)
        place = folder / str(known.target[at])
        place.mkdir(parents=True, exist_ok=True)
        pixels = (known.images[at] * 15).astype(np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(place / f"{number}.png")
    return folder


def vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    torch.manual_seed(5)
    config = ViTConfig(image_size=32, patch_size=4, num_labels=10, **shape)
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def image(root: Path) -> bench.Row:
    from datasets import load_dataset
    from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

    data, base = digits(root / "digit-files", BATCH * (STEPS + 10)), vit(root / "vit")
    params = {
        "batchSize": BATCH,
        "maxSteps": STEPS,
        "learningRate": RATE,
        "imageSize": 32,
        "augment": "None",
    }
    config = {"recipe": "image-classification", "params": params, "dataset": {"split": {"validationFraction": 0.05}}}

    def we() -> float:
        loop = ours(root, "image", config, data, base)
        loop.run(None)
        return rate(loop.ends)

    def they() -> float:
        processor = AutoImageProcessor.from_pretrained(base, use_fast=True)

        def read(rows: dict[str, Any]) -> dict[str, Any]:
            pixels = processor([picture.convert("RGB") for picture in rows["image"]], return_tensors="pt")
            return {**pixels, "labels": rows["label"]}

        rows = load_dataset("imagefolder", data_dir=str(data), split="train", cache_dir=str(root / "cache"))
        callback, ends = clock()
        Trainer(
            model=AutoModelForImageClassification.from_pretrained(base),
            args=TrainingArguments(**arguments(root, remove_unused_columns=False)),
            train_dataset=rows.with_transform(read),
            callbacks=[callback],
        ).train()
        return rate(ends)

    return bench.more_is_better("image-classification, ViT", "steps/s", *turns(we, they), "HF Trainer", 1.2)


def _language(root: Path, count: int) -> tuple[Path, Path, dict[str, Any], list[str]]:
    data, base = root / "language", root / "llama"
    if not base.exists():
        tiny_models.language_model(base, "llama", hidden_size=64, intermediate_size=128)
        texts(data, count)
    lines = [json.loads(line)["text"] for line in (data / "a.jsonl").read_text().splitlines()]
    params = {
        "batchSize": BATCH,
        "maxSteps": STEPS,
        "learningRate": RATE,
        "sequenceLength": 128,
        "packing": False,
        "lora": {"rank": 8, "alpha": 16, "dropout": 0.0},
    }
    config = {"recipe": "causal-lm", "params": params, "dataset": {"split": {"validationFraction": 0.05}}}
    return data, base, config, lines


def language(root: Path) -> bench.Row:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    data, base, config, lines = _language(root, BATCH * (STEPS + 10))

    def we() -> float:
        loop = ours(root, "causal_lm", config, data, base)
        loop.run(None)
        return rate(loop.ends)

    def they() -> float:
        callback, ends = clock()
        SFTTrainer(
            model=str(base),
            args=SFTConfig(**arguments(root, max_length=128, gradient_checkpointing=False, bf16=False)),
            train_dataset=Dataset.from_dict({"text": lines}),
            peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[callback],
        ).train()
        return rate(ends)

    return bench.more_is_better("causal-lm, Llama, LoRA", "steps/s", *turns(we, they), "TRL SFTTrainer", 1.2)


def plain(root: Path) -> bench.Row:
    """The loop against nothing but the calls that train."""
    data, base, config, _ = _language(root, BATCH * (STEPS + 10))

    def we() -> float:
        loop = ours(root, "causal_lm", config, data, base)
        loop.run(None)
        return rate(loop.ends)

    def they() -> float:
        task = ours(root, "causal_lm", config, data, base).task
        optimizer = torch.optim.AdamW(task.groups(), fused=True)
        task.model.train()
        ends = []
        for indices in task.batches(0)[:STEPS]:
            task.loss(task.model, task.load(indices)).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ends.append(time.perf_counter())
        return rate(ends)

    return bench.more_is_better("the loop itself", "steps/s", *turns(we, they), "plain PyTorch loop", 0.97)


def pictures(root: Path) -> bench.Row:
    """Stable Diffusion's U-Net; the other loop is that of diffusers' train_text_to_image_lora.py."""
    from PIL import Image

    base, data = tiny_models.pipeline(root / "sd15", "sd15"), root / "pictures"
    data.mkdir()
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(data / f"{number}.png")
        (data / f"{number}.txt").write_text(PROMPT)
    params = {
        "batchSize": 4,
        "maxSteps": STEPS,
        "learningRate": RATE,
        "resolution": 64,
        "sampleEvery": 1_000_000,
        "samplePrompts": [PROMPT],
        "lora": {"rank": 4, "alpha": 4, "dropout": 0.0, "targetModules": ["to_k", "to_q", "to_v", "to_out.0"]},
    }
    config = {"recipe": "text-to-image-lora", "params": params, "dataset": {}}

    def we() -> float:
        loop = ours(root, "text_to_image", config, data, base)
        # The pictures that are drawn after the last step are no step.
        loop._sample = lambda: None  # type: ignore[method-assign]
        loop.run(None)
        return rate(loop.ends)

    return bench.more_is_better(
        "text-to-image-lora, SD 1.5",
        "steps/s",
        *turns(we, lambda: diffusers_example(base, data)),
        "diffusers' loop",
        1.2,
    )


def diffusers_example(base: Path, data: Path) -> float:
    from accelerate import Accelerator
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from diffusers.optimization import get_scheduler
    from peft import LoraConfig
    from PIL import Image
    from torchvision import transforms
    from transformers import CLIPTextModel, CLIPTokenizer

    accelerator = Accelerator(cpu=True)
    noise_scheduler = DDPMScheduler.from_pretrained(base, subfolder="scheduler")
    tokenizer = CLIPTokenizer.from_pretrained(base, subfolder="tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(base, subfolder="text_encoder")
    vae = AutoencoderKL.from_pretrained(base, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(base, subfolder="unet")
    for part in (unet, vae, text_encoder):
        part.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
    layers = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(layers, lr=RATE)
    prepare = transforms.Compose(
        [
            transforms.Resize(64),
            transforms.CenterCrop(64),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([0.5], [0.5]),
        ]
    )

    class Data(torch.utils.data.Dataset[dict[str, Any]]):
        names = sorted(data.glob("*.png"))

        def __len__(self) -> int:
            return len(self.names)

        def __getitem__(self, at: int) -> dict[str, Any]:
            said = self.names[at].with_suffix(".txt").read_text()
            ids = tokenizer(said, max_length=77, padding="max_length", truncation=True, return_tensors="pt").input_ids
            return {"pixels": prepare(Image.open(self.names[at]).convert("RGB")), "ids": ids[0]}

    loader = torch.utils.data.DataLoader(Data(), shuffle=True, batch_size=4)
    schedule = get_scheduler("cosine", optimizer, num_warmup_steps=3, num_training_steps=STEPS)
    unet, optimizer, loader, schedule = accelerator.prepare(unet, optimizer, loader, schedule)
    ends: list[float] = []
    unet.train()
    while len(ends) < STEPS:
        for batch in loader:
            with accelerator.accumulate(unet):
                latents = vae.encode(batch["pixels"]).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                times = torch.randint(0, noise_scheduler.config.num_train_timesteps, (len(latents),)).long()
                mixed = noise_scheduler.add_noise(latents, noise, times)
                hidden = text_encoder(batch["ids"], return_dict=False)[0]
                predicted = unet(mixed, times, hidden, return_dict=False)[0]
                loss = torch.nn.functional.mse_loss(predicted.float(), noise.float(), reduction="mean")
                accelerator.gather(loss.repeat(4)).mean().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(layers, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            loss.detach().item()
            ends.append(time.perf_counter())
    return rate(ends[:STEPS])


def accuracy(root: Path) -> bench.Row:
    """Seconds until 97 % of the held-out digits are right, the data read and split alike."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    frame = datasets.load_digits(as_frame=True).frame
    train, held = train_test_split(frame, test_size=0.2, random_state=0, stratify=frame["target"])
    data = root / "digits"
    data.mkdir()
    train.to_csv(data / "train.csv", index=False)
    held.to_csv(data / "held.csv", index=False)
    # As scikit-learn's: no dropout, no warm-up, nothing clipped.
    params = {"epochs": 60, "batchSize": 64, "hiddenSizes": [128], "dropout": 0.0, "schedule": "Constant"}
    params |= {"warmupRatio": 0.0, "gradientClip": 0.0, "weightDecay": 0.0}
    split = {"train": "train.csv", "validation": "held.csv"}
    config = {"recipe": "tabular-classification", "params": params, "dataset": {"split": split}}

    def we() -> float:
        loop = ours(root, "tabular", config, data, None)
        found: list[float] = []
        real = loop._end_epoch

        def end(metrics: dict[str, float]) -> None:
            if metrics["accuracy"] >= 0.97 and not found:
                found.append(time.perf_counter())
                loop.stop.requested = True
            real(metrics)

        loop._end_epoch = end  # type: ignore[method-assign]
        began = time.perf_counter()
        loop.run(None)
        return found[0] - began

    def they() -> float:
        began = time.perf_counter()
        scaler = StandardScaler().fit(train.drop(columns="target"))
        x, y = scaler.transform(train.drop(columns="target")), train["target"].to_numpy()
        hx, hy = scaler.transform(held.drop(columns="target")), held["target"].to_numpy()
        model = MLPClassifier((128,), batch_size=64, learning_rate_init=RATE, alpha=0.0)
        for _ in range(60):
            model.partial_fit(x, y, classes=list(range(10)))
            if model.score(hx, hy) >= 0.97:
                break
        return time.perf_counter() - began

    return bench.less_is_better("digits to 97 %", "s", *turns(we, they), "scikit-learn MLP")


STOCK = """
import sys, time
import torch
torch.set_num_threads(1)
from transformers import (AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer,
                          TrainerCallback, TrainingArguments)
import json
base, data, output = sys.argv[1:]
rows = [json.loads(line) for line in open(data + "/a.jsonl")]
tokenizer = AutoTokenizer.from_pretrained(base)
rows = [{**tokenizer(r["text"]), "labels": int(r["label"] == "yes")} for r in rows]
class Told(TrainerCallback):
    def on_step_end(self, *given, **named):
        print('{"phase": "Evaluating"}', flush=True)
Trainer(model=AutoModelForSequenceClassification.from_pretrained(base),
        args=TrainingArguments(output, max_steps=1, per_device_train_batch_size=8, report_to=[], save_strategy="no",
                               use_cpu=True, disable_tqdm=True),
        train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer), callbacks=[Told()]).train()
"""


def watch(child: subprocess.Popen[str], peaks: list[float]) -> None:
    """Adds the most memory that a process ever had, in MiB [what `wait4` says begins with its parent's]."""
    most = 0
    while child.poll() is None:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            most = int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
        time.sleep(0.02)
    peaks.append(most / 1024)


def start(root: Path) -> list[bench.Row]:
    """From the start of python to the first step, and the most memory of the whole process."""
    data, base = root / "texts", root / "bert"
    config = {"recipe": "text-classification", "params": {"batchSize": BATCH, "maxSteps": 1, "maxLength": 128}}
    peaks: dict[str, list[float]] = {"we": [], "they": []}

    def once(name: str, command: list[str], more: dict[str, str]) -> float:
        began = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
        child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert child.stdout is not None
        watching = threading.Thread(target=watch, args=(child, peaks[name]))
        watching.start()
        first = next(time.perf_counter() for line in child.stdout if '"Evaluating"' in line)
        child.stdout.read()
        child.wait()
        watching.join()
        return first - began

    def we() -> float:
        output = tempfile.mkdtemp(dir=root)
        told = {"MODELYARD_CONFIG": json.dumps(config), "MODELYARD_DATASET": str(data)}
        more = {**told, "MODELYARD_MODEL": str(base), "MODELYARD_OUTPUT": output, "MODELYARD_RESUME_FROM": ""}
        return once("we", [sys.executable, "-m", "modelyard_training.core"], more)

    def they() -> float:
        return once("they", [sys.executable, "-c", STOCK, str(base), str(data), str(root / "stock")], {})

    seconds = turns(we, they)
    memory = [statistics.median(peaks[name]) for name in ("we", "they")]
    return [
        bench.less_is_better("start to first step", "s", *seconds, "HF Trainer"),
        bench.less_is_better("peak memory", "MiB", *memory, "HF Trainer"),
    ]


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        rows = [text(root), image(root), language(root), pictures(root), plain(root), accuracy(root), *start(root)]
    bench.publish("train", rows)


if __name__ == "__main__":
    main()
