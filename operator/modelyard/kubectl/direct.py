"""The cluster itself as a source, with the caller's own rights: the same rows, made here from the objects."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import urllib3
from kubernetes import client

from modelyard.cluster.store import Change
from modelyard.kubectl.login import Login
from modelyard.kubectl.source import BusyError, DeniedError, Json, LogPart, MissingError, Scope, SourceError
from modelyard.plan import Kind, Obj
from modelyard.resources import meta
from modelyard.resources.meta import TRAINING
from modelyard.statusapi import troubles
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.export import manifest, to_yaml
from modelyard.statusapi.kinds import ALL, BY_PLURAL, ROOTS, TRAININGS, Shown
from modelyard.statusapi.logs import CONTAINER, parted
from modelyard.statusapi.rows import Rows
from modelyard.statusapi.schemas.answers import Trouble
from modelyard.statusapi.schemas.base import Dto
from modelyard.statusapi.statistics import output_bytes, statistics

_POLL_SECONDS: Final = 2.0
_PAGE: Final = 500
_SECONDS: Final = 30


class Direct:
    """The API server of the kubeconfig."""

    def __init__(self, login: Login) -> None:
        self.words = f"the cluster at {login.configuration.host}"
        self._api = client.ApiClient(login.configuration)
        self._api.user_agent = "kubectl-modelyard"

    def namespaces(self) -> list[str]:
        """Names of all namespaces, if one may list them."""
        return [item["metadata"]["name"] for item in self._ask(_path(meta.NAMESPACE, None), {})["items"]]

    def rows(self, plural: str, scope: Scope, selector: str = "", name: str = "") -> list[Json]:
        """Rows of a kind."""
        shown = BY_PLURAL[plural]
        found = self._objects(shown, scope, selector, name)
        return [_plain(shown.summary(obj)) for obj in found]

    def detail(self, plural: str, namespace: str, name: str) -> Json:
        """One object."""
        shown = BY_PLURAL[plural]
        return shown.detail(self._get(shown.kind, namespace, name))

    def export(self, plural: str, namespace: str, name: str) -> str:
        """One object as YAML."""
        kind = BY_PLURAL[plural].kind
        return to_yaml(manifest(kind, self._get(kind, namespace, name)))

    def errors(self, scope: Scope) -> list[Json]:
        """What needs a person; pods and Datasets only where one may list them."""
        now = datetime.now(UTC)
        found: list[Trouble] = []
        for shown in ALL:
            try:
                objects = self._objects(shown, scope)
            except (MissingError, DeniedError):
                if shown in ROOTS:
                    raise
                continue
            found += [trouble for obj in objects for trouble in troubles.of(shown.kind, obj, now)]
        return [_plain(trouble) for trouble in sorted(found, key=troubles.rank)]

    def statistics(self, scope: Scope) -> Json:
        """Totals."""
        rows, outputs = Rows(ChangeLog("local")), {}
        for shown in ROOTS:
            for obj in self._objects(shown, scope):
                rows.observe(Change(shown.kind, None, obj))
                outputs[obj["metadata"]["uid"]] = output_bytes(obj) if shown is TRAININGS else 0
        return _plain(statistics(rows, {shown.kind: Seen(True) for shown in ROOTS}, outputs))

    def series(self, namespace: str, training: str) -> dict[str, list[Json]]:
        """The epochs that the object remembers: the collector answers the status API alone."""
        found: dict[str, list[Json]] = {}
        for row in (self._get(TRAINING, namespace, training).get("status") or {}).get("epochs") or ():
            for name, value in (row.get("metrics") or {}).items():
                found.setdefault(name, []).append({"value": value, "step": row.get("step")})
        return found

    def follow(self, plural: str, scope: Scope, name: str = "") -> Iterator[list[Json]]:
        """By asking every two seconds."""
        last: list[Json] | None = None
        while True:
            found = self.rows(plural, scope, name=name)
            if found != last:
                last = found
                yield found
            time.sleep(_POLL_SECONDS)

    def logs(self, namespace: str, training: str, lines: int, since: str = "") -> LogPart:
        """The end of the log of the newest attempt's pod."""
        selector = f"{meta.LABEL_TRAINING}={training},{meta.LABEL_COMPONENT}={meta.COMPONENT_TRAINING}"
        pods = self._ask(f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})["items"]
        if not pods:
            raise MissingError("There is no pod of that training any more, or not yet.")
        newest = max(pods, key=lambda pod: int(pod["metadata"]["labels"].get(meta.LABEL_ATTEMPT, "0")))
        name = newest["metadata"]["name"]
        query = {"tailLines": lines, "container": CONTAINER, "timestamps": "true", "sinceTime": since}
        return LogPart(
            name, parted(self._read(f"/api/v1/namespaces/{namespace}/pods/{name}/log", query, "*/*"))[0], False
        )

    def _objects(self, shown: Shown, scope: Scope, selector: str = "", name: str = "") -> list[Obj]:
        parts = [part for part in (shown.selector, selector) if part]
        query: Json = {"limit": _PAGE, "labelSelector": ",".join(parts)}
        if name:
            query["fieldSelector"] = f"metadata.name={name}"
        found: list[Obj] = []
        while True:
            page = self._ask(_path(shown.kind, scope.namespace), query)
            found += page["items"]
            if not page["metadata"].get("continue"):
                return found
            query["continue"] = page["metadata"]["continue"]

    def _get(self, kind: Kind, namespace: str, name: str) -> Obj:
        found: Obj = self._ask(f"{_path(kind, namespace)}/{name}", {})
        return found

    def _ask(self, path: str, query: Json) -> Any:
        return json.loads(self._read(path, query, "application/json"))

    def _read(self, path: str, query: Json, accept: str) -> bytes:
        chosen = {name: value for name, value in query.items() if value not in ("", None)}
        url = self._api.configuration.host + path + (f"?{urlencode(chosen)}" if chosen else "")
        headers = {"Accept": accept, "User-Agent": self._api.user_agent}
        try:
            self._api.update_params_for_auth(headers, None, ["BearerToken"], path, "GET", None)
            answer = self._api.rest_client.request("GET", url, headers=headers, _request_timeout=_SECONDS)
            raw: bytes = answer.read()
        except urllib3.exceptions.HTTPError as error:
            raise BusyError(f"{self.words} cannot be reached ({type(error).__name__}).") from None
        if not 200 <= answer.status < 300:
            raise _refusal(answer.status, path)
        return raw


def _refusal(code: int, path: str) -> SourceError:
    match code:
        case 400 if path.endswith("/log"):
            return MissingError("The pod has no log yet, or none any more.")
        case 400:
            return SourceError("The cluster does not understand the request: look at --selector.")
        case 404:
            return MissingError("There is no such object, or Modelyard is not installed in this cluster.")
        case 401:
            return SourceError("The cluster does not accept the kubeconfig's credentials: log in again.")
        case 403:
            return DeniedError(f"You may not read {path.rpartition('/')[2]} there: choose a namespace with -n.")
        case 429 | 500 | 502 | 503 | 504:
            return BusyError(f"The cluster answered {code}.")
        case _:
            return SourceError(f"The cluster answered {code}.")


def _path(kind: Kind, namespace: str | None) -> str:
    root = "/apis/" if kind.group else "/api/"
    return f"{root}{kind.api_version}" + (f"/namespaces/{namespace}" if namespace else "") + f"/{kind.plural}"


def _plain(value: Dto) -> Json:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)
