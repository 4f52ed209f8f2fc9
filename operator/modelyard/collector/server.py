"""The HTTP side: routes, bounds on what is read, and answers. What is believed and kept is decided elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ValidationError

from modelyard.cluster.logs import where
from modelyard.collector import problems
from modelyard.collector.curves import Curves, StoreAwayError
from modelyard.collector.downloads import Downloads
from modelyard.collector.gate import Gate, Grant
from modelyard.collector.limits import Limits
from modelyard.collector.metrics import Metrics
from modelyard.collector.points import of_batch
from modelyard.collector.problems import RefusedError
from modelyard.collector.series import Asked, shaped
from modelyard.collector.wire import Batch, Download, SeriesQuery
from modelyard.collector.writer import Writer
from modelyard.plan import Key, Obj

log = logging.getLogger(__name__)

REPORTS_BYTES = 256 * 1024
DOWNLOAD_BYTES = 64 * 1024
BODY_SECONDS = 10.0

_Body = TypeVar("_Body", bound=BaseModel)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_NAMESPACE = "{namespace:[a-z0-9-]{1,63}}"
_NAME = "{name:[a-z0-9.-]{1,253}}"


class Server:
    """The handlers and what they share."""

    def __init__(self, gate: Gate, writer: Writer, curves: Curves, downloads: Downloads, metrics: Metrics) -> None:
        self._gate = gate
        self._writer = writer
        self._curves = curves
        self._downloads = downloads
        self._metrics = metrics
        self._limits = Limits(rate=4, burst=20)

    def application(self) -> web.Application:
        """The application that pods, the operator and the status API talk to."""
        app = web.Application(middlewares=[self._guard], client_max_size=REPORTS_BYTES)
        base = f"/v1/namespaces/{_NAMESPACE}"
        app.router.add_post(f"{base}/trainings/{_NAME}/reports", self.reports, name="reports")
        app.router.add_post(f"{base}/trainings/{_NAME}/downloads", self.training_download, name="training-downloads")
        app.router.add_post(f"{base}/models/{_NAME}/downloads", self.model_download, name="model-downloads")
        app.router.add_post(f"{base}/datasets/{_NAME}/downloads", self.dataset_download, name="dataset-downloads")
        app.router.add_get("/v1/downloads", self.list_downloads, name="downloads")
        app.router.add_get("/v1/series/{uid:[A-Za-z0-9-]{1,64}}", self.series, name="series")
        return app

    async def reports(self, request: web.Request) -> web.Response:
        """Takes a batch of an agent's reports."""
        key = _key(request)
        grant, training = await self._reporter(request, key)
        self._limit(grant.pod_uid)
        batch = await _body(request, Batch, REPORTS_BYTES)
        run = self._writer.run_of(key, training)
        if batch.uid != run.uid:
            raise RefusedError(problems.REPLACED)
        if batch.attempt != run.attempt:
            # The grant may be older than the attempt; the agent asks again, and then the Training is read anew.
            self._gate.forget(key)
            if batch.attempt < run.attempt:
                raise RefusedError(problems.OLD_ATTEMPT)
            raise RefusedError(problems.NOT_READY, retry_after=1)
        self._writer.take(key, run, grant.pod_uid, batch)
        await self._curves.take(of_batch(key, batch))
        return web.json_response({"accepted": len(batch.reports)})

    async def _reporter(self, request: web.Request, key: Key) -> tuple[Grant, Obj]:
        header, peer = request.headers.get(hdrs.AUTHORIZATION), _peer(request)
        grant, training = await self._gate.reporter(header, peer, key)
        if self._writer.contradicts(key, training):
            # One of the two is of a run that is over: only the API server knows which.
            self._gate.forget(key)
            grant, training = await self._gate.reporter(header, peer, key)
        return grant, training

    async def model_download(self, request: web.Request) -> web.Response:
        """Takes how far a Model version's download is."""
        return await self._download(request, "model")

    async def training_download(self, request: web.Request) -> web.Response:
        """Takes how far the download of a Training's data is."""
        return await self._download(request, "training")

    async def dataset_download(self, request: web.Request) -> web.Response:
        """Takes how far the download of a Dataset is: its claim has its name."""
        return await self._download(request, "dataset")

    async def _download(self, request: web.Request, kind: str) -> web.Response:
        key = _key(request)
        grant = await self._gate.downloader(request.headers.get(hdrs.AUTHORIZATION), _peer(request), kind, key)
        self._limit(grant.pod_uid)
        report = await _body(request, Download, DOWNLOAD_BYTES)
        if kind == "dataset":
            report = report.model_copy(update={"volume": key.name})
        now = datetime.now(UTC)
        fresh = self._downloads.take(kind.capitalize(), key, grant.pod, grant.pod_uid, report, now)
        self._metrics.downloads.set(len(self._downloads))
        return web.json_response({"accepted": int(fresh)})

    async def list_downloads(self, request: web.Request) -> web.Response:
        """Tells the operator how far the downloads are."""
        await self._gate.operator(request.headers.get(hdrs.AUTHORIZATION), _peer(request))
        return web.json_response({"downloads": self._downloads.rows(datetime.now(UTC))})

    async def series(self, request: web.Request) -> web.Response:
        """Gives the status API the curves of one Training, which it has authorised its caller to see."""
        await self._gate.api(request.headers.get(hdrs.AUTHORIZATION), _peer(request))
        asked = _asked(request)
        steps = (asked.first_step, asked.last_step)
        try:
            points = await self._curves.read(request.match_info["uid"], asked.attempt, steps)
        except StoreAwayError:
            raise RefusedError(problems.NO_STORE, retry_after=5) from None
        return web.json_response(await asyncio.to_thread(shaped, points, asked))

    def _limit(self, pod_uid: str) -> None:
        if not self._limits.allow(pod_uid, asyncio.get_running_loop().time()):
            raise RefusedError(problems.TOO_MANY, retry_after=1)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        route = request.match_info.route.name or "none"
        with self._metrics.seconds.labels(route).time():
            response = await self._answer(request, handler)
        self._metrics.requests.labels(route, str(response.status)).inc()
        return response

    async def _answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as refused:
            return problems.answer(refused.problem, refused.retry_after)
        except web.HTTPMethodNotAllowed:
            return problems.answer(problems.METHOD)
        except web.HTTPRequestEntityTooLarge:
            return problems.answer(problems.TOO_LARGE)
        except web.HTTPException:
            return problems.answer(problems.NOT_FOUND)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.error("a request failed: %s at %s", type(error).__name__, where(error))
            return problems.answer(problems.UNEXPECTED)


