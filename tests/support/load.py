"""Load on an API server and what it costs: a raw client with many requests in flight, percentiles, a process's bill."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from modelyard.plan import Kind
from support.cluster import content_of, path_of

Obj = dict[str, Any]
IN_FLIGHT = 16


class RawClient:
    """Nothing but HTTP between a bench and the API server, by a kubeconfig with a client certificate."""

    def __init__(self, kubeconfig: Path, agent: str = "raw") -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self._agent = agent
        self._context = ssl.create_default_context(cadata=content_of(cluster, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(content_of(user, "client-certificate") + b"\n" + content_of(user, "client-key"))
            pair.flush()
            self._context.load_cert_chain(pair.name)

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=64)
        self.http = aiohttp.ClientSession(self._server, connector=connector, headers={"User-Agent": self._agent})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.http.close()

    async def create(self, kind: Kind, obj: Obj) -> Obj:
        """POST; the object as it is now."""
        return await self._send("POST", path_of(kind, obj["metadata"].get("namespace", "")), obj, "application/json")

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Obj, subresource: str = "") -> Obj:
        """JSON merge patch."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return await self._send("PATCH", path, patch, "application/merge-patch+json")

    async def list(self, kind: Kind, namespace: str = "") -> list[Obj]:
        """All objects of a kind."""
        async with self.http.get(path_of(kind, namespace)) as answer:
            answer.raise_for_status()
            items: list[Obj] = (await answer.json())["items"]
            return items

    async def _send(self, method: str, path: str, body: Obj, content_type: str) -> Obj:
        headers = {"Content-Type": content_type}
        async with self.http.request(method, path, json=body, headers=headers) as answer:
            answer.raise_for_status()
            found: Obj = await answer.json()
            return found


async def in_flight(work: Iterable[Callable[[], Awaitable[Any]]], most: int = IN_FLIGHT) -> float:
    """Does all of it, so many at a time; the seconds that it took."""
    waiting = iter(work)

    async def worker() -> None:
        for do in waiting:
            await do()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(most)))
    return time.perf_counter() - began


async def paced(do: Callable[[int], Awaitable[Any]], rate: float, seconds: float) -> list[float]:
    """Open loop: each begins on time, whether or not the ones before are done. Milliseconds from when each was due."""
    latencies: list[float] = []
    began = time.perf_counter()

    async def one(number: int, due: float) -> None:
        await do(number)
        latencies.append(1000 * (time.perf_counter() - due))

    tasks = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due)))
    await asyncio.gather(*tasks)
    return latencies


def percentile(values: Iterable[float], part: float) -> float:
    """The value that `part` of them do not exceed; 0 without any."""
    ordered = sorted(values)
    return ordered[int(part * (len(ordered) - 1))] if ordered else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, which: str = "VmHWM") -> float:
    """Peak (`VmHWM`) or present (`VmRSS`) resident memory of a process in MiB."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(which)).split()[1]) / 1024
