"""Trainers that start at once: forked from a process that has imported torch, the core and what recipes import.

Each is killed, or ends.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from typing import Any

# The process that is forked has all of these: seconds of imports.
import torch.distributed.checkpoint.hf_storage
import torch.distributed.checkpoint.state_dict_loader
import torch.distributed.checkpoint.state_dict_saver
import torch.distributed.fsdp  # noqa: F401
from diffusers import DDPMScheduler, StableDiffusionPipeline  # noqa: F401
from peft import get_peft_model  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

import modelyard_training.core.run as core
import modelyard_training.recipes.causal_lm
import modelyard_training.recipes.tabular
import modelyard_training.recipes.text_to_image  # noqa: F401
from modelyard_training.core.stop import Stop
from support.ports import free_port

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])
_SECONDS = 240


def start(environment: Mapping[str, str]) -> Any:
    """A trainer with that environment: a process with `kill`, `join` and `exitcode`."""
    process = _CONTEXT.Process(target=_run, args=(dict(environment),))
    process.start()
    return process


def together(environment: Mapping[str, str], processes: int, nodes: int = 1) -> list[int | None]:
    """Trainers that train as one, as torchrun starts them on so many nodes; their exit codes (None: hangs)."""
    port = free_port()
    in_node = processes // nodes
    started = [
        start(
            {
                **environment,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_RANK": str(rank % in_node),
                "LOCAL_WORLD_SIZE": str(in_node),
            }
        )
        for rank in range(processes)
    ]
    for process in started:
        process.join(_SECONDS)
        if process.exitcode != 0:
            # The others wait for it in vain.
            for other in started:
                other.kill()
    return [process.exitcode for process in started]


def _run(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    sys.exit(core.main(os.environ, Stop().install()))