def health(metrics: Metrics, ready: Callable[[], bool]) -> web.Application:
    """The application for probes and Prometheus: plain HTTP, nothing of any namespace in it."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(text="not ready\n", status=503)

    async def exposition(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", exposition)
    return app


def _key(request: web.Request) -> Key:
    return Key(request.match_info["namespace"], request.match_info["name"])


def _asked(request: web.Request) -> Asked:
    query = {name: request.query[name] for name in request.query if name != "metric"}
    try:
        found = SeriesQuery.model_validate({**query, "metrics": request.query.getall("metric", [])})
    except ValidationError:
        raise RefusedError(problems.BAD_QUERY) from None
    return Asked(
        attempt=found.attempt,
        metrics=frozenset(found.metrics),
        first_step=found.from_step,
        last_step=found.to_step,
        since=found.since.timestamp() if found.since else None,
        until=found.until.timestamp() if found.until else None,
        most=found.max_points,
    )


def _peer(request: web.Request) -> str:
    return request.remote or ""


async def _body(request: web.Request, model: type[_Body], limit: int) -> _Body:
    if request.content_length is not None and request.content_length > limit:
        raise RefusedError(problems.TOO_LARGE)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.read()
    except TimeoutError:
        raise RefusedError(problems.TIMEOUT) from None
    if len(raw) > limit:
        raise RefusedError(problems.TOO_LARGE)
    try:
        return model.model_validate_json(raw)
    except ValidationError:
        raise RefusedError(problems.BAD_BODY) from None
