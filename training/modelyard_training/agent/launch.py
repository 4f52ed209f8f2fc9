"""The command line and the environment of the program that trains.

One process runs as it is. Several run under torchrun with a static rendezvous, where the node's rank is the Job's
completion index: stable over restarts, which torchrun's own c10d rendezvous is not. torchrun and every program that
the user starts with it read the `PET_…` variables. How long the nodes wait for each other is the operator's business.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import rank
from .checkpoints import Checkpoint
from .child import Stop
from .settings import Settings

CORE = rank.CORE
RANK = "modelyard_training.agent.rank"
_DAY = 86400
_OURS_ALONE = (
    "MODELYARD_TOKEN_FILE",
    "MODELYARD_COLLECTOR_URL",
    "MODELYARD_CA_PEM",
    "MODELYARD_TERMINATION_LOG",
    "KUBEFLOW_TRAINER_SERVER_CA_CERT",
)
_LOOPBACK = ("127.0.0.1", "localhost")


def command(given: Sequence[str], settings: Settings) -> list[str]:
    """The program's command line: the user's own, or our training core, under torchrun if several processes train."""
    if given:
        return list(given)
    if settings.world_size == 1:
        return [sys.executable, "-m", CORE]
    return [sys.executable, "-m", "torch.distributed.run", "-m", RANK]


def await_first_node(settings: Settings, stop: Stop) -> None:
    """Returns when the first node's name can be resolved, which is so once its pod has an address, or on a stop."""
    while settings.node_rank > 0 and not stop.requested:
        try:
            socket.getaddrinfo(settings.master_addr, settings.master_port)
            return
        except OSError:
            stop.sleep(1.0)


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Programs honour http_proxy for the loopback address too, and would hand their reports to the proxy."""
    hosts = [host for name in ("no_proxy", "NO_PROXY") for host in env.get(name, "").split(",") if host]
    return dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(dict.fromkeys([*_LOOPBACK, *hosts])))


def environment(
    env: Mapping[str, str], settings: Settings, resume: Checkpoint | None, server_url: str, scratch: Path
) -> dict[str, str]:
    """The program's environment: the pod's, less what the agent alone needs, plus where to report and to resume."""
    child = {name: value for name, value in env.items() if name not in _OURS_ALONE}
    child.update(
        MODELYARD_OUTPUT=str(settings.output),
        MODELYARD_RESUME_FROM=str(resume.path) if resume else "",
        KUBEFLOW_TRAINER_SERVER_URL=server_url,
        KUBEFLOW_TRAINER_SERVER_TOKEN=str(scratch / "token"),
    )
    child.setdefault("PYTHONUNBUFFERED", "1")
    child.update(without_proxy(env))
    if settings.world_size > 1:
        # torchrun kills its workers 30 s after a SIGTERM unless told otherwise, whatever they are still saving.
        child.update(
            PET_NNODES=str(settings.nodes),
            PET_NPROC_PER_NODE=str(settings.processes),
            PET_NODE_RANK=str(settings.node_rank),
            PET_MASTER_ADDR=settings.master_addr,
            PET_MASTER_PORT=str(settings.master_port),
            PET_RDZV_BACKEND="static",
            PET_RDZV_CONF=f"timeout={_DAY}",
            PET_SHUTDOWN_TIMEOUT=str(max(1, int(settings.grace) - 15)),
        )
        child[rank.FOLDER] = str(scratch / "ranks")
    return child
