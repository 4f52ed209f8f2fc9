"""What the launcher chose for a cluster: its kind, ports and options, kept from `up` to `down` in `cluster.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from localcluster.errors import LauncherError
from localcluster.paths import ClusterDir

KINDS = {"control-plane": "a control plane without a node", "full": "a full cluster"}


@dataclass(frozen=True)
class State:
    """The contents of `cluster.json`."""

    kind: str
    ports: Mapping[str, int]
    audit: bool = False


def read_state(cluster: ClusterDir) -> State | None:
    """The state, or None where no cluster of this name was brought up."""
    try:
        return State(**json.loads(cluster.config.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def load_state(cluster: ClusterDir, kind: str) -> State | None:
    """The state of a cluster that must be of this kind if there is one."""
    state = read_state(cluster)
    if state is not None and state.kind != kind:
        raise LauncherError(
            f"{cluster.name!r} is {KINDS[state.kind]}, not {KINDS[kind]}: take it down or use another --name"
        )
    return state


def save_state(cluster: ClusterDir, kind: str, ports: Mapping[str, int], *, audit: bool) -> State:
    """Write the state whole or not at all."""
    state = State(kind, dict(ports), audit)
    cluster.root.mkdir(parents=True, exist_ok=True)
    temporary = cluster.config.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(state), indent=1))
    temporary.replace(cluster.config)
    return state
