"""What the agent is told by its environment, and the checks of the pod's inputs before anything is started.

The operator writes these variables into the Job. Everything that is wrong with them is a `BadInputError`: one
sentence that says what is wrong, where, and what to do.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .codes import BadInputError

DEFAULT_TOKEN_FILE = "/var/run/secrets/modelyard/token"


@dataclass(frozen=True)
class Settings:
    """The agent's whole input. Times are seconds, `nodes` and `processes` (per node) count from 1."""

    namespace: str
    training: str
    uid: str
    attempt: int
    pod: str
    output: Path
    model: Path | None
    dataset: Path | None
    adapter: Path | None
    assistant: Path | None
    origin: Path | None
    config: Mapping[str, Any]
    grace: float
    collector_url: str | None
    ca_pem: str
    token_file: Path
    termination_log: Path
    nodes: int
    processes: int
    node_rank: int
    master_addr: str
    master_port: int

    @property
    def world_size(self) -> int:
        """How many processes train together."""
        return self.nodes * self.processes

    @property
    def resume(self) -> bool:
        """Whether the run goes on from a checkpoint of an earlier attempt."""
        checkpoint = self.config.get("checkpoint")
        return not (isinstance(checkpoint, dict) and checkpoint.get("resume") == "Never")


def termination_log(env: Mapping[str, str]) -> Path:
    """Where the termination message goes; known before anything else is checked."""
    return Path(env.get("MODELYARD_TERMINATION_LOG") or "/dev/termination-log")


def load(env: Mapping[str, str], config_required: bool) -> Settings:
    """Settings from the environment. Raises `BadInputError` for the first thing that is missing or malformed."""
    return Settings(
        namespace=env.get("MODELYARD_NAMESPACE", ""),
        training=env.get("MODELYARD_TRAINING", ""),
        uid=env.get("MODELYARD_TRAINING_UID", ""),
        attempt=_number(env, "MODELYARD_ATTEMPT", 1, least=0),
        pod=env.get("HOSTNAME") or socket.gethostname(),
        output=Path(env.get("MODELYARD_OUTPUT") or "/modelyard/output"),
        model=_folder(env, "MODELYARD_MODEL"),
        dataset=_folder(env, "MODELYARD_DATASET"),
        adapter=_folder(env, "MODELYARD_ADAPTER"),
        assistant=_folder(env, "MODELYARD_ASSISTANT"),
        origin=_folder(env, "MODELYARD_CHECKPOINT"),
        config=_config(env.get("MODELYARD_CONFIG", ""), config_required),
        grace=float(_number(env, "MODELYARD_GRACE_SECONDS", 30, least=1)),
        collector_url=env.get("MODELYARD_COLLECTOR_URL") or None,
        ca_pem=env.get("MODELYARD_CA_PEM", ""),
        token_file=Path(env.get("MODELYARD_TOKEN_FILE") or DEFAULT_TOKEN_FILE),
        termination_log=termination_log(env),
        nodes=_number(env, "MODELYARD_NODES", 1, least=1),
        processes=_number(env, "MODELYARD_PROCESSES_PER_NODE", 1, least=1),
        node_rank=_number(env, "JOB_COMPLETION_INDEX", 0, least=0),
        master_addr=env.get("MODELYARD_MASTER_ADDR") or "127.0.0.1",
        master_port=_number(env, "MODELYARD_MASTER_PORT", 29400, least=1),
    )


def check(settings: Settings) -> None:
    """Looks at the mounted folders. Raises `BadInputError` for the first one that the run can't work with."""
    if not settings.output.is_dir():
        raise BadInputError(f"The output folder {settings.output} is not there: check the volume of MODELYARD_OUTPUT.")
    if not os.access(settings.output, os.W_OK | os.X_OK):
        raise BadInputError(
            f"The output folder {settings.output} can't be written by user {os.getuid()}: "
            "check the volume's owner and the pod's fsGroup."
        )
    for folder, what in _inputs(settings):
        if not folder.is_dir():
            raise BadInputError(
                f"The folder {folder} of the {what} is not there: check the volume that it is mounted from."
            )
        try:
            empty = next(folder.iterdir(), None) is None
        except OSError:
            raise BadInputError(
                f"The folder {folder} of the {what} can't be read by user {os.getuid()}: check its permissions."
            ) from None
        if empty:
            raise BadInputError(f"The folder {folder} of the {what} is empty: its download or its path is wrong.")


def _inputs(settings: Settings) -> tuple[tuple[Path, str], ...]:
    named = (
        (settings.model, "base model"),
        (settings.adapter, "adapter"),
        (settings.assistant, "assistant model"),
        (settings.dataset, "data set"),
        (settings.origin, "Training to go on from"),
    )
    return tuple((folder, what) for folder, what in named if folder is not None)


def _folder(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]) if env.get(name) else None


def _number(env: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = env.get(name)
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) < least:
        raise BadInputError(f"The environment variable {name} must be a whole number of at least {least}.")
    return int(text)


def _config(text: str, required: bool) -> Mapping[str, Any]:
    if not text and not required:
        return {}
    if not text:
        raise BadInputError(
            "The environment variable MODELYARD_CONFIG is missing: it holds the run's settings as JSON."
        )
    try:
        config = json.loads(text)
    except ValueError:
        raise BadInputError("The environment variable MODELYARD_CONFIG is not valid JSON.") from None
    if not isinstance(config, dict):
        raise BadInputError("The environment variable MODELYARD_CONFIG must be a JSON object.")
    return config
