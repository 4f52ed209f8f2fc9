"""`make bench-api`: the status API under load, with the API server itself beside it, in one run.

5,000 Models; the first page at 50 requests a second, against a list of the same size from the API server; then 1,000
followers of the stream under 200 changes a second, some stalled, some reconnecting, the API restarted: latency of
delivery, the memory of the API, and whether every follower ends in the state that a fresh list shows. Prints a table,
writes build/bench/api.json, and judges nothing. BENCH_OBJECTS, BENCH_FOLLOWERS, BENCH_CHANGES and BENCH_SECONDS change
the sizes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from localcluster import ControlPlane
from modelyard.resources import meta
from modelyard.resources.meta import MODEL
from support.bench import Row, at_most, less_is_better, plain, publish
from support.chart import api_rules
from support.cluster import Kube, path_of, wait_for
from support.load import cpu_seconds, memory_mib, paced, percentile
from support.statusapi import ApiProcess, account, api_process, grant, rule, service_account

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = int(os.environ.get("BENCH_OBJECTS", "5000"))
FOLLOWERS = int(os.environ.get("BENCH_FOLLOWERS", "1000"))
CHANGES = int(os.environ.get("BENCH_CHANGES", "200"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "30"))
NAMESPACES = 20
RATE = 50
SYSTEM = "modelyard-system"
PAGE = 100


def main() -> None:
    """Runs it all; the figures go to stdout and to build/bench/api.json."""
    with ControlPlane(name="bench-api") as plane, tempfile.TemporaryDirectory() as folder:
        kube = Kube(plane.kubeconfig)
        kube.install_crds()
        kubeconfig, token = prepare(kube, plane, Path(folder))
        asyncio.run(fill(plane, token))
        with api_process(Path(folder), kubeconfig, logLevel="INFO") as api:
            wait_for(lambda: api.caller(token).json("/models", limit=1)["total"] == OBJECTS, "all objects", 120)
            wait_for(lambda: idle(api), "the API to be done with starting", 120)
            page = asyncio.run(first_page(plane, api, token))
            followed = asyncio.run(stream(plane, api, token, Path(folder)))
    publish("api", rows(page, followed))


def rows(page: dict[str, Any], followed: dict[str, Any]) -> list[Row]:
    """The figures that say how it did, each beside the API server's or the bound."""
    steady, memory, direct = followed["steady"], followed["memoryOfTheApi"], followed["directWatchOfOne"]
    server = page["apiServer"]["p99"]
    return [
        at_most(f"first page of {PAGE} of {OBJECTS} at {RATE}/s, p99", "ms", page["statusApi"]["p99"], 50),
        less_is_better(
            "  beside a list of the API server, p99", "ms", page["statusApi"]["p99"], server, "kube-apiserver"
        ),
        less_is_better(
            "  searched, sorted, with facets, p99", "ms", page["statusApiFiltered"]["p99"], server, "kube-apiserver"
        ),
        at_most(
            f"delivery to {FOLLOWERS} followers at {CHANGES} changes/s, p99", "ms", steady["milliseconds"]["p99"], 1000
        ),
        less_is_better(
            "  beside one direct watch, p99",
            "ms",
            steady["milliseconds"]["p99"],
            direct["milliseconds"]["p99"],
            "kube-apiserver, 1 watcher",
        ),
        plain("deliveries", "", steady["deliveries"]),
        plain("followers that differ from a fresh list, after the load", "", followed["afterLoad"]["different"]),
        plain("followers that differ, after a restart of the API", "", followed["afterRestart"]["different"]),
        plain("memory with no follower", "MiB", memory["idleMiB"]),
        plain("memory under load", "MiB", memory["loadedMiB"]),
        plain("memory after the restart", "MiB", memory["afterRestartMiB"]),
    ]


