"""`make bench-operator`: Models at scale, beside the modelfs operator and a raw client on the same API server.

A race: each operator runs, a client creates 1,000 Models of two versions, and the clock stops at the last complete
status; then the Datasets are made READY, as their controller would, and the requests that it took in all are counted
from the API server's audit log. The raw client makes the same requests with nothing to decide. Then more and more
objects under one operator: the cost of each, memory, silence at rest, a restart, and the time from a change to its
status. BENCH_MODELS and BENCH_STEPS change the sizes (BENCH_MODELS=0: no race); MODELYARD_MODELFS and
MODELYARD_DATASET_CRD name the peer and the CRD of Datasets. What was measured is published after each part, so that a
part that fails, or a run that is stopped, leaves the figures of the others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import yaml

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, JOB, MODEL, MODELSOURCE, NAMESPACE, PVC
from modelyard.resources.names import dataset_job
from modelyard.resources.volumes import LABEL_DATASET
from support.audit import Audit, Request
from support.bench import Row, at_most, less_is_better, more_is_better, plain, publish
from support.build import make_model, make_source, make_version
from support.cluster import CRD, Kube, path_of, wait_for
from support.load import RawClient, cpu_seconds, in_flight, memory_mib, paced, percentile
from support.operator import OperatorProcess

Obj = dict[str, Any]
MODELS = int(os.environ.get("BENCH_MODELS", "1000"))
STEPS = tuple(int(n) for n in os.environ.get("BENCH_STEPS", "100,1000,5000,10000").split(","))
AT_ONCE = 1000
CHANGES_AT = int(os.environ.get("BENCH_CHANGES", "5000"))
PATIENCE = 600
EMPTY_QUEUE = "modelyard_workqueue_depth 0.0"
LOOKS = 'modelyard_reconcile_total{controller="Model"'
BEGAN = time.monotonic()
PEER_MODEL = Kind("model.samzong.dev/v1", "Model", "models")
PEER_SOURCE = Kind("model.samzong.dev/v1", "ModelSource", "modelsources")
SETTINGS = {"dataPlane": "baize", "baize": {"loader": "modelyard"}, "logLevel": "INFO", "lease": {}}
SCALE = {**SETTINGS, "resyncSeconds": 7200}
"""Without the regular list of everything, which is a matter of time and not of how many Models came."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One operator's way from so many Models to complete statuses, and on to READY."""

    seconds: float
    cpu: float
    peak: float
    requests: float
    """For each Model, until it was READY."""


