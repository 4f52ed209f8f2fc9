"""Sends the buffered reports to the collector, in a thread of its own.

The connection is TLS to the one CA that the operator named. The token is read anew for each request, because the
kubelet rotates it. Nothing here can hold up the program: time-outs are short, what can't be sent waits in the bounded
buffer, and the thread is a daemon. Each report is also one line on stdout, at most one a second of the ordinary ones.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import ssl
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import quote, urlsplit

from .buffer import Buffer
from .progress import Entry
from .settings import Settings

INTERVAL_SECONDS = 5.0
BEAT_SECONDS = 15.0
_TICK_SECONDS = 0.25
_TIMEOUT_SECONDS = 5.0
_BACKOFF_SECONDS = (1.0, 30.0)
_REFUSED_FOR_GOOD = frozenset({409, 410})
_BATCH_IS_BAD = frozenset({400, 413, 422})


class Reporter:
    """One connection to the collector. `offer` is called by the server's threads, everything else by its own."""

    def __init__(self, settings: Settings, beat: Callable[[], Entry]) -> None:
        self._settings = settings
        self._beat = beat
        self._heard = time.monotonic()
        self._buffer = Buffer()
        self._lines = Buffer()
        self._context: ssl.SSLContext | None = None
        self._connection: http.client.HTTPConnection | None = None
        self._next_send = 0.0
        self._next_line = 0.0
        self._failures = 0
        # The first node's processes know all that there is to report.
        self._off = settings.collector_url is None or settings.node_rank > 0
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, entry: Entry) -> None:
        """Takes a report; returns at once."""
        self._lines.put(entry)
        self._heard = time.monotonic()
        if not self._off:
            self._buffer.put(entry)
        if entry.urgent:
            self._wake.set()

    def flush(self, seconds: float) -> bool:
        """Gives what is still buffered that long to get through, then gives up. True: nothing is left."""
        self._next_send = 0.0
        self._closing.set()
        self._wake.set()
        self._thread.join(seconds)
        return not len(self._buffer)

    def _run(self) -> None:
        while True:
            self._wake.wait(_TICK_SECONDS)
            self._wake.clear()
            closing, now = self._closing.is_set(), time.monotonic()
            self._print(now, closing)
            if not (self._off or closing) and now - self._heard >= BEAT_SECONDS:
                # Only one that says that nothing has changed tells a program that hangs from a collector that is away.
                self._heard = now
                self._buffer.put(self._beat())
            if self._due(now, closing):
                self._send()
            if closing and (self._off or not len(self._buffer)):
                return

    def _due(self, now: float, closing: bool) -> bool:
        if self._off or not len(self._buffer):
            return False
        if self._failures:
            return now >= self._next_send
        return closing or self._buffer.urgent or now >= self._next_send

    def _print(self, now: float, closing: bool) -> None:
        if not len(self._lines) or not (closing or self._lines.urgent or now >= self._next_line):
            return
        self._next_line = now + 1.0
        entries = self._lines.drain()
        shown = [e for e in entries if e.row or e.urgent] or entries[-1:]
        text = "".join(json.dumps(e.body, separators=(",", ":")) + "\n" for e in shown)
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            pass

    def _send(self) -> None:
        batch = self._buffer.batch()
        code, retry_after = self._post(batch)
        if code == 200:
            self._buffer.drop(batch)
            if self._failures:
                _say("The collector takes reports again.")
            self._failures, self._next_send = 0, time.monotonic() + INTERVAL_SECONDS
        elif code in _REFUSED_FOR_GOOD:
            _say(f"The collector refuses the reports of this attempt (HTTP {code}): another one has taken over.")
            self._off = True
            self._buffer.drain()
        elif code in _BATCH_IS_BAD:
            _say(f"The collector could not use {len(batch)} reports (HTTP {code}); they are left out.")
            self._buffer.drop(batch)
            self._next_send = time.monotonic() + INTERVAL_SECONDS
        else:
            self._failures += 1
            if self._failures == 1:
                what = f"answers HTTP {code}" if code else "can't be reached"
                _say(f"The collector {what}; training goes on, reports are kept and sent later.")
            least, most = _BACKOFF_SECONDS
            wait = min(most, least * 2 ** min(self._failures - 1, 10)) * random.uniform(0.7, 1.3)
            # While closing there are only seconds left: steady tries beat a growing pause.
            wait = min(wait, 0.5) if self._closing.is_set() else max(wait, retry_after)
            self._next_send = time.monotonic() + wait

    def _post(self, batch: list[Entry]) -> tuple[int, float]:
        body = json.dumps(
            {
                "uid": self._settings.uid,
                "attempt": self._settings.attempt,
                "pod": self._settings.pod,
                "reports": [entry.body for entry in batch],
            }
        ).encode()
        # A kept connection may have been closed by the other side meanwhile: one more try on a fresh one.
        fresh = self._connection is None
        answer = self._try(body)
        return answer if answer[0] or fresh else self._try(body)

    def _try(self, body: bytes) -> tuple[int, float]:
        try:
            token = self._settings.token_file.read_text(encoding="ascii").strip()
            if self._connection is None:
                self._connection = self._connect()
            self._connection.request(
                "POST",
                self._path,
                body,
                {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
            )
            response = self._connection.getresponse()
            response.read(64 * 1024)
            retry_after = response.headers.get("Retry-After", "")
            if response.will_close or not response.isclosed():
                self._hang_up()
            return response.status, min(60.0, float(retry_after)) if retry_after.isdigit() else 0.0
        except (OSError, http.client.HTTPException, ValueError):
            self._hang_up()
            return 0, 0.0

    @property
    def _path(self) -> str:
        base = urlsplit(self._settings.collector_url or "").path.rstrip("/")
        namespace, name = quote(self._settings.namespace, safe=""), quote(self._settings.training, safe="")
        return f"{base}/v1/namespaces/{namespace}/trainings/{name}/reports"

    def _connect(self) -> http.client.HTTPConnection:
        url = urlsplit(self._settings.collector_url or "")
        if url.scheme != "https" or not url.hostname:
            raise ValueError("not an https URL")
        if self._context is None:
            self._context = ssl.create_default_context(cadata=self._settings.ca_pem or None)
        return http.client.HTTPSConnection(
            url.hostname, url.port or 443, timeout=_TIMEOUT_SECONDS, context=self._context
        )

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"modelyard-agent: {text}\n".encode())
