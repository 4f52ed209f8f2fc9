"""Progress to the collector, from a thread of its own.

The download never waits for it: only the newest reading is kept, a slow or absent collector loses the others, and no
failure here is a failure of the download. Standard library only, and no proxy: the collector is in the cluster.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from modelyard.loader.progress import Reading

_TIMEOUT_SECONDS = 2.0


class Reporter:
    """Posts readings. `offer` returns at once; `close` waits for the last one no longer than a time-out."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Reads MODELYARD_COLLECTOR_URL and its companions; without them it stays silent.

        In a Job of the Dataset controller MODELYARD_DATASET_JOB, the Job's name, stands for all that names the version.
        """
        url = urlsplit(environment.get("MODELYARD_COLLECTOR_URL", ""))
        namespace = environment.get("MODELYARD_NAMESPACE", "")
        training, model = environment.get("MODELYARD_TRAINING", ""), environment.get("MODELYARD_MODEL", "")
        dataset = environment.get("MODELYARD_DATASET_JOB", "").removeprefix("dataset-").rpartition("-round-")[0]
        kind, name = next(
            (
                (kind, name)
                for kind, name in (("trainings", training), ("models", model), ("datasets", dataset))
                if name
            ),
            ("", ""),
        )
        self._enabled = bool(url.scheme in ("http", "https") and url.hostname and namespace and name)
        self._https = url.scheme == "https"
        self._host, self._port = url.hostname or "", url.port
        self._path = f"{url.path.rstrip('/')}/v1/namespaces/{quote(namespace)}/{kind}/{quote(name)}/downloads"
        self._ca = environment.get("MODELYARD_CA_PEM", "")
        self._token_file = environment.get("MODELYARD_TOKEN_FILE", "")
        self._fixed = {
            "version": environment.get("MODELYARD_VERSION", ""),
            "volume": environment.get("MODELYARD_VOLUME", ""),
        }
        self._ready = threading.Condition()
        self._next: Reading | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="report", daemon=True)
        if self._enabled:
            self._thread.start()

    def offer(self, reading: Reading) -> None:
        """Makes this the next reading to send."""
        with self._ready:
            self._next = reading
            self._ready.notify()

    def close(self) -> None:
        """Lets the last reading go out."""
        if not self._enabled:
            return
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join(_TIMEOUT_SECONDS + 1)

    def _run(self) -> None:
        sequence = 0
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._next is not None or self._closing)
                reading, self._next = self._next, None
            if reading is None:
                return
            sequence += 1
            try:
                self._post(reading, sequence)
            except (OSError, http.client.HTTPException, ValueError):
                continue

    def _post(self, reading: Reading, sequence: int) -> None:
        body = {
            **self._fixed,
            "bytes": reading.bytes,
            "totalBytes": reading.total_bytes,
            "files": reading.files,
            "totalFiles": reading.total_files,
            "bytesPerSecond": round(reading.bytes_per_second),
            "etaSeconds": None if reading.eta_seconds is None else round(reading.eta_seconds),
            "seq": sequence,
        }
        headers = {"Content-Type": "application/json"}
        if self._token_file:
            with open(self._token_file, encoding="ascii") as file:  # projected tokens rotate
                headers["Authorization"] = f"Bearer {file.read().strip()}"
        connection = self._connection()
        try:
            connection.request("POST", self._path, json.dumps(body).encode(), headers)
            connection.getresponse().read(1)
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if not self._https:
            return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS)
        context = ssl.create_default_context(cadata=self._ca or None)
        return http.client.HTTPSConnection(self._host, self._port, timeout=_TIMEOUT_SECONDS, context=context)
