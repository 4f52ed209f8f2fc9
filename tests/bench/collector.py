"""`make bench-collector`: 1,000 running trainings that report every 5 s, to a collector on SQLite and then PostgreSQL.

Every training has a pod and a token of its own, and a connection that it keeps, as its agent has. A batch holds two
reports of three metrics; one in twelve ends an epoch. Beside it, in the same run: what it takes when each report is a
patch of the training's status, as pods that patch their object do. Prints a table, writes
build/bench/trainings-collector.json, and judges nothing. BENCH_TRAININGS and BENCH_SECONDS change the sizes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from localcluster import ControlPlane
from localcluster.ports import free_ports
from modelyard.resources import meta
from modelyard.resources.meta import TRAINING
from support.bench import Row, at_most, less_is_better, plain, publish
from support.cluster import Kube, path_of, wait_for
from support.collector_world import ACCOUNT, ROOT, SYSTEM, World, tool
from support.load import RawClient, cpu_seconds, in_flight, memory_mib, paced, percentile
from support.postgres import postgres
from support.statusapi import account
from support.tls_sink import certificates

TRAININGS = int(os.environ.get("BENCH_TRAININGS", "1000"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "60"))
EVERY = 5.0
RATE = TRAININGS / EVERY
NAMESPACE = "bench"
MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}


@dataclass
class Run:
    """One training, and what its agent needs."""

    name: str
    uid: str
    token: str
    seq: int = 0
    taken: int = 0
    http: aiohttp.ClientSession | None = None

    def batch(self) -> dict[str, Any]:
        """The next two reports."""
        reports = []
        for _ in range(2):
            self.seq += 1
            said: dict[str, Any] = {
                "step": self.seq * 10,
                "totalSteps": 100_000,
                "throughput": 812.5,
                "metrics": {"loss": 2.5 / self.seq, "learning_rate": 3e-4, "grad_norm": 0.81},
            }
            if self.seq % 24 == 0:
                said["epochRow"] = {"epoch": self.seq // 24, "metrics": {"eval_loss": 0.7, "accuracy": 0.9}}
            now = datetime.now(UTC).isoformat()
            reports.append({"seq": self.seq, "time": now, "trainerStatus": {}, "modelyard": said})
        return {"uid": self.uid, "attempt": 1, "pod": self.name, "reports": reports}


class Load(NamedTuple):
    """What happened: latencies in milliseconds, reports that have to come again, seconds, cores."""

    warm: list[float]
    refused: int
    latencies: list[float]
    late: int
    took: float
    cpu: float


def main() -> None:
    """Runs it all; the figures go to stdout and to build/bench/trainings-collector.json."""
    with ControlPlane(name="bench-collector", audit=True) as plane, tempfile.TemporaryDirectory() as folder:
        kube = Kube(plane.kubeconfig)
        kube.install_crds()
        world = prepare(kube, plane, Path(folder))
        runs = asyncio.run(fill(plane))
        patches = asyncio.run(patched(plane, runs))
        rows = [plain(f"a patch of status for each report, {RATE:.0f}/s: p99 at the API server", "ms", patches)]
        rows += measured(world, runs, "SQLite", {}, patches)
        with postgres() as server:
            (Path(folder) / "url").write_text(server.url())
            rows += measured(world, runs, "PostgreSQL", {"urlFile": str(Path(folder) / "url")}, patches)
    publish("trainings-collector", rows)


def prepare(kube: Kube, plane: ControlPlane, folder: Path) -> World:
    """The collector's account with the chart's rights."""
    for name in (SYSTEM, NAMESPACE):
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, meta.NAMESPACE)
    for name in (ACCOUNT, "modelyard-api"):
        account(kube, SYSTEM, name)
    (folder / "tls").mkdir()
    with free_ports(["https", "metrics"]) as ports:
        world = World(plane, folder, certificates(folder / "tls"), ports["https"], ports["metrics"])
    helm = [str(tool("helm")), "template", "modelyard", str(ROOT / "charts/modelyard"), "-n", SYSTEM]
    rights = subprocess.run(
        [*helm, "--show-only", "templates/rbac-collector.yaml"], check=True, capture_output=True, text=True
    )
    world.kubectl("apply", "-f", "-", stdin=rights.stdout)
    wait_for(lambda: "default" in world.kubectl("-n", NAMESPACE, "get", "serviceaccounts"), "the account")
    return world


async def fill(plane: ControlPlane) -> list[Run]:
    """The trainings, each with a pod."""
    found: list[Run] = []
    async with RawClient(plane.kubeconfig) as raw:
        # In place of a Job each: only its uid counts.
        owner = {"metadata": {"name": "owner"}}
        job = (await send(raw.http, "POST", f"/api/v1/namespaces/{NAMESPACE}/configmaps", owner))["metadata"]["uid"]

        async def one(number: int) -> None:
            found.append(await made(raw.http, f"run-{number:05}", job))

        await in_flight(partial(one, number) for number in range(TRAININGS))
    return found


async def made(http: aiohttp.ClientSession, name: str, job: str) -> Run:
    """One training as it is while it runs."""
    spec = {"recipe": {"name": "tabular-classification"}, "dataset": {"pvc": {"claimName": "data"}}}
    body = {"apiVersion": TRAINING.api_version, "kind": "Training", "metadata": {"name": name}, "spec": spec}
    uid = (await send(http, "POST", path_of(TRAINING, NAMESPACE), body))["metadata"]["uid"]
    status = {"phase": "Running", "attempts": {"number": 1}, "placement": {"job": name, "jobUID": job, "pod": name}}
    await send(http, "PATCH", f"{path_of(TRAINING, NAMESPACE, name)}/status", {"status": status}, MERGE_PATCH)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": job, "controller": True}
    pod = {
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "trainer", "image": "none"}], "schedulerName": "none"},
    }
    pod_uid = (await send(http, "POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod))["metadata"]["uid"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod_uid}
    asked = {"spec": {"audiences": [f"modelyard.dev/training/{NAMESPACE}/{name}"], "boundObjectRef": bound}}
    path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default/token"
    return Run(name, uid, (await send(http, "POST", path, asked))["status"]["token"])


async def send(http: aiohttp.ClientSession, method: str, path: str, body: Any, headers: Any = None) -> Any:
    """One request, which must succeed."""
    async with http.request(method, path, json=body, headers=headers) as answer:
        answer.raise_for_status()
        return await answer.json()


async def patched(plane: ControlPlane, runs: Sequence[Run]) -> float:
    """The peer: each report a patch of the object. Its p99 in milliseconds."""
    async with RawClient(plane.kubeconfig) as raw:

        async def ask(number: int) -> None:
            status = {"progress": {"step": number}, "metrics": {"loss": 1 / (number + 1)}}
            path = f"{path_of(TRAINING, NAMESPACE, runs[number % len(runs)].name)}/status"
            await send(raw.http, "PATCH", path, {"status": status}, MERGE_PATCH)

        return percentile(await paced(ask, RATE, 15), 0.99)


def measured(world: World, runs: list[Run], store: str, settings: dict[str, Any], patches: float) -> list[Row]:
    """The figures of one store."""
    for path in world.folder.glob("curves.db*"):
        path.unlink()
    for run in runs:
        run.seq = run.taken = 0
    world.store = settings
    world.start()
    assert world.process is not None
    pid = world.process.pid
    try:
        with requests(world) as asked:
            done = asyncio.run(load(world, runs, pid, asked))
        memory = memory_mib(pid)
        points = sum(len(series(world, run)) for run in runs[:: max(1, TRAININGS // 50)])
        expected = sum(run.taken for run in runs[:: max(1, TRAININGS // 50)])
    finally:
        world.stop()
    size = sum(path.stat().st_size for path in world.folder.glob("curves.db*")) / 2**20
    thousands = sum(run.seq for run in runs) / 1000
    p50, p99 = percentile(done.latencies, 0.5), percentile(done.latencies, 0.99)
    print(f"{store}: {dict(asked)} in {done.took:.0f} s", flush=True)
    writes = asked["patch trainings/status"] / done.took
    others = (sum(asked.values()) - asked["patch trainings/status"]) / done.took
    told = f"{store}: {TRAININGS} trainings, {RATE:.0f} reports/s"
    return [
        less_is_better(f"{told}, p99", "ms", p99, patches, "kube-apiserver, a patch each"),
        at_most("  writes of status over all", "/s", writes, 10),
        less_is_better("  beside one write a report", "/s", writes, RATE, "a patch each"),
        plain("  other requests to the API server (TokenReviews)", "/s", others),
        plain("  CPU", "cores", done.cpu),
        plain("  memory", "MiB", memory),
        plain("  p50", "ms", p50),
        plain("  the first reports of all, as after a restart: p99", "ms", percentile(done.warm, 0.99)),
        plain("  of these told to come again", "", done.refused),
        plain("  told to come again later on", "", done.late),
        plain("  points lost, of 50 trainings", "", expected - points),
        *([plain("  file, for each 1,000 points", "KiB", 1024 * size / thousands)] if size else []),
    ]


async def load(world: World, runs: Sequence[Run], pid: int, asked: Counter[str]) -> Load:
    """The first reports of all at once, as after a restart of the collector, and then what it is measured by."""
    context = ssl.create_default_context(cadata=world.tls.ca_pem)
    async with contextlib.AsyncExitStack() as stack:
        for run in runs:
            connector = aiohttp.TCPConnector(ssl=context, limit=1, keepalive_timeout=60)
            run.http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        warm, refused = await reported(world, runs, 4 * EVERY)
        before, began = cpu_seconds(pid), time.monotonic()
        asked.clear()
        latencies, late = await reported(world, runs, SECONDS)
        took = time.monotonic() - began
        return Load(warm, refused, latencies, late, took, (cpu_seconds(pid) - before) / took)


async def reported(world: World, runs: Sequence[Run], seconds: float) -> tuple[list[float], int]:
    """Every training reports in its turn. Also says how many have to come again."""
    base = f"https://127.0.0.1:{world.port}/v1/namespaces/{NAMESPACE}/trainings"
    answers: Counter[int] = Counter()

    async def ask(number: int) -> None:
        run = runs[number % len(runs)]
        assert run.http is not None
        headers = {"Authorization": f"Bearer {run.token}"}
        try:
            async with run.http.post(f"{base}/{run.name}/reports", json=run.batch(), headers=headers) as answer:
                answers[answer.status] += 1
                run.taken += 2 if answer.status == 200 else 0
                await answer.read()
        except aiohttp.ClientError:
            answers[503] += 1

    found = await paced(ask, RATE, seconds)
    assert set(answers) <= {200, 503}, answers
    return found, answers[503]


def series(world: World, run: Run) -> list[Any]:
    """What the store has of a training."""
    answer = world.series(run.uid, "maxPoints=5000&metric=loss")
    return list(answer.body["series"].get("loss", ()))


@contextlib.contextmanager
def requests(world: World) -> Iterator[Counter[str]]:
    """Counts the collector's requests to the API server: complete when the block has ended."""
    log = world.plane.audit_log
    assert log is not None
    found = _Since(log)
    yield found
    found.read()


class _Since(Counter[str]):
    """Requests by verb and resource, from the last `clear` on."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self._log = log
        self._from = log.stat().st_size

    def clear(self) -> None:
        super().clear()
        self._from = self._log.stat().st_size

    def read(self) -> None:
        with self._log.open("rb") as lines:
            lines.seek(self._from)
            for line in lines:
                entry = json.loads(line)
                if entry["user"]["username"] == f"system:serviceaccount:{SYSTEM}:{ACCOUNT}":
                    ref = entry.get("objectRef", {})
                    sub = f"/{ref['subresource']}" if "subresource" in ref else ""
                    self[f"{entry['verb']} {ref.get('resource')}{sub}"] += 1


if __name__ == "__main__":
    main()
