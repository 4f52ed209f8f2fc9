"""How exactly a run repeats itself: seeds, threads, deterministic algorithms, and the state of every random generator.

`Reproducible`: the same order of data, randomness and step after a resume. `Bitwise`: besides, deterministic
algorithms and a number of threads that a resumed run takes over from its checkpoint, so that every loss is identical.
"""

from __future__ import annotations

import base64
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modelyard_training.core.errors import BadInput


def cpus() -> int:
    """CPUs that this process may really use: the affinity, or the cgroup's quota if that is less; at least 1."""
    count = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return count
    if quota == "max":
        return count
    return max(1, min(count, int(quota) // int(period)))


def prepare(level: str, seed: int, threads: int) -> None:
    """Seeds every generator and fixes the threads. Call it before the model is built."""
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    if level == "Bitwise":
        # cuBLAS reads it when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def default_threads() -> int:
    """Threads of a fresh run: `OMP_NUM_THREADS` if set, else the CPUs."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else cpus()


def circumstances(world_size: int, device: torch.device) -> dict[str, Any]:
    """What must be the same for a resumed `Bitwise` run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"worldSize": world_size, "device": name, "torch": torch.__version__}


def check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raises `BadInput` when a `Bitwise` run is resumed under other circumstances than it began."""
    names = {"worldSize": "number of processes", "device": "device model", "torch": "version of torch"}
    for key, what in names.items():
        if before.get(key) != now[key]:
            raise BadInput(
                f"The run began with {what} {before.get(key)} and would go on with {now[key]}, which determinism: "
                "Bitwise rules out. Give it the same again, or train with determinism: Reproducible."
            )


def rng_state(device: torch.device) -> dict[str, Any]:
    """The state of every generator of this process, as JSON values."""
    version, internal, gauss = random.getstate()
    kind, keys, pos, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), pos, has_gauss, cached],
        "torch": _text(torch.get_rng_state()),
    }
    if device.type == "cuda":
        state["cuda"] = _text(torch.cuda.get_rng_state(device))
    return state


def set_rng_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts back what `rng_state` gave."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, pos, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), pos, has_gauss, cached))
    torch.set_rng_state(_tensor(state["torch"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(_tensor(state["cuda"]), device)


def _text(state: torch.Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode()


def _tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
