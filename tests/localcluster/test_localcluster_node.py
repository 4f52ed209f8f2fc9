"""A full cluster after a crash, and after `down`. Needs root, and no other full cluster on the machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import Cluster, cgroups, network
from localcluster.baseimages import node_image
from localcluster.cluster import running_elsewhere
from localcluster.host import can_run_cluster
from localcluster.paths import ClusterDir
from localcluster.tools import path_of

NAME = "test-node"

pytestmark = pytest.mark.skipif(not can_run_cluster(), reason="a node needs root")


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    other = running_elsewhere(ClusterDir(NAME))
    if other is not None:
        pytest.skip(f"the full cluster {other!r} runs, and there can be one on a machine")
    cluster = Cluster(NAME)
    cluster.down(purge=True)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down(purge=True)


def kubectl(cluster: Cluster, *words: str, stdin: str | None = None) -> str:
    argv = [str(path_of("kubectl")), f"--kubeconfig={cluster.kubeconfig}", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True, input=stdin).stdout


def writer() -> str:
    """A pod that adds a line to a file in a volume each time it starts."""
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    container = {
        "name": "writer",
        "image": node_image(),
        "command": ["sh", "-c", "echo started >> /data/log; sleep 1000"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    items = [
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "writer"},
            "spec": {"containers": [container], "volumes": [volume], "terminationGracePeriodSeconds": 0},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def starts(cluster: Cluster) -> int:
    with contextlib.suppress(subprocess.CalledProcessError):
        return kubectl(cluster, "exec", "writer", "--", "cat", "/data/log").count("started")
    return 0


def wait_for_starts(cluster: Cluster, number: int) -> None:
    deadline = time.monotonic() + 300
    while starts(cluster) < number:
        assert time.monotonic() < deadline, kubectl(cluster, "describe", "pod", "writer")
        time.sleep(0.5)


def test_comes_back_after_a_crash_and_leaves_nothing_when_taken_down(cluster: Cluster) -> None:
    kubectl(cluster, "apply", "-f", "-", stdin=writer())
    wait_for_starts(cluster, 1)
    assert "nameserver 10.213.0.10" in kubectl(cluster, "exec", "writer", "--", "cat", "/etc/resolv.conf")
    kubectl(cluster, "exec", "writer", "--", "nslookup", "kubernetes.default.svc.cluster.local")

    # As when a machine is cut off: nothing ends in order, shims and containers included.
    for pid in cgroups.members():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "link", "delete", network.NODE_BRIDGE], check=True)
    cluster.up()
    wait_for_starts(cluster, 2)

    cluster.down(purge=True)
    assert not cluster.cluster.root.exists()
    assert not cgroups.exists()
    assert network.leftovers() == []
    assert str(cluster.cluster.root) not in Path("/proc/self/mountinfo").read_text()
    for path in ("/run/netns", "/run/containerd", "/run/buildkit", "/var/lib/kubelet"):
        assert not Path(path).exists() or "modelyard" not in " ".join(os.listdir(path))
