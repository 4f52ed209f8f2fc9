"""The status API as a source, with the token of the kubeconfig. Standard library alone."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote, urlencode

from modelyard.kubectl.source import BusyError, Json, LogPart, MissingError, Scope, SourceError

_SECONDS: Final = 30
_QUIET_SECONDS: Final = 60
_BACKOFF: Final = (1, 2, 5, 10, 20)


class Remote:
    """A status API at `url`. `token` is asked before each request; `ca_file`: certificates to trust."""

    def __init__(self, url: str, token: Callable[[], str], ca_file: str | None = None) -> None:
        self.words = f"the status API at {url}"
        self._base = f"{url.rstrip('/')}/api/v1"
        self._token = token
        context = ssl.create_default_context(cafile=ca_file)
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))

    def namespaces(self) -> list[str]:
        """Names of namespaces."""
        return [row["name"] for row in self._json("/namespaces")["items"]]

    def rows(self, plural: str, scope: Scope, selector: str = "", name: str = "") -> list[Json]:
        """Rows of a kind, of all pages."""
        query: dict[str, Any] = {**_where(scope), "labelSelector": selector, "q": name, "limit": 500}
        found: list[Json] = []
        while True:
            page = self._json(f"/{plural}", query)
            found += [row for row in page["items"] if not name or row["name"] == name]
            if "nextCursor" not in page:
                return found
            query["cursor"] = page["nextCursor"]

    def detail(self, plural: str, namespace: str, name: str) -> Json:
        """One object."""
        found: Json = self._json(_path(plural, namespace, name))
        return found

    def export(self, plural: str, namespace: str, name: str) -> str:
        """One object as YAML."""
        return self._read(f"{_path(plural, namespace, name)}/export").decode()

    def errors(self, scope: Scope) -> list[Json]:
        """What needs a person."""
        found: list[Json] = self._json("/errors", {**_where(scope), "limit": 500})["items"]
        return found

    def statistics(self, scope: Scope) -> Json:
        """Totals."""
        found: Json = self._json("/statistics", _where(scope))
        return found

    def logs(self, namespace: str, training: str, lines: int, since: str = "") -> LogPart:
        """The end of a training's log."""
        found = self._json(f"{_path('trainings', namespace, training)}/logs", {"lines": lines, "since": since})
        return LogPart(found["pod"], list(zip(found["times"], found["lines"], strict=True)), found["truncated"])

    def series(self, namespace: str, training: str) -> dict[str, list[Json]]:
        """Curves of a training, from the collector's store."""
        found = self._json(f"{_path('trainings', namespace, training)}/metrics")
        curves: dict[str, list[Json]] = {**found.get("epochs", {}), **found.get("series", {})}
        return curves

    def follow(self, plural: str, scope: Scope, name: str = "") -> Iterator[list[Json]]:
        """By the stream; connects again, with the last id, when it breaks."""
        rows: dict[tuple[str, str], Json] = {}
        last, failures = "", 0
        while True:
            try:
                for event, data, event_id in self._events(plural, scope, name, last):
                    last, failures = event_id or last, 0
                    if event == "end":
                        break
                    if _apply(rows, event, data):
                        yield [rows[key] for key in sorted(rows)]
            except (OSError, ValueError):
                pass
            time.sleep(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
            failures += 1

    def _events(self, plural: str, scope: Scope, name: str, last: str) -> Iterator[tuple[str, Json, str]]:
        headers = {"Last-Event-ID": last} if last else {}
        query = {**_where(scope), "kind": plural, "name": name}
        with self._open("/events", query, headers, _QUIET_SECONDS) as answer:
            fields: dict[str, str] = {}
            for raw in answer:
                line = raw.decode().rstrip("\n")
                if line:
                    field, _, value = line.partition(": ")
                    fields[field] = value
                elif "event" in fields:
                    yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
                    fields = {}

    def _json(self, path: str, query: Json | None = None) -> Any:
        return json.loads(self._read(path, query))

    def _read(self, path: str, query: Json | None = None) -> bytes:
        try:
            with self._open(path, query or {}, {}, _SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except OSError as error:
            raise BusyError(f"{self.words} cannot be reached ({type(error).__name__}).") from None

    def _open(self, path: str, query: Json, headers: dict[str, str], seconds: float) -> Any:
        chosen = {name: value for name, value in query.items() if value not in ("", None)}
        url = self._base + path + (f"?{urlencode(chosen, doseq=True)}" if chosen else "")
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token()}", **headers})
        try:
            return self._opener.open(request, timeout=seconds)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None


def _refusal(error: urllib.error.HTTPError) -> SourceError | OSError:
    """The API's own words; where the same request may succeed later, an OSError."""
    detail, code = f"The status API answered {error.code}.", ""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        problem = json.loads(error.read())
        detail, code = str(problem["detail"]), problem["code"]
    if error.code == 404 and code != "LogsAreOff":
        return MissingError(detail)
    return OSError(detail) if error.code in (429, 503, 504) else SourceError(detail)


def _apply(rows: dict[tuple[str, str], Json], event: str, data: Json) -> bool:
    """Whether there is something new to show."""
    if event == "reset":
        rows.clear()
        return False
    if event == "change":
        obj = data["object"]
        key = (obj["namespace"], obj["name"])
        if data["op"] == "put":
            rows[key] = obj
        else:
            rows.pop(key, None)
        return True
    return event == "synced"


def _where(scope: Scope) -> Json:
    return {"namespace": scope.namespace} if scope.namespace else {}


def _path(plural: str, namespace: str, name: str) -> str:
    return f"/namespaces/{quote(namespace, safe='')}/{plural}/{quote(name, safe='')}"
