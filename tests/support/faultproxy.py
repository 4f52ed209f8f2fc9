"""A proxy between an operator and its API server that makes trouble where a plan says so.

Each namespace is a lane of its own: its operator's writes and watch events are counted from `arm` on, and a fault is
addressed by that count, so that a plan replays. Leases are neither counted nor disturbed. It ends TLS with its own CA
and speaks to the API server with the certificate of the kubeconfig that it is given; what passes is streamed.

It runs on a thread of its own; a lane's fields are written there and read anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from modelyard.plan import Kind
from support.cluster import path_of
from support.faultstate import KINDS, Recorder, plain
from support.tls_sink import certificates

Obj = dict[str, Any]

VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
KILLS = ("kill before", "kill after")
ANSWERS = ("409", "422", "429", "500", "503", "reply lost", "time-out after success")
STREAMS = ("410", "half a line", "silent stall", "delay", "error 500")

_HOP = {"host", "connection", "transfer-encoding", "content-length", "keep-alive"}
_REASONS = {
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
_STALL_SECONDS = 4.0
_DELAY_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble: what happens (one of KILLS or ANSWERS) at which write, counted from 1."""

    what: str
    at: int


@dataclass(frozen=True, slots=True)
class StreamFault:
    """One of STREAMS at every `every`-th watch event, the first time at `first`."""

    what: str
    first: int
    every: int

    def strikes(self, number: int) -> str:
        """What happens at that event; empty if nothing does."""
        return self.what if number >= self.first and (number - self.first) % self.every == 0 else ""


@dataclass(frozen=True, slots=True)
class StreamFaults:
    """Some of STREAMS, each at the watch event of its number."""

    at: Mapping[int, str]

    def strikes(self, number: int) -> str:
        """What happens at that event; empty if nothing does."""
        return self.at.get(number, "")


@dataclass(frozen=True, slots=True)
class StaleLists:
    """The operator is killed after write `kill`; the next `times` lists of each kind are as they were before `seen`."""

    seen: int
    kill: int
    times: int = 2


@dataclass(frozen=True, slots=True)
class Write:
    """One write of the operator. `code` is what the API server answered; 0: it was not asked."""

    verb: str
    resource: str
    name: str
    code: int

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name}"


@dataclass
class Lane:
    """One namespace's traffic. `kill` ends its operator at once; `slow`: seconds that every request waits."""

    namespace: str
    kill: Callable[[], None] = lambda: None
    faults: Mapping[int, Fault] = field(default_factory=dict)
    stream: StreamFault | StreamFaults | None = None
    stale: StaleLists | None = None
    slow: float = 0.0
    writes: list[Write] = field(default_factory=list)
    last_write: float = 0.0
    began: int = 0
    unanswered: int = 0
    events: int = 0
    hits: list[str] = field(default_factory=list)
    kills: int = 0
    leading: threading.Event = field(default_factory=threading.Event)
    frozen: dict[str, bytes] = field(default_factory=dict)
    served: Counter[str] = field(default_factory=Counter)
    watching: Counter[str] = field(default_factory=Counter)
    """Open watches by resource."""

    def arm(
        self, *faults: Fault, stream: StreamFault | StreamFaults | None = None, stale: StaleLists | None = None
    ) -> None:
        """Counts anew, with these faults ahead."""
        self.writes, self.began, self.events = [], 0, 0
        self.faults, self.stream, self.stale = {f.at: f for f in faults}, stream, stale

    def made(self) -> Counter[str]:
        """What was created and deleted, by kind and name; Events are left out.

        A delete counts once: it is bound to a uid, and asked for again where its reply was lost.
        """
        done = [w for w in self.writes if 200 <= w.code < 300 and w.resource != "events"]
        deleted = {w for w in done if w.verb == "delete"}
        created = (w for w in done if w.verb == "create")
        return Counter(plain(str(w), self.namespace) for w in (*created, *deleted))

    def quiet(self) -> float:
        """Seconds since the last write was answered."""
        return 0.0 if self.unanswered else time.monotonic() - self.last_write


