"""Runs the trainer's core on this machine, with a progress bar; stopped by Ctrl-C it saves, and goes on when run again.

The core is the very process that a pod's agent starts. What it reports on stdout becomes the bar, what it logs goes
to `train.log` beside the checkpoints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from modelyard_training.agent import checkpoints, launch
from modelyard_training.agent.loopback import Loopback
from modelyard_training.agent.progress import Progress
from modelyard_training.cli.manifest import Manifest, ManifestError
from modelyard_training.params import RECIPES, CustomParams, ModelInput, RunConfig

LOG = "train.log"
_CODES = {"done": 0, "failed": 64, "stopped": 75}
_BAR = 24
_TAIL = 20
_QUIET_SECONDS = 10.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Places:
    """Where this machine has what a cluster would mount, and how many processes train."""

    model: Path | None
    adapter: Path | None
    assistant: Path | None
    dataset: Path | None
    output: Path
    processes: int
    restart: bool


def run(manifest: Manifest, places: Places) -> int:
    """Trains. Returns 0 (done), 64 (bad input), 75 (stopped after a checkpoint), else the program's exit code."""
    environment = {**os.environ, **manifest.env, **_environment(manifest, places)}
    command = _command(manifest.config, places.processes)
    shown = Bar(sys.stderr, manifest.name)
    own = Listener(shown) if isinstance(manifest.config.block(), CustomParams) else None
    with (places.output / LOG).open("ab") as log, own or nullcontext():
        began = log.tell()
        if own is not None:
            environment.update(own.environment(environment))
        child = _start(command, environment, log)
        assert child.stdout is not None
        with _passing_on(child) as asked:
            reader = threading.Thread(target=_show, args=(child.stdout, shown), daemon=True)
            reader.start()
            # In steps: a signal that another thread of ours got is seen between two of them, not while one waits.
            while reader.is_alive():
                reader.join(_LOOK_SECONDS)
            code = child.wait()
    shown.end()
    result = shown.result
    if own is not None:
        result = {"summary": {"metrics": own.progress.metrics}}
        if code == 0 and asked and not own.progress.done:
            # As in a pod: a program that ends well when it is stopped has stopped, unless it says that it is done.
            code = _CODES["stopped"]
    # torchrun ends with 1 whatever its workers did: the first one's own word decides.
    code = _CODES.get(str(result.get("result")), code) if code else code
    _tell(code, result, places.output, began)
    return code


def _show(lines: IO[str], shown: Bar) -> None:
    for line in lines:
        shown.take(line)


def _start(command: list[str], environment: Mapping[str, str], log: IO[bytes]) -> subprocess.Popen[str]:
    try:
        # In a session of its own: a Ctrl-C reaches it once, through us, and never its data loaders.
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )
    except OSError as error:
        raise ManifestError(f"The command {command[0]} can't be started on this machine: {error.strerror}.") from None


class Listener:
    """Takes the reports of a program of the user's own, as a pod's agent does, and shows them."""

    def __init__(self, shown: Bar) -> None:
        self.progress = Progress()
        self._shown, self._server = shown, Loopback(self._take)
        self._folder = tempfile.TemporaryDirectory(prefix="modelyard-")

    def environment(self, given: Mapping[str, str]) -> dict[str, str]:
        """Where the program reports to."""
        token = Path(self._folder.name) / "token"
        token.write_text("loopback-needs-no-token\n")
        return {
            "KUBEFLOW_TRAINER_SERVER_URL": f"http://127.0.0.1:{self._server.port}/status",
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token),
            **launch.without_proxy(given),
        }

    def __enter__(self) -> Listener:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()
        self._folder.cleanup()

    def _take(self, report: dict[str, Any]) -> bool:
        entry = self.progress.take(report, time.monotonic(), "")
        if entry is not None:
            self._shown.show(entry.body["modelyard"])
        return entry is not None


def _environment(manifest: Manifest, places: Places) -> dict[str, str]:
    config = manifest.config
    _there(places.model, "--model", config.model is not None, "spec.model.ref names a Model of a cluster")
    _there(places.assistant, "--assistant", config.assistant is not None, "spec.model.assistantRef names a Model")
    needs_data = config.dataset is not None or RECIPES[config.recipe].dataset == "Required"
    _there(places.dataset, "--dataset", needs_data, "spec.dataset names data of a cluster")
    if places.adapter is not None:
        _there(places.adapter, "--adapter", False, "")
        # Where model.ref names an adapter, a cluster mounts it and the base that it was trained on.
        config = config.model_copy(update={"adapter": config.model or ModelInput(name=places.adapter.name)})
    dataset = places.dataset
    if dataset is not None and dataset.is_file():
        told = config.dataset.model_dump(by_alias=True, exclude_none=True) if config.dataset else {}
        told.setdefault("path", dataset.name)
        config = RunConfig.model_validate({**config.model_dump(by_alias=True, exclude_none=True), "dataset": told})
        dataset = dataset.parent
    try:
        places.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ManifestError(f"The output folder {places.output} can't be made: {error.strerror}.") from None
    fresh = places.restart or (config.checkpoint is not None and config.checkpoint.resume == "Never")
    newest = None if fresh else checkpoints.newest(places.output.resolve())
    folders = {
        "MODEL": places.model,
        "ADAPTER": places.adapter,
        "ASSISTANT": places.assistant,
        "DATASET": dataset,
        "OUTPUT": places.output,
    }
    return {
        "MODELYARD_CONFIG": config.model_dump_json(by_alias=True, exclude_none=True),
        **{f"MODELYARD_{name}": str(folder.resolve()) for name, folder in folders.items() if folder is not None},
        "MODELYARD_TRAINING": manifest.name,
        "MODELYARD_RESUME_FROM": str(newest.path) if newest else "",
        "PYTHONUNBUFFERED": "1",
        # torchrun would kill its workers 30 s after a stop request, whatever they are still saving.
        "PET_SHUTDOWN_TIMEOUT": "3600",
    }