def prepare(kube: Kube, plane: ControlPlane, folder: Path) -> tuple[Path, str]:
    """The API's account with the chart's rights, and somebody who may see and change Models."""
    for name in [SYSTEM, *(f"bench-{n}" for n in range(NAMESPACES))]:
        kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, meta.NAMESPACE)
    own = account(kube, SYSTEM, "modelyard-api")
    grant(kube, "modelyard-api", service_account(SYSTEM, "modelyard-api"), api_rules())
    token = account(kube, SYSTEM, "bench")
    grant(kube, "bench", service_account(SYSTEM, "bench"), [rule(["*"], ["*"])])
    content = yaml.safe_load(plane.kubeconfig.read_text())
    for user in content["users"]:
        user["user"] = {"token": own}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path, token


def session(plane: ControlPlane, token: str) -> aiohttp.ClientSession:
    """The API server itself."""
    cluster = yaml.safe_load(plane.kubeconfig.read_text())["clusters"][0]["cluster"]
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    connector = aiohttp.TCPConnector(ssl=context, limit=64)
    return aiohttp.ClientSession(plane.url, connector=connector, headers={"Authorization": f"Bearer {token}"})


def name_of(number: int) -> tuple[str, str]:
    """Namespace and name of one object."""
    return f"bench-{number % NAMESPACES}", f"model-{number:05}"


async def fill(plane: ControlPlane, token: str) -> None:
    """Makes the objects, 16 at a time."""
    numbers = iter(range(OBJECTS))

    async def worker(http: aiohttp.ClientSession) -> None:
        for number in numbers:
            namespace, name = name_of(number)
            spec = {
                "display": {"description": f"Model {number} of the bench", "tags": ["bench"]},
                "versions": [{"name": "v1"}, {"name": "v2"}],
            }
            body = {"apiVersion": MODEL.api_version, "kind": "Model", "metadata": {"name": name}, "spec": spec}
            async with http.post(path_of(MODEL, namespace), json=body) as answer:
                answer.raise_for_status()

    async with session(plane, token) as http:
        await asyncio.gather(*(worker(http) for _ in range(16)))


async def first_page(plane: ControlPlane, api: ApiProcess, token: str) -> dict[str, Any]:
    """Open loop: requests start on time, whether or not the ones before are answered."""
    header = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(api.url, headers=header) as ours, session(plane, token) as theirs:
        asked: dict[str, Callable[[int], Awaitable[None]]] = {
            "statusApi": lambda _: read(ours, f"/api/v1/models?limit={PAGE}"),
            "apiServer": lambda _: read(theirs, f"{path_of(MODEL)}?limit={PAGE}"),
            "statusApiFiltered": lambda _: read(
                ours, f"/api/v1/models?limit={PAGE}&q=bench&sort=-created&facets=phase"
            ),
        }
        found: dict[str, list[float]] = {name: [] for name in asked}
        # By turns, so that whatever else the machine does meets all of them alike.
        for _ in range(4):
            for name, ask in asked.items():
                await ask(0)
                found[name] += await paced(ask, RATE, SECONDS / 8)
        return {name: spread(latencies) for name, latencies in found.items()}