@dataclass(frozen=True, slots=True)
class _Target:
    namespace: str
    resource: str
    name: str

    @classmethod
    def of(cls, path: str) -> _Target:
        parts = path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        if rest[:1] != ["namespaces"] or len(rest) < 3:
            return cls("", rest[0] if rest else "", rest[1] if len(rest) > 1 else "")
        sub = f"/{rest[4]}" if len(rest) > 4 else ""
        return cls(rest[1], rest[2] + sub, rest[3] if len(rest) > 3 else "")


class FaultProxy:
    """A context manager; `kubeconfig` is the operator's."""

    def __init__(self, kubeconfig: Path, folder: Path, recorder: Recorder) -> None:
        self._recorder = recorder
        self._config = yaml.safe_load(kubeconfig.read_text())
        self._folder = folder
        self._lanes: dict[str, Lane] = {}
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._halt = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self.kubeconfig = folder / "through-the-proxy.kubeconfig"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._halt.set)
        self._thread.join()

    def lane(self, namespace: str) -> Lane:
        """The lane of a namespace, made at the first call."""
        return self._lanes.setdefault(namespace, Lane(namespace))

    def join(self, lane: Lane, namespace: str) -> None:
        """Another namespace of the same lane."""
        self._lanes[namespace] = lane

    async def _run(self) -> None:
        cluster, user = self._config["clusters"][0]["cluster"], self._config["users"][0]["user"]
        upstream = ssl.create_default_context(cafile=self._file(cluster, "certificate-authority"))
        upstream.load_cert_chain(self._file(user, "client-certificate"), self._file(user, "client-key"))
        self._upstream = cluster["server"]
        own = certificates(self._folder)
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        served.load_cert_chain(own.cert, own.key)
        connector = aiohttp.TCPConnector(ssl=upstream, limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=1 << 26)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=served)
            await site.start()
            self._write_kubeconfig(runner.addresses[0][1], own.ca_pem)
            recording = [asyncio.create_task(self._record(kind)) for kind in KINDS]
            self._started.set()
            await self._halt.wait()
            assert not any(task.done() for task in recording), "the recording of the cluster's states broke"
            for task in recording:
                task.cancel()
            await runner.cleanup()

    def _file(self, entry: Obj, name: str) -> str:
        if f"{name}-data" not in entry:
            return str(entry[name])
        file = self._folder / f"upstream-{name}.pem"
        file.write_bytes(base64.b64decode(entry[f"{name}-data"]))
        return str(file)

    def _write_kubeconfig(self, port: int, ca_pem: str) -> None:
        ca = self._folder / "proxy-ca.pem"
        ca.write_text(ca_pem)
        config = json.loads(json.dumps(self._config))
        config["clusters"][0]["cluster"] = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(ca)}
        self.kubeconfig.write_text(yaml.safe_dump(config))

    async def _record(self, kind: Kind) -> None:
        url = self._upstream + path_of(kind)
        async with self._session.get(f"{url}?limit=1") as answer:
            revision = int((await answer.json())["metadata"]["resourceVersion"])
        while True:
            query = f"?watch=true&resourceVersion={revision}"
            async with self._session.get(url + query) as answer:
                async for line in _lines(answer.content):
                    revision = self._recorder.take(json.loads(line))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        target = _Target.of(request.path)
        body = await request.read()
        lane = self._lane_of(target, request.method, body)
        if lane is None:
            undisturbed = Lane(target.namespace)
            watches = request.query.get("watch")
            return await (self._watch(undisturbed, target, request) if watches else self._pass(request, body))
        await asyncio.sleep(lane.slow)
        if target.resource == "leases":
            answer = await self._pass(request, body)
            if request.method in ("POST", "PUT") and answer.status < 300:
                lane.leading.set()
            return answer
        if request.method in VERBS:
            return await self._write(lane, target, request, body)
        if request.query.get("watch"):
            return await self._watch(lane, target, request)
        if not target.name:
            return await self._list(lane, request)
        return await self._pass(request, body)

    def _lane_of(self, target: _Target, method: str, body: bytes) -> Lane | None:
        """Writes of PersistentVolumes, which have no namespace, are told apart by their names."""
        if target.resource != "persistentvolumes" or method not in VERBS:
            return self._lanes.get(target.namespace)
        name = target.name or json.loads(body)["metadata"]["name"]
        return next((lane for ns, lane in self._lanes.items() if name.startswith(f"pv-{ns}-")), None)

    async def _pass(self, request: web.Request, body: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.request(request.method, url, headers=headers, data=body or None) as answer:
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            return web.Response(status=answer.status, headers=kept, body=content)

    async def _write(self, lane: Lane, target: _Target, request: web.Request, body: bytes) -> web.StreamResponse:
        lane.began += 1
        lane.last_write = time.monotonic()
        number, verb = lane.began, VERBS[request.method]
        name = target.name or json.loads(body)["metadata"].get("name", "")
        fault = lane.faults.get(number)
        what = fault.what if fault else ""

        def note(code: int) -> None:
            write = Write(verb, target.resource, name, code)
            lane.writes.append(write)
            lane.last_write = time.monotonic()
            if what:
                lane.hits.append(f"{what} {number}: {write}")

        if lane.stale and number == lane.stale.seen:
            await self._freeze(lane)
        if what == "kill before":
            note(0)
            return self._kill(lane, request)
        if what.isdigit():
            note(0)
            return _refusal(int(what))
        # Once it is on its way it is carried through, whatever becomes of the client.
        lane.unanswered += 1
        try:
            answer = await asyncio.shield(asyncio.ensure_future(self._pass(request, body)))
        finally:
            lane.unanswered -= 1
        note(answer.status)
        if what == "kill after":
            return self._kill(lane, request)
        if lane.stale and number == lane.stale.kill:
            lane.hits.append(f"stale lists {number}")
            return self._kill(lane, request)
        if what == "reply lost":
            return _drop(request)
        if what == "time-out after success":
            return _refusal(504)
        return answer

    def _kill(self, lane: Lane, request: web.Request) -> web.StreamResponse:
        lane.kills += 1
        lane.kill()
        return _drop(request)

    async def _freeze(self, lane: Lane) -> None:
        for path in list(lane.served):
            url = URL(self._upstream + path, encoded=True)
            async with self._session.get(url, headers={"Accept": "application/json"}) as answer:
                lane.frozen[path] = await answer.read()
        lane.served.clear()

    async def _list(self, lane: Lane, request: web.Request) -> web.StreamResponse:
        path = request.raw_path
        lane.served[path] += 1
        if lane.stale and lane.kills and path in lane.frozen and lane.served[path] <= lane.stale.times:
            return web.Response(body=lane.frozen[path], content_type="application/json")
        return await self._pass(request, b"")

    async def _watch(self, lane: Lane, target: _Target, request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP | {"accept-encoding"}}
        url = URL(self._upstream + request.raw_path, encoded=True)
        async with self._session.get(url, headers=headers) as answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
            lane.watching[target.resource] += 1
            try:
                with suppress(ConnectionResetError):  # whoever watched was killed
                    await response.prepare(request)
                    await _forward(lane, target, answer, response, request)
            finally:
                lane.watching[target.resource] -= 1
            return response


async def _forward(
    lane: Lane, target: _Target, answer: aiohttp.ClientResponse, response: web.StreamResponse, request: web.Request
) -> None:
    async for line in _lines(answer.content):
        lane.events += 1
        if what := lane.stream.strikes(lane.events) if lane.stream else "":
            lane.hits.append(f"{what} at event {lane.events} of {target.resource}")
            if await _spoil(response, line, what, request):
                break
        else:
            await response.write(line)


async def _spoil(response: web.StreamResponse, line: bytes, what: str, request: web.Request) -> bool:
    """Does it; whether the stream is over then."""
    match what:
        case "410":
            error = {"type": "ERROR", "object": _status(410)}
            await response.write(json.dumps(error).encode() + b"\n")
        case "error 500":
            error = {"type": "ERROR", "object": _status(500)}
            await response.write(json.dumps(error).encode() + b"\n")
        case "half a line":
            await response.write(line[: len(line) // 2])
            assert request.transport
            request.transport.close()
        case "silent stall":
            await asyncio.sleep(_STALL_SECONDS)
        case "delay":
            await asyncio.sleep(_DELAY_SECONDS)
            await response.write(line)
            return False
    return True


async def _lines(content: aiohttp.StreamReader) -> Any:
    rest = b""
    async for chunk in content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"


def _status(code: int) -> Obj:
    reason = _REASONS[code]
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": "x"}


def _refusal(code: int) -> web.Response:
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(_status(code), status=code, headers=headers)


def _drop(request: web.Request) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    return web.Response(status=500)
