"""`make bench-trainings`: from 1,000 Trainings to their Jobs, on an API server without nodes.

A client creates them while the operator runs; the clock stops at the last Job. The raw client makes the same requests
with nothing to decide; KubeRay's figure is the one that its authors published. Requests are counted from the API
server's audit log. BENCH_TRAININGS changes the size.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from localcluster import ControlPlane
from modelyard.resources.meta import JOB, NAMESPACE, PVC, TRAINING
from support.audit import Audit
from support.bench import Row, at_most, more_is_better, plain, publish
from support.cluster import Kube, wait_for
from support.load import RawClient, cpu_seconds, in_flight, memory_mib
from support.operator import OperatorProcess

Obj = dict[str, Any]
TRAININGS = int(os.environ.get("BENCH_TRAININGS", "1000"))
AGENT = "modelyard-operator/"
KUBERAY = 3.9
"""RayJobs a second in KubeRay's own scalability test, as published."""


def main() -> None:
    """Runs it; figures to stdout and to build/bench/trainings.json."""
    with ControlPlane(name="bench-trainings", audit=True) as plane, tempfile.TemporaryDirectory() as folder:
        kube = Kube(plane.kubeconfig)
        kube.install_crds()
        for name in ("bench", "raw"):
            kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, NAMESPACE)
        with OperatorProcess(plane.kubeconfig, Path(folder), {"logLevel": "INFO", "lease": {}}) as operator:
            operator.wait_until_leading()
            rows = asyncio.run(race(plane, operator))
    publish("trainings", rows)


async def race(plane: ControlPlane, operator: OperatorProcess) -> list[Row]:
    """The operator's turn, then the raw client's with the same objects."""
    assert plane.audit_log is not None
    audit, pid = Audit(plane.audit_log), operator.process.pid
    async with RawClient(plane.kubeconfig) as raw:
        cpu, began = cpu_seconds(pid), time.time()
        await in_flight(partial(raw.create, TRAINING, training("bench", n)) for n in range(TRAININGS))
        jobs = await all_jobs(raw)
        made = [r for r in audit.requests(AGENT, "bench") if (r.verb, r.resource, r.code) == ("create", "jobs", 201)]
        seconds = max(r.time for r in made) - began
        cpu = cpu_seconds(pid) - cpu
        await asyncio.to_thread(settled, operator)
        asked = [r for r in audit.requests(AGENT, "bench") if r.verb not in ("list", "watch")]
        claims = await raw.list(PVC, "bench")
        twice = len(made) - len({r.name for r in made})
        peak = memory_mib(pid)
        operator.kill()
        theirs = await copies(raw, jobs, claims)
    rate = TRAININGS / seconds
    return [
        more_is_better("Trainings to Jobs", "/s", rate, 16.0, "asked for", 1.0),
        more_is_better("  beside KubeRay's published figure", "/s", rate, KUBERAY, "KubeRay"),
        more_is_better(
            "  beside a raw client that makes the same objects", "/s", rate, TRAININGS / theirs, "raw client"
        ),
        plain("requests for a Training", "", len(asked) / TRAININGS),
        plain("Jobs made twice", "", twice),
        plain("CPU for a Training", "ms", 1000 * cpu / TRAININGS),
        at_most("peak memory", "MiB", peak, 512),
    ]


async def all_jobs(raw: RawClient) -> list[Obj]:
    """The Jobs, when there is one for each Training; looks seldom, because looking costs the server time."""
    for _ in range(300):
        found = await raw.list(JOB, "bench")
        if len(found) >= TRAININGS:
            return found
        await asyncio.sleep(1 + TRAININGS / 2000)
    raise TimeoutError("not all Trainings came to a Job")


def settled(operator: OperatorProcess) -> None:
    """Until nothing is left to look at."""
    time.sleep(2)
    wait_for(lambda: operator.metric("modelyard_workqueue_depth") == 0, "the queue to be empty", 120)


async def copies(raw: RawClient, jobs: list[Obj], claims: list[Obj]) -> float:
    """Seconds of a client that makes as many Trainings, claims, Jobs and statuses, one after the other for each."""
    status = {"status": {"phase": "Queued", "frozen": True}}

    async def one(number: int) -> None:
        await raw.create(TRAINING, training("raw", number))
        for kind, made in ((PVC, claims), (JOB, jobs)):
            if number < len(made):
                await raw.create(kind, anew(made[number]))
        for _ in range(2):
            await raw.merge(TRAINING, "raw", name_of(number), status, "status")

    return await in_flight(partial(one, n) for n in range(TRAININGS))


def anew(obj: Obj) -> Obj:
    """The same object for another namespace, without what the server added."""
    meta = {"name": obj["metadata"]["name"], "namespace": "raw", "labels": obj["metadata"].get("labels") or {}}
    spec = {k: v for k, v in obj["spec"].items() if k not in ("selector", "volumeName")}
    template = spec.get("template")
    if template:
        labels = {k: v for k, v in template["metadata"]["labels"].items() if "modelyard.dev" in k}
        spec["template"] = {**template, "metadata": {"labels": labels}}
    return {"metadata": meta, "spec": spec}


def name_of(number: int) -> str:
    """Name of one Training."""
    return f"run-{number:05}"


def training(namespace: str, number: int) -> Obj:
    """A program of the user's own: no data, so that nothing is looked at first."""
    return {
        "apiVersion": TRAINING.api_version,
        "kind": TRAINING.kind,
        "metadata": {"name": name_of(number), "namespace": namespace},
        "spec": {
            "recipe": {"name": "custom", "custom": {"command": ["python3", "train.py"]}},
            "compute": {"gpu": "none", "image": "example.org/train:1"},
            "output": {"storage": {"resources": {"requests": {"storage": "1Gi"}}}},
        },
    }


if __name__ == "__main__":
    main()