async def read(http: aiohttp.ClientSession, path: str) -> None:
    """GET, whole answer."""
    async with http.get(path) as answer:
        answer.raise_for_status()
        await answer.read()


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles."""
    return {name: round(percentile(values, part), 1) for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


async def stream(plane: ControlPlane, api: ApiProcess, token: str, folder: Path) -> dict[str, Any]:
    """Followers in a process of their own, while this one changes objects."""
    (folder / "token").write_text(token)
    stalled = reconnecting = FOLLOWERS // 20
    memory = {"idleMiB": rss(api)}
    words = ["127.0.0.1", str(api.port), str(folder / "token"), str(FOLLOWERS), str(stalled), str(reconnecting)]
    crowd = subprocess.Popen(  # noqa: ASYNC220 - it blocks for milliseconds, before anything is measured
        [sys.executable, str(ROOT / "tests/bench/api_followers.py"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        await asyncio.to_thread(hear, crowd)
        figures: dict[str, Any] = {}
        memory["connectedMiB"] = rss(api)
        tell(crowd, "mark")
        async with session(plane, token) as http:
            watch: list[float] = []
            watching = asyncio.create_task(direct_watch(http, watch))
            await change(http, CHANGES, SECONDS)
            await asyncio.sleep(3)
            watching.cancel()
            tell(crowd, "report")
            figures["steady"] = await asyncio.to_thread(hear, crowd)
            figures["directWatchOfOne"] = {"deliveries": len(watch), "milliseconds": spread(watch)}
            memory["loadedMiB"] = rss(api)
            expected = await states(http)
            (folder / "expected.json").write_text(json.dumps(expected))
            tell(crowd, f"settle 60 {folder / 'expected.json'}")
            figures["afterLoad"] = await asyncio.to_thread(hear, crowd)
            api.stop()
            changing = asyncio.create_task(change(http, CHANGES // 4, 10))
            await asyncio.to_thread(api.start)
            await changing
            (folder / "expected.json").write_text(json.dumps(await states(http)))
            tell(crowd, f"settle 180 {folder / 'expected.json'}")
            figures["afterRestart"] = await asyncio.to_thread(hear, crowd)
            memory["afterRestartMiB"] = rss(api)
        return {**figures, "memoryOfTheApi": memory}
    finally:
        crowd.kill()
        crowd.wait()


async def change(http: aiohttp.ClientSession, rate: int, seconds: int) -> float:
    """Changes objects in turn; the label `at` is the time in milliseconds. Returns the rate that was reached."""
    began, total = time.perf_counter(), rate * seconds
    numbers = iter(range(total))

    async def worker() -> None:
        for number in numbers:
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            namespace, name = name_of(number * 7 % OBJECTS)
            body = {"metadata": {"labels": {"at": str(int(time.time() * 1000))}}}
            headers = {"Content-Type": "application/merge-patch+json"}
            async with http.patch(path_of(MODEL, namespace, name), json=body, headers=headers) as answer:
                answer.raise_for_status()

    await asyncio.gather(*(worker() for _ in range(32)))
    return round(total / (time.perf_counter() - began), 1)


async def direct_watch(http: aiohttp.ClientSession, latencies: list[float]) -> None:
    """One plain watch of the API server, for comparison."""
    async with http.get(f"{path_of(MODEL)}?limit=1") as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    timeout = aiohttp.ClientTimeout(total=None)
    async with http.get(f"{path_of(MODEL)}?watch=1&resourceVersion={version}", timeout=timeout) as answer:
        async for line in answer.content:
            at = json.loads(line)["object"]["metadata"].get("labels", {}).get("at")
            if at:
                latencies.append(1000 * time.time() - int(at))


async def states(http: aiohttp.ClientSession) -> dict[str, str | None]:
    """What the API server has: the label `at` of each object."""
    async with http.get(path_of(MODEL)) as answer:
        items = (await answer.json())["items"]
    metas = [item["metadata"] for item in items]
    return {f"{m['namespace']}/{m['name']}": (m.get("labels") or {}).get("at") for m in metas}


def tell(crowd: subprocess.Popen[str], words: str) -> None:
    """A command to the followers."""
    assert crowd.stdin is not None
    crowd.stdin.write(words + "\n")
    crowd.stdin.flush()


def hear(crowd: subprocess.Popen[str]) -> Any:
    """Their answer."""
    assert crowd.stdout is not None
    return json.loads(crowd.stdout.readline())


def idle(api: ApiProcess) -> bool:
    """Whether it used little of a CPU during a second."""
    assert api.process is not None
    before = cpu_seconds(api.process.pid)
    time.sleep(1)
    return cpu_seconds(api.process.pid) - before < 0.1


def rss(api: ApiProcess) -> float:
    """Memory of the API process in MiB."""
    assert api.process is not None
    return memory_mib(api.process.pid, "VmRSS")


if __name__ == "__main__":
    main()
