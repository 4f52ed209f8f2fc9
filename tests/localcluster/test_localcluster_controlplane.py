"""A control plane of one's own: what tests rely on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcluster import ControlPlane
from localcluster.controlplane import PROCESSES
from localcluster.procs import start_time
from localcluster.tools import path_of

NAME = "test-localcluster"


def kubectl(kubeconfig: Path, *words: str) -> str:
    argv = [str(path_of("kubectl")), f"--kubeconfig={kubeconfig}", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane(NAME, audit=True) as plane:
        yield plane


def test_takes_pods_at_once(plane: ControlPlane) -> None:
    kubectl(plane.kubeconfig, "run", "first", "--image=none", "--restart=Never")
    assert kubectl(plane.kubeconfig, "get", "pod", "first", "-o", "name") == "pod/first\n"


def test_any_user_and_groups(plane: ControlPlane) -> None:
    jane = plane.client_kubeconfig("jane", ["team-a", "team-b"])
    who = json.loads(kubectl(jane, "auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert who["username"] == "jane"
    assert {"team-a", "team-b"} <= set(who["groups"])


def test_a_restarted_api_server_has_its_address_and_its_data(plane: ControlPlane) -> None:
    kubectl(plane.kubeconfig, "create", "configmap", "kept")
    plane.stop_apiserver()
    with pytest.raises(subprocess.CalledProcessError):
        kubectl(plane.kubeconfig, "get", "configmap", "kept")
    plane.start_apiserver()
    assert kubectl(plane.kubeconfig, "get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_every_write_is_in_the_audit_log(plane: ControlPlane) -> None:
    kubectl(plane.kubeconfig, "create", "configmap", "seen")
    assert plane.audit_log is not None
    events = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    writes = [e for e in events if e["verb"] == "create" and e.get("objectRef", {}).get("name") == "seen"]
    assert [w["user"]["username"] for w in writes] == ["modelyard-admin"]


def test_what_an_interrupted_run_left_goes_and_nothing_stays() -> None:
    interrupted = ControlPlane(f"{NAME}-2")
    interrupted.__enter__()
    started = [running(interrupted, name) for name in PROCESSES]
    os.kill(started[1][0], signal.SIGKILL)
    with ControlPlane(f"{NAME}-2") as plane:
        assert kubectl(plane.kubeconfig, "get", "pods") == ""
        started += [running(plane, name) for name in PROCESSES]
    assert not plane.cluster.root.exists()
    assert [pid for pid, when in started if start_time(pid) == when] == []


def running(plane: ControlPlane, name: str) -> tuple[int, int]:
    """Pid and start time of a process that must be running."""
    pid = plane.components.process(name).pid()
    when = start_time(pid) if pid is not None else None
    assert pid is not None and when is not None  # noqa: PT018
    return pid, when