def main() -> None:
    """Runs it all; figures to stdout and to build/bench/operator.json, after each part."""
    peer = os.environ.get("MODELYARD_MODELFS", "")
    datasets = os.environ.get("MODELYARD_DATASET_CRD", "")
    if not peer or not datasets:
        sys.exit("Set MODELYARD_MODELFS to modelfs-manager, beside it modelfs-crds.yaml, and MODELYARD_DATASET_CRD.")
    rows: list[Row] = []
    parts: list[Callable[[ControlPlane, Kube, Path, list[Row]], None]] = [scale]
    if MODELS:
        parts.insert(0, partial(race, peer=Path(peer)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    whole = True
    for part in parts:
        try:
            with ControlPlane(name="bench-operator", audit=True) as plane, tempfile.TemporaryDirectory() as name:
                kube = Kube(plane.kubeconfig)
                install(kube, Path(datasets), Path(peer).with_name("modelfs-crds.yaml"))
                part(plane, kube, Path(name), rows)
        except Exception:
            traceback.print_exc()
            whole = False
        finally:
            publish("operator", rows)
    sys.exit(0 if whole else 1)


def say(words: str) -> None:
    """How far it is."""
    print(f"[{time.monotonic() - BEGAN:6.0f} s] {words}", flush=True)


def race(plane: ControlPlane, kube: Kube, folder: Path, rows: list[Row], *, peer: Path) -> None:
    """One operator after the other, and a raw client, on one API server."""
    with peer_process(plane, peer, folder) as pid:
        theirs = asyncio.run(lap(plane, kube, pid, "modelfs", PEER_MODEL, PEER_SOURCE, "modelfs-manager/"))
    with OperatorProcess(plane.kubeconfig, folder, SETTINGS) as operator:
        operator.wait_until_leading()
        pid = operator.process.pid
        ours = asyncio.run(lap(plane, kube, pid, "ours", MODEL, MODELSOURCE, "modelyard-operator/"))
    raw = asyncio.run(raw_lap(plane, kube))
    say(f"raw client: {MODELS / raw:.1f} Models/s")
    rows.extend(race_rows(ours, theirs, raw))


def race_rows(ours: Lap, theirs: Lap, raw: float) -> list[Row]:
    """The race."""
    rate = MODELS / ours.seconds
    return [
        more_is_better("Models of two versions", "/s", rate, MODELS / theirs.seconds, "modelfs", 3.0),
        more_is_better("  beside the same requests of a raw client", "/s", rate, MODELS / raw, "raw client", 0.6),
        at_most("requests for a Model until it is Ready", "", ours.requests, 4.0),
        less_is_better("  beside", "", ours.requests, theirs.requests, "modelfs"),
        less_is_better("CPU", "s", ours.cpu, theirs.cpu, "modelfs"),
        less_is_better("peak memory", "MiB", ours.peak, theirs.peak, "modelfs"),
    ]


async def lap(plane: ControlPlane, kube: Kube, pid: int, name: str, model: Kind, source: Kind, agent: str) -> Lap:
    """One operator's turn, in a namespace of its own."""
    namespace = f"bench-{name}"
    prepare(kube, namespace, source)
    audit = audit_of(plane)
    cpu = cpu_seconds(pid)
    async with RawClient(plane.kubeconfig) as raw:
        began = time.time()
        await create_models(raw, model, namespace, range(MODELS))
        await until(raw, model, namespace, MODELS, complete)
        seconds = max(r.time for r in audit.requests(agent, namespace) if r.resource.endswith("/status")) - began
        cpu = cpu_seconds(pid) - cpu
        await make_ready(raw, namespace)
        await until(raw, model, namespace, MODELS, ready)
        await asyncio.sleep(2)
    requests = counted(audit, agent, namespace)
    kinds = Counter(f"{r.verb} {r.resource}" for r in requests)
    shown = ", ".join(f"{what} {number / MODELS:.2f}" for what, number in kinds.most_common())
    say(f"{name}: {MODELS / seconds:.1f} Models/s; requests for each: {shown}")
    return Lap(seconds, cpu, memory_mib(pid), len(requests) / MODELS)


async def raw_lap(plane: ControlPlane, kube: Kube) -> float:
    """Seconds of a client that makes the Models, their Datasets and as many statuses, and decides nothing."""
    namespace = "bench-raw"
    prepare(kube, namespace, MODELSOURCE)
    entries = [{"name": v, "phase": "Processing", "pvcName": f"mdl-model-00000-{v}"} for v in ("v1", "v2")]
    status = {"status": {"phase": "Processing", "versionsTotal": 2, "versionsReady": 0, "syncedVersions": entries}}
    async with RawClient(plane.kubeconfig) as raw:

        async def one(number: int) -> None:
            await raw.create(MODEL, model_of(MODEL, namespace, number))
            for version in ("v1", "v2"):
                await raw.create(DATASET, dataset_of(namespace, number, version))
            # The second status comes when the data are there, after the clock has stopped.
            await raw.merge(MODEL, namespace, name_of(number), status, "status")

        return await in_flight(partial(one, n) for n in range(MODELS))


def scale(plane: ControlPlane, kube: Kube, folder: Path, rows: list[Row]) -> None:
    """More and more Models under one operator, made READY at each step."""
    costs: list[float] = []
    with OperatorProcess(plane.kubeconfig, folder, SCALE, name="scale") as operator:
        operator.wait_until_leading()
        there = 0
        broken: Exception | None = None
        for total in STEPS:
            try:
                costs.append(step(plane, kube, operator, there, total, rows))
            except Exception as error:  # a restart with what is there can be measured all the same
                traceback.print_exc()
                broken = error
                break
            there = total
        spread = max(costs[1:]) / min(costs[1:]) if len(costs) > 1 else 1.0
        rows.append(at_most(f"dearest Model beside the cheapest, {STEPS[1:]}", "", spread, 1.2 / 0.8))
        rows.append(at_most(f"peak memory at {there} Models", "MiB", memory_mib(operator.process.pid), 512))
        operator.terminate()
        restart(plane, operator, there, rows)
    if broken is not None:
        raise broken


def step(plane: ControlPlane, kube: Kube, operator: OperatorProcess, there: int, total: int, rows: list[Row]) -> float:
    """From so many Models to more: milliseconds of CPU for each."""
    pid = operator.process.pid
    before = cpu_seconds(pid)
    asyncio.run(grow(plane, kube, there, total))
    cost = 1000 * (cpu_seconds(pid) - before) / (total - there)
    say(f"{total} Models: {cost:.1f} ms of CPU for each, {memory_mib(pid):.0f} MiB")
    rows.append(plain(f"CPU for each Model, up to {total}", "ms", cost))
    rows.append(plain(f"writes at rest in 10 s, {total} Models", "", rest(plane, operator)))
    if total == CHANGES_AT:
        latencies = asyncio.run(changes(plane, total))
        p99 = percentile(latencies, 0.99)
        say(f"changes: p50 {percentile(latencies, 0.5):.0f} ms, p99 {p99:.0f} ms")
        rows.append(at_most(f"change to status, 20/s, {total} Models, p99", "ms", p99, 1000))
    return cost


def restart(plane: ControlPlane, operator: OperatorProcess, there: int, rows: list[Row]) -> None:
    """The operator again, beside everything that is there already."""
    audit, began = audit_of(plane), time.monotonic()
    operator.start()
    wait_for(lambda: operator.ready() == "leading", "the restarted operator to lead", PATIENCE, 0.2)
    rows.append(at_most(f"restart to ready, {there} Models", "s", time.monotonic() - began, 15))
    wait_for(lambda: settled(operator, there), "the restarted operator to have looked at everything", PATIENCE, 0.2)
    rows.append(at_most("  until each was looked at again", "s", time.monotonic() - began, 15))
    pid = operator.process.pid
    say(f"restart: all looked at after {time.monotonic() - began:.1f} s, {cpu_seconds(pid):.1f} s of CPU")
    time.sleep(5)
    rows.append(plain("writes of the restarted operator", "", sum(r.writes for r in counted(audit))))
    rows.append(at_most("  its peak memory", "MiB", memory_mib(pid), 512))


async def grow(plane: ControlPlane, kube: Kube, there: int, total: int) -> None:
    """From so many Models to more, all READY: in steps, as a controller does not leave its Datasets alone for long.

    A namespace for each thousand: to look how far they are then costs the same, however many there are.
    """
    async with RawClient(plane.kubeconfig) as raw:
        while there < total:
            namespace = scale_namespace(there)
            if there % AT_ONCE == 0:
                prepare(kube, namespace, MODELSOURCE)
            last = min((there // AT_ONCE + 1) * AT_ONCE, total)
            await create_models(raw, MODEL, namespace, range(there, last))
            wanted = last - there // AT_ONCE * AT_ONCE
            await until(raw, MODEL, namespace, wanted, complete)
            await make_ready(raw, namespace)
            await until(raw, MODEL, namespace, wanted, ready)
            there = last
            say(f"{there} Models are Ready")


def scale_namespace(number: int) -> str:
    """Where a Model is, when there are many."""
    return f"bench-scale-{number // AT_ONCE}"


async def changes(plane: ControlPlane, total: int) -> list[float]:
    """Milliseconds from an edit of a spec to the status that has seen it, 20 edits a second."""
    seen: dict[tuple[str, int], asyncio.Event] = {}

    async with RawClient(plane.kubeconfig) as raw, RawClient(plane.kubeconfig) as watcher:

        async def follow() -> None:
            async with watcher.http.get(f"{path_of(MODEL)}?limit=1") as answer:
                version = (await answer.json())["metadata"]["resourceVersion"]
            url = f"{path_of(MODEL)}?watch=1&resourceVersion={version}"
            async with watcher.http.get(url, timeout=None, read_bufsize=2**20) as answer:
                async for line in answer.content:
                    found = json.loads(line)["object"]
                    key = found["metadata"]["name"], found["status"]["observedGeneration"]
                    seen.setdefault(key, asyncio.Event()).set()

        async def change(number: int) -> None:
            number = number * 7 % total
            name, namespace = name_of(number), scale_namespace(number)
            edit = {"spec": {"display": {"description": f"changed {time.time()}"}}}
            generation = (await raw.merge(MODEL, namespace, name, edit))["metadata"]["generation"]
            await seen.setdefault((name, generation), asyncio.Event()).wait()

        following = asyncio.create_task(follow())
        await asyncio.sleep(1)
        latencies = await paced(change, 20, 30)
        following.cancel()
        return latencies


def rest(plane: ControlPlane, operator: OperatorProcess) -> int:
    """Writes in ten seconds without any change."""
    wait_for(lambda: EMPTY_QUEUE in metrics_of(operator), "the queue to be empty", 120)
    time.sleep(3)
    audit = audit_of(plane)
    time.sleep(10)
    return sum(r.writes for r in counted(audit))


def settled(operator: OperatorProcess, models: int) -> bool:
    """Has looked at so many Models, and has nothing left to look at."""
    text = metrics_of(operator)
    looks = sum(float(line.split()[-1]) for line in text if line.startswith(LOOKS))
    return looks >= models and EMPTY_QUEUE in text


def metrics_of(operator: OperatorProcess) -> list[str]:
    """The lines of its metrics; none while it is too busy to answer."""
    try:
        return operator.metrics().splitlines()
    except httpx2.TransportError:
        return []


def counted(audit: Audit, agent: str = "modelyard-operator/", namespace: str | None = None) -> list[Request]:
    """Requests about single objects, but for what is counted apart: Events, the lease, what a source is used by."""
    apart = {"leases", "events", "modelsources", "modelsources/status"}
    return [r for r in audit.requests(agent, namespace) if r.verb not in ("list", "watch") and r.resource not in apart]


def audit_of(plane: ControlPlane) -> Audit:
    """The audit log from now on."""
    assert plane.audit_log is not None
    return Audit(plane.audit_log)


@contextmanager
def peer_process(plane: ControlPlane, program: Path, folder: Path) -> Iterator[int]:
    """The modelfs operator; its process id."""
    words = [str(program), "--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
    with (folder / "modelfs.log").open("wb") as log:
        process = subprocess.Popen(
            words, env={**os.environ, "KUBECONFIG": str(plane.kubeconfig)}, stdout=log, stderr=log
        )
    try:
        time.sleep(3)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def prepare(kube: Kube, namespace: str, source: Kind) -> None:
    """A namespace with a public hub."""
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, NAMESPACE)
    kube.create({**make_source(namespace=namespace), "apiVersion": source.api_version}, source)


def install(kube: Kube, *files: Path) -> None:
    """Our CRDs and those of the files."""
    kube.install_crds()
    for file in files:
        for crd in yaml.safe_load_all(file.read_text()):
            kube.apply(crd, CRD)
            kind = Kind(
                f"{crd['spec']['group']}/{crd['spec']['versions'][0]['name']}", "", crd["spec"]["names"]["plural"]
            )
            kube.wait_until_served(kind)


def name_of(number: int) -> str:
    """Name of one Model."""
    return f"model-{number:05}"


def model_of(kind: Kind, namespace: str, number: int) -> Obj:
    """A Model of two versions, as both operators read it."""
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    versions = [
        make_version(v, f"org/repo-{number}", state="PRESENT", precision="FP16", storage=storage) for v in ("v1", "v2")
    ]
    model = make_model(name_of(number), *versions, namespace=namespace)
    return {**model, "apiVersion": kind.api_version}


def dataset_of(namespace: str, number: int, version: str) -> Obj:
    """What an operator would make of one version."""
    return {
        "apiVersion": DATASET.api_version,
        "kind": DATASET.kind,
        "metadata": {"name": f"mdl-{name_of(number)}-{version}", "namespace": namespace},
        "spec": {
            "source": {"type": "HUGGING_FACE", "uri": f"huggingface://org/repo-{number}"},
            "dataSyncRound": 1,
            "mountOptions": {"path": "/data", "mode": "0755", "uid": 1000, "gid": 1000},
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            },
        },
    }


async def create_models(raw: RawClient, kind: Kind, namespace: str, numbers: range) -> None:
    """So many Models, as fast as they are taken."""
    await in_flight(partial(raw.create, kind, model_of(kind, namespace, n)) for n in numbers)


async def make_ready(raw: RawClient, namespace: str) -> None:
    """Plays the Dataset controller: the claim, the Job and a finished round for every Dataset that is not READY."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "dataset-loader", "image": "none"}]}
    # Nobody runs it: the cost of a Job's pods is not what is measured.
    job = {"managedBy": "modelyard.dev/bench", "template": {"spec": pod}}
    storage = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}

    async def one(dataset: Obj) -> None:
        meta = dataset["metadata"]
        owner = {"apiVersion": DATASET.api_version, "kind": DATASET.kind, "name": meta["name"], "uid": meta["uid"]}
        shared = {
            "namespace": namespace,
            "labels": {**(meta.get("labels") or {}), LABEL_DATASET: meta["name"]},
            "ownerReferences": [{**owner, "controller": True}],
        }
        await raw.create(PVC, {"metadata": {**shared, "name": meta["name"]}, "spec": storage})
        await raw.create(JOB, {"metadata": {**shared, "name": dataset_job(meta["name"], 1)}, "spec": job})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        status = {"phase": "READY", "lastSucceedRound": 1, "lastSyncTime": now}
        await raw.merge(DATASET, namespace, meta["name"], {"status": status}, "status")

    found = [d for d in await raw.list(DATASET, namespace) if (d.get("status") or {}).get("phase") != "READY"]
    await in_flight(partial(one, d) for d in found)


async def until(raw: RawClient, kind: Kind, namespace: str, wanted: int, done: Any) -> None:
    """Until that many Models are so; looks seldom, because looking costs the server time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if sum(map(done, await raw.list(kind, namespace))) >= wanted:
            return
        await asyncio.sleep(1 + wanted / 2000)
    raise TimeoutError(f"not all of {wanted} {kind.plural} came so far")


def complete(model: Obj) -> bool:
    """Both versions are in the status."""
    return len((model.get("status") or {}).get("syncedVersions") or ()) == 2


def ready(model: Obj) -> bool:
    """Both versions are there, in either operator's words."""
    entries = (model.get("status") or {}).get("syncedVersions") or ()
    return len(entries) == 2 and all(str(e.get("phase")).upper() == "READY" for e in entries)


if __name__ == "__main__":
    main()
