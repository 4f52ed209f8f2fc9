"""A run that is killed, stopped or short of disk goes on exactly where it was; real processes."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from modelyard_training.core import checkpoint, files, metrics
from modelyard_training.core.stop import Stop

CONFIG: dict[str, Any] = {
    "recipe": "tabular-classification",
    "params": {"epochs": 12, "batchSize": 32, "hiddenSizes": [64], "earlyStopping": {"patience": 0}},
    "dataset": {"path": "digits.csv"},
    "checkpoint": {"everySteps": 20, "keep": 2},
    "determinism": "Bitwise",
}


def losses(run: Any) -> list[Any]:
    return [(row["step"], row["loss"]) for row in run.rows()]


def test_killed_anywhere_and_resumed_is_bit_identical(
    trainer: Callable[..., Any], digits_csv: str, wait_for: Callable[..., None], done: Callable[..., Any]
) -> None:
    undisturbed = trainer(CONFIG, {"digits.csv": digits_csv}, name="undisturbed")
    assert undisturbed.run()[0] == 0

    killed = trainer(CONFIG, {"digits.csv": digits_csv}, name="killed")
    choice = random.Random()
    for at in sorted(choice.sample(range(20, 300), 2)):
        process = killed.start()
        wait_for(lambda at=at, process=process: max([0, *killed.steps()]) >= at or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        assert done(process)[0] == -signal.SIGKILL, f"the run ended before step {at}"
    assert killed.run()[0] == 0

    assert losses(killed) == losses(undisturbed)
    assert (killed.output / "metrics.jsonl").read_bytes() == (undisturbed.output / "metrics.jsonl").read_bytes()
    assert files.listing(killed.output / "model") == files.listing(undisturbed.output / "model")
    assert killed.metadata()["metrics"] == undisturbed.metadata()["metrics"]
    assert killed.metadata()["resumedFrom"] > 0
    assert len(killed.steps()) <= 3


def test_sigterm_saves_exits_75_and_goes_on_exactly(
    trainer: Callable[..., Any], digits_csv: str, wait_for: Callable[..., None], done: Callable[..., Any]
) -> None:
    undisturbed = trainer(CONFIG, {"digits.csv": digits_csv}, name="undisturbed")
    assert undisturbed.run()[0] == 0

    stopped = trainer(CONFIG, {"digits.csv": digits_csv}, name="stopped")
    process = stopped.start()
    wait_for(lambda: max([0, *stopped.steps()]) >= 100 or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    code, reports = done(process)
    assert code == 75
    result = reports[-1]["result"]
    assert result["result"] == "stopped"
    assert result["step"] == stopped.steps()[-1] == result["checkpoint"]["step"]
    assert result["checkpoint"]["path"] == f"checkpoints/step-{result['step']:08d}"

    code, reports = stopped.run()
    assert code == 0
    assert reports[-1]["result"]["resumedFrom"] == result["step"]
    assert losses(stopped) == losses(undisturbed)
    assert files.listing(stopped.output / "model") == files.listing(undisturbed.output / "model")


def test_damaged_checkpoints_are_never_loaded(trainer: Callable[..., Any], digits_csv: str) -> None:
    config = {**CONFIG, "params": {**CONFIG["params"], "maxSteps": 100}, "checkpoint": {"everySteps": 20, "keep": 3}}
    run = trainer(config, {"digits.csv": digits_csv})
    assert run.here()[0] == 0
    folder = run.output / "checkpoints"
    newest, second, third = (path for _, path in checkpoint.checkpoints_in(folder)[:3])
    # Torn: killed before its last file. Damaged: a byte of the tensors differs.
    (newest / "complete.json").unlink()
    tensors = next((second / "tensors").glob("*.safetensors"))
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    assert checkpoint.fault(newest) == "it was not completed"
    assert "does not have its digest" in str(checkpoint.fault(second))
    assert checkpoint.usable(newest) == third

    before = run.metadata()["metrics"]
    code, result = run.here()
    assert code == 0
    assert result["resumedFrom"] == int(third.name[5:])
    assert run.metadata()["metrics"] == before


def test_attempt_after_the_end_only_exports_again(trainer: Callable[..., Any], digits_csv: str) -> None:
    config = {**CONFIG, "params": {**CONFIG["params"], "maxSteps": 60}}
    run = trainer(config, {"digits.csv": digits_csv})
    assert run.here()[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    shutil.rmtree(run.output / "model")
    assert run.here()[0] == 0
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


def test_best_checkpoint_survives_pruning_and_is_exported(trainer: Callable[..., Any], digits_csv: str) -> None:
    # A rate that ruins the model after a good start: the best epoch is not the last one.
    params = {
        "epochs": 8,
        "learningRate": 0.01,
        "schedule": "Constant",
        "dropout": 0.0,
        "earlyStopping": {"patience": 0},
    }
    run = trainer({**CONFIG, "params": params, "checkpoint": {"everySteps": 10, "keep": 1}}, {"digits.csv": digits_csv})
    assert run.here()[0] == 0
    metadata = run.metadata()
    rows = {row["epoch"]: row for row in run.rows() if "epoch" in row}
    best = min(rows.values(), key=lambda row: row["validationLoss"])
    assert metadata["bestEpoch"] == best["epoch"]
    assert metadata["metrics"]["validationLoss"] == best["validationLoss"]
    assert set(run.steps()) == {metadata["bestStep"], metadata["steps"]}


def test_full_disk_keeps_the_last_valid_checkpoint(
    trainer: Callable[..., Any], digits_csv: str, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    config = {**CONFIG, "params": {"hiddenSizes": [512], "maxSteps": 60, "epochs": 5}}
    run = trainer(config, {"digits.csv": digits_csv})
    assert run.run()[0] == 0
    newest = run.steps()[-1]
    more = trainer({**config, "params": {**config["params"], "maxSteps": 100}}, {"digits.csv": digits_csv})
    with files_up_to(256 * 1024):
        code, result = more.here()
    assert code == 64
    assert result["reason"] == "DiskFull"
    assert result["message"].startswith("The output volume is full: a checkpoint could not be written,")
    assert newest in more.steps()
    assert checkpoint.fault(more.output / "checkpoints" / f"step-{newest:08d}") is None
    assert not list((more.output / "checkpoints").glob(".*"))
    assert more.here()[0] == 0


def test_full_disk_is_told_when_a_loss_does_not_fit(
    trainer: Callable[..., Any], digits_csv: str, files_up_to: Callable[[int], AbstractContextManager[None]]
) -> None:
    run = trainer({**CONFIG, "checkpoint": {"everySteps": 1000}}, {"digits.csv": digits_csv})
    with files_up_to(1024):
        code, result = run.here()
    assert (code, result["reason"]) == (64, "DiskFull")
    assert result["message"].startswith("The output volume is full: metrics.jsonl could not be written.")


def test_bitwise_refuses_other_circumstances(trainer: Callable[..., Any], digits_csv: str) -> None:
    run = trainer({**CONFIG, "params": {"maxSteps": 40}}, {"digits.csv": digits_csv})
    assert run.here()[0] == 0
    path = run.output / "checkpoints" / f"step-{run.steps()[-1]:08d}"
    state = json.loads((path / "state.json").read_text())
    state["circumstances"]["device"] = "NVIDIA H100 80GB HBM3"
    rewrite(path, "state.json", state)
    code, result = run.here()
    assert code == 64
    assert "device model NVIDIA H100 80GB HBM3 and would go on with cpu" in result["message"]


def test_checkpoint_of_another_run_is_refused(trainer: Callable[..., Any], digits_csv: str) -> None:
    run = trainer({**CONFIG, "params": {"maxSteps": 20}}, {"digits.csv": digits_csv})
    assert run.here()[0] == 0
    other = trainer({**CONFIG, "params": {"maxSteps": 20, "hiddenSizes": [32]}}, {"digits.csv": digits_csv})
    code, result = other.here()
    assert code == 64
    assert result["message"].startswith("The checkpoint belongs to a model of another shape")


def rewrite(path: Path, name: str, value: Any) -> None:
    """Changes a file of a checkpoint, and its digest with it."""
    (path / name).write_text(json.dumps(value))
    marker = json.loads((path / "complete.json").read_text())
    marker["files"] = files.listing(path)
    del marker["files"]["complete.json"]
    (path / "complete.json").write_text(json.dumps(marker))


@pytest.mark.parametrize("processes", [2])
def test_two_processes_stop_at_one_step_and_go_on_exactly(
    processes: int,
    trainer: Callable[..., Any],
    digits_csv: str,
    wait_for: Callable[..., None],
    done: Callable[..., Any],
) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    config = {**CONFIG, "params": {**CONFIG["params"], "epochs": 6}}
    undisturbed = trainer(config, {"digits.csv": digits_csv}, name="undisturbed")
    assert undisturbed.run(*launcher)[0] == 0

    stopped = trainer(config, {"digits.csv": digits_csv}, name="stopped")
    process = stopped.start(*launcher)
    wait_for(lambda: max([0, *stopped.steps()]) >= 40 or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert stopped.steps()[-1] < undisturbed.steps()[-1]
    code, reports = stopped.run(*launcher)
    assert code == 0
    assert reports[-1]["result"]["resumedFrom"] >= 40
    assert losses(stopped) == losses(undisturbed)
    assert files.listing(stopped.output / "model") == files.listing(undisturbed.output / "model")


def test_stop_during_an_evaluation_goes_on_with_that_evaluation(trainer: Callable[..., Any], digits_csv: str) -> None:
    config = {**CONFIG, "params": {"epochs": 2, "earlyStopping": {"patience": 0}}, "determinism": "Reproducible"}
    undisturbed = trainer(config, {"digits.csv": digits_csv}, name="undisturbed")
    assert undisturbed.here()[0] == 0

    stopped = trainer(config, {"digits.csv": digits_csv}, name="stopped")
    with pytest.MonkeyPatch.context() as patch:
        asked = Stop()
        real = metrics.gather_outputs

        def gather(*args: Any) -> Any:
            asked.requested = True
            return real(*args)

        patch.setattr(metrics, "gather_outputs", gather)
        code, result = stopped.here(asked)
    assert code == 75
    assert not any("epoch" in row for row in stopped.rows())
    code, again = stopped.here()
    assert code == 0
    assert again["resumedFrom"] == result["step"]
    assert stopped.rows() == undisturbed.rows()


def test_the_last_weights_instead_of_the_best(trainer: Callable[..., Any], digits_csv: str) -> None:
    params = {
        "epochs": 6,
        "learningRate": 0.01,
        "schedule": "Constant",
        "dropout": 0.0,
        "earlyStopping": {"patience": 0},
    }
    exported = {}
    for name in ("Best", "Last"):
        run = trainer({**CONFIG, "params": params, "weights": name}, {"digits.csv": digits_csv}, name=name)
        code, result = run.here()
        assert code == 0
        exported[name] = result["summary"]["weights"], files.listing(run.output / "model")["model.safetensors"]
    (best, best_file), (last, last_file) = exported["Best"], exported["Last"]
    assert best["step"] == best["bestStep"] < best["lastStep"]
    assert last == {**best, "step": best["lastStep"]}
    assert best_file != last_file


def test_checkpoints_go_with_the_end_of_a_run_that_is_saved(trainer: Callable[..., Any], digits_csv: str) -> None:
    config = {**CONFIG, "params": {**CONFIG["params"], "maxSteps": 60}, "keepCheckpoints": False}
    run = trainer(config, {"digits.csv": digits_csv}, extra={"MODELYARD_TRAINING_UID": "u-1"})
    code, first = run.here()
    assert code == 0
    assert not (run.output / "checkpoints").exists()
    rows = run.rows()
    # Killed before anybody heard of the end: there is nothing to go on from, and nothing left to do.
    code, again = run.here()
    assert code == 0
    assert again["summary"] == first["summary"]
    assert run.rows() == rows
    other = trainer(config, {"digits.csv": digits_csv}, extra={"MODELYARD_TRAINING_UID": "u-2"})
    assert other.here()[0] == 0
    assert other.metadata()["training"]["uid"] == "u-2", "another Training trains anew"


def test_a_run_goes_on_from_another_ones_checkpoint(trainer: Callable[..., Any], digits_csv: str) -> None:
    def config(epochs: int) -> dict[str, Any]:
        params = {**CONFIG["params"], "epochs": epochs, "schedule": "Constant", "warmupRatio": 0.0}
        return {**CONFIG, "params": params}

    longest, first = (trainer(config(n), {"digits.csv": digits_csv}, name=f"for {n}") for n in (4, 2))
    for run in (longest, first):
        assert run.here()[0] == 0
    newest = first.output / "checkpoints" / f"step-{first.steps()[-1]:08d}"
    further = trainer(config(4), {"digits.csv": digits_csv}, name="further")
    further.resume_from = newest
    before = files.listing(first.output)
    code, result = further.here()
    assert code == 0
    assert result["resumedFrom"] == first.steps()[-1]
    assert losses(further) == [(s, v) for s, v in losses(longest) if s > first.steps()[-1]]
    assert files.listing(first.output) == before, "what is gone on from is left as it is"


def test_compiled_resume_is_within_the_stated_tolerance(trainer: Callable[..., Any], digits_csv: str) -> None:
    params = {**CONFIG["params"], "epochs": 3, "maxSteps": 120, "compile": True}
    config = {**CONFIG, "params": params, "determinism": "Reproducible", "checkpoint": {"everySteps": 30}}
    undisturbed = trainer(config, {"digits.csv": digits_csv}, name="undisturbed")
    assert undisturbed.run()[0] == 0
    stopped = trainer(config, {"digits.csv": digits_csv}, name="stopped")
    shutil.copytree(undisturbed.output / "checkpoints", stopped.output / "checkpoints")
    for step, path in checkpoint.checkpoints_in(stopped.output / "checkpoints"):
        if step > 90:
            shutil.rmtree(path)
    code, reports = stopped.run()
    assert code == 0
    assert reports[-1]["result"]["resumedFrom"] == 90
    expected = [row for row in losses(undisturbed) if row[0] > 90]
    found = losses(stopped)
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], rel=1e-2)
