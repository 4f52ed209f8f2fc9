"""Trainers that start at once: forked from a process that has imported torch and the core. Each is killed, or ends."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from typing import Any

# The process that is forked has all of these: seconds of imports.
import torch.distributed.checkpoint.hf_storage
import torch.distributed.checkpoint.state_dict_loader
import torch.distributed.checkpoint.state_dict_saver  # noqa: F401
import torchmetrics.functional  # noqa: F401

import modelyard_training.core.run as core
import modelyard_training.recipes.tabular  # noqa: F401
from modelyard_training.core.stop import Stop

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


def start(environment: Mapping[str, str]) -> Any:
    """A trainer with that environment: a process with `kill`, `join` and `exitcode`."""
    process = _CONTEXT.Process(target=_run, args=(dict(environment),))
    process.start()
    return process


def _run(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    sys.exit(core.main(os.environ, Stop().install()))
