"""How far a download of a Dataset is: its Job's own command line, run as its pod would, tells the real collector."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from hub.store import Store
from modelyard.plan import Kind
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, POD
from support.build import make_model, make_source, make_version
from support.cluster import Kube, path_of, wait_for
from support.downloads import end_download
from support.loading import PATHS, Server

World = Any
Obj = dict[str, Any]
PIECES, PIECE_BYTES = 24, 1 << 18
TOTAL = PIECES * PIECE_BYTES


def test_bytes_total_rate_and_time_left_are_shown_while_it_runs(
    world: World, collector: dict[str, str], tmp_path: Path
) -> None:
    store = Store(tmp_path / "repositories")
    files = {f"{n}.safetensors": random.Random(n).randbytes(PIECE_BYTES) for n in range(PIECES)}
    store.commit("models", "org/large", files)
    hub = Server("hub", "--root", tmp_path / "repositories")
    try:
        hub.order({"match": "safetensors", "bytes_per_second": PIECE_BYTES // 8, "times": None})
        world.create(make_source("local", config={"endpoint": hub.url}), MODELSOURCE)
        world.create(make_model("m", make_version(repo="org/large"), source="local"), MODEL)
        name = "dataset-mdl-m-v1-round-1"
        job = wait_for(lambda: world.kube.find(JOB, world.namespace, name), name)
        loader = start_loader(world, job, collector, tmp_path)
        shown = wait_for(lambda: full(world.entry().get("progress")), "the progress in the status")
        assert 0 < shown["bytes"] < shown["totalBytes"] == TOTAL
        assert shown["percent"] == 100 * shown["bytes"] // TOTAL
        assert (world.entry()["phase"], shown["totalFiles"]) == ("Processing", PIECES)
        wait_for(lambda: world.entry()["progress"]["bytes"] > shown["bytes"], "it to move on")
        hub.order()
        assert loader.wait(120) == 0, (tmp_path / "output").read_text()
    finally:
        hub.stop()
    said = json.loads((tmp_path / "termination-log").read_text())
    assert (said["result"], said["bytes"]) == ("done", TOTAL)
    end_download(world.kube, world.namespace, name, said)
    entry = world.wait_for_entry(phase="Ready", progress=None)
    assert (entry["bytes"], entry["files"], entry["resolvedRevision"]) == (TOTAL, PIECES, said["resolvedRevision"])
    found = tmp_path / "volume" / "data"
    assert {p.name: p.read_bytes() for p in found.iterdir()} == files


def full(progress: Obj | None) -> Obj | None:
    """The progress, once all of it is known."""
    wanted = {"bytes", "totalBytes", "bytesPerSecond", "etaSeconds"}
    return progress if progress is not None and wanted <= progress.keys() and progress["bytes"] else None


def start_loader(world: World, job: Obj, collector: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """The Job's container, with its command line but for the folders and the user, and its pod's own token."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    own = {
        "--mount-root": folder / "volume",
        "--mount-secrets": folder / "secrets",
        "--mount-uid": os.getuid(),
        "--mount-gid": os.getgid(),
    }
    (folder / "volume").mkdir()
    (folder / "termination-log").touch()
    kept = [a for a in container["args"] if a.partition("=")[0] not in own]
    token = folder / "token"
    token.write_text(pod_token(world.kube, world.namespace, job["metadata"]["name"]))
    command = [sys.executable, "-m", "modelyard.cli", *container["command"][1:], *kept]
    environment = {
        **os.environ,
        "PYTHONPATH": PATHS,
        "HOME": str(folder),
        "MODELYARD_TERMINATION_LOG": str(folder / "termination-log"),
        "MODELYARD_COLLECTOR_URL": collector["url"],
        "MODELYARD_CA_PEM": Path(collector["caFile"]).read_text(),
        "MODELYARD_TOKEN_FILE": str(token),
        "MODELYARD_NAMESPACE": world.namespace,
        "MODELYARD_DATASET_JOB": job["metadata"]["name"],
    }
    with (folder / "output").open("wb") as output:
        return subprocess.Popen(
            [*command, *(f"{key}={value}" for key, value in own.items())], env=environment, stdout=output, stderr=output
        )


def pod_token(kube: Kube, namespace: str, job: str) -> str:
    """What the kubelet projects into the Job's pod."""
    pods = wait_for(lambda: kube.list(POD, namespace, f"batch.kubernetes.io/job-name={job}"), "the pod")
    bound = {"kind": "Pod", "apiVersion": "v1", "name": pods[0]["metadata"]["name"], "uid": pods[0]["metadata"]["uid"]}
    spec = {"audiences": ["modelyard.dev/datasets"], "expirationSeconds": 3600, "boundObjectRef": bound}
    accounts = Kind("v1", "ServiceAccount", "serviceaccounts")
    made = kube.request("POST", path_of(accounts, namespace, "default") + "/token", {"spec": spec})
    return str(made["status"]["token"])
