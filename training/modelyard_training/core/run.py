"""One run from its environment to its result: inputs, recipe, loop, export, and how each end is told.

`main` returns the exit code. What the agent needs for the termination message goes to it as the last report.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from modelyard_training.core import card, checkpoint, compiled, determinism, errors, room, sharding, world
from modelyard_training.core import export as exports
from modelyard_training.core.checkpoint import Checkpoints
from modelyard_training.core.errors import BadInput, Stopped
from modelyard_training.core.progress import Settings
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.stop import Stop
from modelyard_training.core.task import Task
from modelyard_training.core.train import Loop
from modelyard_training.core.world import World
from modelyard_training.params import RECIPES, CheckpointPolicy, RunConfig, resolve

log = logging.getLogger(__name__)

_MODULES = {
    "causalLM": "causal_lm",
    "image": "image",
    "tabular": "tabular",
    "text": "text",
    "textToImageLoRA": "text_to_image",
}
_LAST_WORDS = 10.0
METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Run:
    """What a recipe is built from."""

    config: RunConfig
    params: dict[str, Any]
    """Effective parameters by their names in the manifest."""
    world: World
    stop: Stop
    environment: Mapping[str, str]

    def dataset(self) -> Path:
        """Root of the mounted data set. Raises `BadInput` without one."""
        root = Path(self.environment.get("MODELYARD_DATASET") or "/modelyard/dataset")
        if not root.is_dir():
            raise BadInput(f"The recipe {self.config.recipe} needs a data set, and none is mounted: set spec.dataset.")
        return root

    def base_model(self) -> Path:
        """Folder of the mounted base model. Raises `BadInput` without one."""
        root = Path(self.environment.get("MODELYARD_MODEL") or "/modelyard/model")
        inner = self.config.model.path if self.config.model else None
        folder = root / inner if inner else root
        if ".." in folder.parts or not folder.is_dir():
            raise BadInput(
                f"The recipe {self.config.recipe} needs a base model, and none is there: set spec.model.ref."
            )
        return folder

    def adapter(self) -> Path | None:
        """Folder of the adapter to go on from, if the run has one. Raises `BadInput` if it is named and not there."""
        if self.config.adapter is None:
            return None
        folder = Path(self.environment.get("MODELYARD_ADAPTER") or "/modelyard/adapter")
        if not folder.is_dir():
            raise BadInput("The adapter to go on from is not there: check spec.model.ref.")
        return folder

    def assistant(self) -> Path | None:
        """Folder of the mounted assistant model, if the run has one. Raises `BadInput` if it is named and not there."""
        if self.config.assistant is None:
            return None
        root = Path(self.environment.get("MODELYARD_ASSISTANT") or "/modelyard/assistant")
        folder = root / self.config.assistant.path if self.config.assistant.path else root
        if ".." in folder.parts or not folder.is_dir():
            raise BadInput("The assistant model is not there: check spec.model.assistantRef.")
        return folder

    def output(self) -> Path:
        """Root of the output volume."""
        return Path(self.environment.get("MODELYARD_OUTPUT") or "/modelyard/output")


def main(environment: Mapping[str, str], stop: Stop) -> int:
    """Trains what the environment says. Returns the exit code; never raises for what the user can mend."""
    reporter = Reporter.from_environment()
    code = errors.ERROR
    try:
        code = _main(environment, stop, reporter)
    except BadInput as error:
        log.error("%s: %s", error.reason, error)
        reporter.send({"phase": "Failed", "result": _failed(error.reason, str(error))}, keep=True)
        code = errors.BAD_INPUT
    except Stopped:
        reporter.send(
            {
                "phase": "Stopped",
                "result": {"result": "stopped", "reason": "Stopped", "message": "Stopped before training began."},
            },
            keep=True,
        )
        code = errors.STOPPED
    except torch.OutOfMemoryError:
        log.exception("out of GPU memory")
        told = room.too_large()
        reporter.send({"phase": "Failed", "result": _failed(told.reason, str(told))}, keep=True)
        code = errors.BAD_INPUT
    finally:
        reporter.close(_LAST_WORDS)
    return code


def _failed(reason: str, message: str) -> dict[str, Any]:
    return {"result": "failed", "reason": reason, "message": message}


def _main(environment: Mapping[str, str], stop: Stop, reporter: Reporter) -> int:
    config = read_config(environment.get("MODELYARD_CONFIG", ""))
    recipe = RECIPES[config.recipe]
    if recipe.family not in _MODULES:
        raise BadInput(f"The recipe {config.recipe} is not part of this version of the trainer.")
    params = resolve(config.block())
    output = Path(environment.get("MODELYARD_OUTPUT") or "/modelyard/output")
    if (complete := exports.finished(output, environment.get("MODELYARD_TRAINING_UID", ""))) is not None:
        if environment.get("RANK", "0") == "0":
            _done(reporter, complete, {"step": complete["steps"], "resumedFrom": complete["resumedFrom"]})
        return errors.DONE
    given = environment.get("MODELYARD_RESUME_FROM", "")
    resume_from = checkpoint.usable(Path(given)) if given else None
    level = config.determinism or "Reproducible"
    threads = determinism.default_threads()
    if resume_from is not None and level == "Bitwise":
        threads = int(checkpoint.load_state(resume_from, 0)[0]["threads"])
    if params.get("compile"):
        compiled.check_compiler(environment)
    here = world.join()
    try:
        determinism.prepare(level, params["seed"], threads)
        run = Run(config, params, here, stop, environment)
        if here.first:
            reporter.send({"phase": "Preparing"})
        task: Task = importlib.import_module(f"modelyard_training.recipes.{_MODULES[recipe.family]}").build(run)
        stop.check()
        return _train(run, task, output, resume_from, reporter)
    finally:
        here.close()


def _train(run: Run, task: Task, output: Path, resume_from: Path | None, reporter: Reporter) -> int:
    policy = resolve(run.config.checkpoint or CheckpointPolicy())
    checkpoints = Checkpoints(output / "checkpoints", policy["keep"], run.world)
    _fit(run, task, resume_from)
    if run.world.first:
        room.check_disk(output, task.model, len(checkpoint.checkpoints_in(checkpoints.folder)))
    settings = _settings(run, task, policy)
    loop = Loop(task, settings, run.world, checkpoints, MetricsFile(output / METRICS), reporter, run.stop)
    try:
        finished = loop.run(resume_from)
    except torch.OutOfMemoryError:
        log.exception("out of memory at step %s", loop.progress.step + 1)
        finished = None
    except (BadInput, OSError) as error:
        # A checkpoint that is being written is whole when the process ends.
        with contextlib.suppress(Exception):
            checkpoints.finish()
        if isinstance(error, BadInput) or not errors.no_space(error):
            raise
        raise errors.DiskFull(
            f"The output volume is full: {METRICS} could not be written. The checkpoints are whole. Give "
            "output.storage more room, or lower checkpoint.keep."
        ) from error
    if finished is None and not loop.begun:
        raise room.too_large()
    if finished is None:
        # Only here, where nothing of the failed step is held any more, can be measured what would have fitted.
        loop.course.optimizer.state.clear()
        raise room.out_of_memory(task, run.params, run.world, loop.course.sharded)
    p = loop.progress
    resumed = int(resume_from.name.removeprefix("step-")) if resume_from is not None else None
    ending: dict[str, Any] = {"step": p.step, "resumedFrom": resumed, "checkpoint": loop.checkpoint_report()}
    if not finished:
        if run.world.first:
            message = f"Stopped at step {p.step} of {loop.course.total_steps}, after a checkpoint."
            ending.update(result="stopped", reason="Stopped", message=message)
            reporter.send({"phase": "Stopped", "step": p.step, "result": ending}, keep=True)
        return errors.STOPPED
    metrics = loop.use_best()
    if loop.course.sharded:
        sharding.whole(task.model, run.world)
    if run.world.first:
        metadata = _metadata(run, task, loop, metrics, resumed)

        def write(folder: Path) -> None:
            task.export(folder)
            card.write(folder, metadata, task.describe().use, output / METRICS)

        complete = exports.export(output, write, metadata)
        _done(reporter, complete, ending)
        if run.config.keep_checkpoints is False:
            checkpoints.remove()
    run.world.barrier()
    return errors.DONE


def _done(reporter: Reporter, complete: dict[str, Any], ending: dict[str, Any]) -> None:
    steps, epochs, metrics = complete["steps"], complete["epochs"], complete["metrics"]
    ending.update(
        result="done",
        reason="Completed",
        message=f"Trained {steps} steps in {epochs} epochs.",
        summary=exports.summary(complete),
    )
    status = {
        "progressPercentage": 100,
        "estimatedRemainingSeconds": 0,
        "metrics": [{"name": name, "value": str(value)} for name, value in metrics.items()],
    }
    report = {"phase": "Done", "done": True, "step": steps, "totalSteps": steps, "metrics": metrics}
    reporter.send({**report, "epoch": epochs, "totalEpochs": epochs, "result": ending}, status, keep=True)


def _fit(run: Run, task: Task, resume_from: Path | None) -> None:
    """With `batch: Auto`, puts the batch that fits into the parameters; a run that goes on keeps its own."""
    params = run.params
    if params.get("batch") != "Auto":
        return
    examples = params["batchSize"] * params["gradientAccumulation"]
    if params.get("sharding") == "Node" and run.world.size > 1:
        raise BadInput("batch: Auto can't measure a sharded model: set batchSize, or sharding: None.")
    if resume_from is not None:
        size = int(checkpoint.load_state(resume_from, 0)[0]["identity"]["batchSize"])
    else:
        found = room.fitting(task, params, run.world)
        size = int(run.world.gather(torch.tensor([found])).min())
    params.update(batchSize=size, gradientAccumulation=examples // size)


def _settings(run: Run, task: Task, policy: dict[str, Any]) -> Settings:
    params, about = run.params, task.describe()
    early = params.get("earlyStopping") or {"patience": 0, "minDelta": 0.0}
    return Settings(
        # Every epoch has a step at least.
        epochs=params["epochs"] or params["maxSteps"],
        max_steps=params["maxSteps"],
        accumulation=params["gradientAccumulation"],
        schedule=params["schedule"],
        warmup_ratio=params["warmupRatio"],
        clip=params["gradientClip"],
        precision=params["precision"],
        patience=early["patience"],
        min_delta=early["minDelta"],
        save_steps=policy["everySteps"],
        save_seconds=float(policy["everySeconds"]),
        compile=params["compile"],
        shard=params.get("sharding") == "Node",
        bitwise=run.config.determinism == "Bitwise",
        last_weights=run.config.weights == "Last",
        identity={
            "recipe": run.config.recipe,
            "trainSamples": about.train_samples,
            "testSamples": about.test_samples,
            "batchSize": params["batchSize"],
        },
    )


def _metadata(run: Run, task: Task, loop: Loop, metrics: dict[str, float], resumed: int | None) -> dict[str, Any]:
    about, p = task.describe(), loop.progress
    base, dataset = run.config.model, run.config.dataset
    return {
        "kind": about.kind,
        "recipe": run.config.recipe,
        "algorithm": about.algorithm,
        "metrics": metrics,
        "params": about.params or run.params,
        "dataset": dataset.model_dump(by_alias=True, exclude_none=True) if dataset else None,
        "features": about.features,
        "target": about.target,
        "classes": about.classes,
        "trainSamples": about.train_samples,
        "testSamples": about.test_samples,
        "trainingSeconds": round(p.seconds, 3),
        "steps": p.step,
        "epochs": p.epoch,
        "bestStep": p.best_step,
        "weightsStep": loop.weights_step,
        "sampleSteps": exports.sample_steps(run.output()),
        "checkpointsRemoved": run.config.keep_checkpoints is False,
        "bestEpoch": p.best_epoch,
        "notes": about.notes,
        "determinism": run.config.determinism or "Reproducible",
        "circumstances": {
            **determinism.circumstances(run.world.size, run.world.device),
            "threads": torch.get_num_threads(),
        },
        "resumedFrom": resumed,
        "baseModel": base.model_dump(by_alias=True, exclude_none=True) if base else None,
        "training": {
            "namespace": run.environment.get("MODELYARD_NAMESPACE", ""),
            "name": run.environment.get("MODELYARD_TRAINING", ""),
            "uid": run.environment.get("MODELYARD_TRAINING_UID", ""),
        },
        "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def read_config(text: str) -> RunConfig:
    """The run's configuration. Raises `BadInput` naming the first field that is wrong."""
    try:
        config = RunConfig.model_validate_json(text)
        config.block()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "MODELYARD_CONFIG"
        raise BadInput(f"The configuration is wrong at {place}: {first['msg']}.") from None
    return config
