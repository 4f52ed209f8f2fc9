"""How far downloads are: asks the collector, only while something is downloading, and wakes the roots concerned.

The collector knows from the loaders' reports; the status is the operator's to write. What the collector says is
checked field by field, and no failure to reach it stops anything: progress is then just not shown.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp

from modelyard.cluster.facts import Facts
from modelyard.cluster.store import Store
from modelyard.observed import DownloadFact
from modelyard.plan import Obj
from modelyard.resources.meta import COMPONENT_DOWNLOAD, JOB, LABEL_COMPONENT, PVC
from modelyard.resources.names import dataset_of_job
from modelyard.resources.times import parse_time
from modelyard.settings import Collector

logger = logging.getLogger(__name__)

_INDEX = "running-downloads"
_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=2)


def running_downloads(job: Obj) -> Iterable[str]:
    """Index function: the one value `yes` for a download Job, ours or a Dataset's, that is not over."""
    labels = job["metadata"].get("labels") or {}
    fetches = labels.get(LABEL_COMPONENT) == COMPONENT_DOWNLOAD or dataset_of_job(job["metadata"]["name"]) is not None
    conditions = (job.get("status") or {}).get("conditions") or ()
    over = any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)
    if fetches and not over:
        yield "yes"


class Downloads:
    """The poller. `run` it on the leader."""

    def __init__(self, settings: Collector, store: Store, facts: Facts, on_news: Callable[[Obj], None]) -> None:
        """`on_news` gets the volume claim of a download whose progress changed."""
        self._settings = settings
        self._store = store
        self._facts = facts
        self._on_news = on_news
        store.add_index(_INDEX, JOB, running_downloads)

    async def run(self) -> None:
        """Polls for ever, while there is something to ask for."""
        if not self._settings.url or not self._facts.ca_pem:
            return
        context = ssl.create_default_context(cadata=self._facts.ca_pem)
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            while True:
                if self._store.indexed(_INDEX, "yes"):
                    answer = await self._ask(session, context)
                    if answer is not None:
                        self._take_in(answer)
                else:
                    self._take_in(())
                await asyncio.sleep(self._settings.poll_seconds)

    async def _ask(self, session: aiohttp.ClientSession, context: ssl.SSLContext) -> Iterable[Any] | None:
        try:
            token = await asyncio.to_thread(self._settings.token_file.read_text, encoding="utf-8")
            headers = {"Authorization": f"Bearer {token.strip()}"}
            async with session.get(f"{self._settings.url}/v1/downloads", headers=headers, ssl=context) as response:
                if response.status == 200:
                    body = await response.json()
                    found = body.get("downloads") if isinstance(body, Mapping) else None
                    return found if isinstance(found, list) else ()
                logger.info("The collector answered %d when asked for downloads.", response.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            logger.info("The collector could not be asked for downloads (%s).", type(error).__name__)
        return None

    def _take_in(self, reports: Iterable[Any]) -> None:
        facts = dict(parsed for report in reports if (parsed := parse_download(report)) is not None)
        for namespace, volume in self._facts.learn_downloads(facts):
            claim = self._store.get(PVC, namespace, volume)
            if claim is not None:
                self._on_news(claim)


def parse_download(report: Any) -> tuple[tuple[str, str], DownloadFact] | None:
    """Namespace, volume and fact of one entry of the collector's answer; None if it is not as it should be."""
    if not isinstance(report, Mapping):
        return None
    texts = [report.get(name) for name in ("namespace", "volume", "pod", "reportedAt")]
    done = _number(report, "bytes")
    if not all(isinstance(text, str) for text in texts) or done is None:
        return None
    namespace, volume, pod, reported = (str(text) for text in texts)
    try:
        reported_at = parse_time(reported)
    except ValueError:
        return None
    fact = DownloadFact(
        pod=pod,
        bytes=int(done),
        total_bytes=_whole(report, "totalBytes"),
        files=_whole(report, "files"),
        total_files=_whole(report, "totalFiles"),
        bytes_per_second=_number(report, "bytesPerSecond"),
        eta_seconds=_number(report, "etaSeconds"),
        reported_at=min(reported_at, datetime.now(UTC)),
    )
    return (namespace, volume), fact


def _number(report: Mapping[str, Any], name: str) -> float | None:
    value = report.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**63:
        return None
    return float(value)


def _whole(report: Mapping[str, Any], name: str) -> int | None:
    value = _number(report, name)
    return None if value is None else int(value)