def _there(folder: Path | None, option: str, needed: bool, why: str) -> None:
    if folder is None and needed:
        raise ManifestError(f"{why}: say with {option} where it is on this machine.")
    if folder is not None and not folder.exists():
        raise ManifestError(f"{option}: there is no {folder}.")


def _command(config: RunConfig, processes: int) -> list[str]:
    block = config.block()
    if isinstance(block, CustomParams):
        if not block.command:
            raise ManifestError("spec.recipe.custom.command is needed: the program and its first arguments.")
        return [*block.command, *(block.args or ())]
    if processes <= 1:
        return [sys.executable, "-m", "modelyard_training.core"]
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *launcher, "-m", "modelyard_training.core"]


@contextmanager
def _passing_on(child: subprocess.Popen[str]) -> Iterator[list[int]]:
    """One Ctrl-C asks the run to save and stop; the second one ends it at once. Gives the signals that came."""
    asked: list[int] = []

    def pass_on(number: int, frame: Any) -> None:
        asked.append(number)
        child.send_signal(signal.SIGTERM if len(asked) == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class Bar:
    """One line that moves on a terminal; elsewhere a line an epoch, and one now and then."""

    out: IO[str]
    name: str
    result: dict[str, Any] = field(default_factory=dict)
    _known: dict[str, Any] = field(default_factory=dict)
    _began: tuple[float, int] | None = None
    _width: int = 0
    _said_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, line: str) -> None:
        """One line of the core's stdout: a report, or anything else, which is passed on."""
        try:
            report = json.loads(line)
        except ValueError:
            report = None
        if isinstance(report, dict):
            self.show(report)
            return
        with self._lock:
            self._clear()
            print(line, end="", file=self.out)

    def show(self, report: dict[str, Any]) -> None:
        """A report, from whichever thread."""
        with self._lock:
            self._show(report)

    def _show(self, report: dict[str, Any]) -> None:
        if isinstance(report.get("result"), dict):
            self.result = report["result"]
        row = report.pop("epochRow", None)
        self._known.update({k: v for k, v in report.items() if k not in ("checkpoint", "result")})
        if row:
            self._clear()
            values = "  ".join(f"{k} {v:.4g}" for k, v in row["metrics"].items())
            print(f"epoch {row['epoch']}/{self._known.get('totalEpochs', '?')}  {values}", file=self.out)
        self._draw()

    def end(self) -> None:
        """Leaves the terminal with the cursor on a line of its own."""
        self._clear()

    def line(self, now: float) -> str:
        """The bar as text."""
        step, total = self._known.get("step"), self._known.get("totalSteps")
        if not step or not total:
            return f"{self.name}: {str(self._known.get('phase', 'starting')).lower()} …"
        if self._began is None:
            self._began = (now, step)
        full = _BAR * step // total
        done = step - self._began[1]
        left = (now - self._began[0]) * (total - step) / done if done > 0 else None
        parts = [f"{self.name} [{'#' * full}{'.' * (_BAR - full)}] {100 * step // total} %", f"step {step}/{total}"]
        loss = (self._known.get("metrics") or {}).get("loss")
        if loss is not None:
            parts.append(f"loss {loss:.4g}")
        if self._known.get("throughput") is not None:
            parts.append(f"{self._known['throughput']:,.0f} {self._known.get('unit', '')}")
        if left is not None and step < total:
            parts.append(f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d} left")
        return "  ".join(parts)

    def _draw(self) -> None:
        now = time.monotonic()
        text = self.line(now)
        if self.out.isatty():
            self.out.write("\r" + text.ljust(self._width))
            self._width = len(text)
            self.out.flush()
        elif now - self._said_at >= _QUIET_SECONDS:
            self._said_at = now
            print(text, file=self.out, flush=True)

    def _clear(self) -> None:
        if self._width:
            self.out.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.out.flush()


def _tell(code: int, result: Mapping[str, Any], output: Path, began: int) -> None:
    said = str(result.get("message") or "")
    if code == 0:
        metrics = (result.get("summary") or {}).get("metrics") or {}
        found = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        print(f"{said} {found}".strip(), file=sys.stderr)
        print(f"The result is in {output / 'model'}.", file=sys.stderr)
    elif code == 75:
        print(f"{said} The same command goes on from there.".strip(), file=sys.stderr)
    elif result.get("result") == "failed":
        print(f"{result.get('reason')}: {said}", file=sys.stderr)
    else:
        with (output / LOG).open("rb") as log:
            log.seek(began)
            tail = log.read().decode(errors="replace").splitlines()[-_TAIL:]
        print(
            "\n".join([*tail, f"The trainer ended with exit code {code}; its log is {output / LOG}."]), file=sys.stderr
        )
