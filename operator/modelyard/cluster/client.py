"""Requests to the API server: dicts in, dicts out.

Login, TLS, connection pool and token refresh are those of `kubernetes.aio`; its models and watch are not used. Every
request has a deadline, says who we are, is counted, and fails as one of the types in `errors`.
"""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client as kube
from kubernetes.aio import config as kube_config

from modelyard import __version__
from modelyard.cluster import errors
from modelyard.plan import Kind, Obj, Ref

APPLY = "application/apply-patch+yaml; charset=utf-8"
"""With a charset, so that the generated client sends our text and not its own JSON, which is no YAML for every text."""
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

_IN_CLUSTER_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=5)
_PAGE = 500

Propagation = Literal["Foreground", "Background", "Orphan"]
Dict = dict[str, Any]


class LoginError(Exception):
    """There is no way to reach a cluster from here; the text says what was looked for."""


class Observer(Protocol):
    """Told of every request that got an answer or none: seconds, HTTP status (0: none), verb, plural of the kind."""

    def __call__(self, *, seconds: float, code: int, verb: str, kind: str) -> None:
        """Counts it."""


def uses_kubeconfig() -> bool:
    """Whether login goes by a kubeconfig file: KUBECONFIG is set, or this is no pod."""
    return bool(os.environ.get("KUBECONFIG")) or not _IN_CLUSTER_TOKEN.exists()


async def connect(component: str, pool: int = 64, observer: Observer | None = None) -> Client:
    """A client by KUBECONFIG, the pod's service account, or ~/.kube/config, in this order. LoginError if none works."""
    configuration = kube.Configuration()
    try:
        if uses_kubeconfig():
            await kube_config.load_kube_config(
                config_file=os.environ.get("KUBECONFIG") or None, client_configuration=configuration
            )
        else:
            kube_config.load_incluster_config(client_configuration=configuration)
    except (kube_config.ConfigException, OSError) as error:
        raise LoginError(
            f"No way to log in to a cluster ({type(error).__name__}): set KUBECONFIG to a readable kubeconfig file, or"
            " run in a pod with a service account."
        ) from None
    configuration.connection_pool_maxsize = pool
    # False would be zero tries, which is never reached: 5xx would be tried again in silence and for ever.
    configuration.retries = None
    # aiohttp looks for a proxy and a .netrc file at each request, in a thread: dear where there is no proxy at all.
    configuration.client_session_kwargs = {"trust_env": bool(urllib.request.getproxies())}
    api = kube.ApiClient(configuration)
    api.user_agent = f"modelyard-{component}/{__version__}"
    return Client(api, observer)


class Client:
    """The verbs that Modelyard uses. All raise `errors.ApiError` and nothing else, but for cancellation."""

    def __init__(self, api: kube.ApiClient, observer: Observer | None = None) -> None:
        self._api = api
        self._observer = observer

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    async def get(self, ref: Ref) -> Dict:
        """The object, by a quorum read."""
        return await self._send("GET", "get", ref.kind, _path(ref.kind, ref.namespace, ref.name))

    async def pages(
        self, kind: Kind, namespace: str | None = None, selector: str | None = None, fields: str | None = None
    ) -> AsyncIterator[tuple[Sequence[Dict], int]]:
        """A consistent list in pages, each with the list's resourceVersion. Items say their kind, as in a watch.

        `selector` is about labels, `fields` about fields, both as the API server writes them.
        """
        chosen = {"labelSelector": selector, "fieldSelector": fields}
        query = {"limit": str(_PAGE), **{name: value for name, value in chosen.items() if value}}
        while True:
            answer = await self._send("GET", "list", kind, _path(kind, namespace), query)
            items: list[Dict] = answer.get("items") or []
            for item in items:
                item.setdefault("apiVersion", kind.api_version)
                item.setdefault("kind", kind.kind)
            yield items, int(answer["metadata"]["resourceVersion"])
            token = answer["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def create(self, kind: Kind, obj: Obj) -> Dict:
        """POST; AlreadyExistsError if the name is taken."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        path = _path(kind, obj["metadata"].get("namespace"))
        return await self._send("POST", "create", kind, path, {"fieldManager": "modelyard"}, body)

    async def replace(self, kind: Kind, obj: Obj) -> Dict:
        """PUT of a whole object; ConflictError if its resourceVersion has moved on."""
        body = {"apiVersion": kind.api_version, "kind": kind.kind, **obj}
        meta = obj["metadata"]
        return await self._send("PUT", "update", kind, _path(kind, meta.get("namespace"), meta["name"]), {}, body)

    async def apply(self, ref: Ref, body: Obj, *, field_manager: str, force: bool, subresource: str = "") -> Dict:
        """Server-side apply."""
        query = {"fieldManager": field_manager, **({"force": "true"} if force else {})}
        return await self._patch(ref, APPLY, as_yaml(body), query, subresource)

    async def merge(self, ref: Ref, body: Obj) -> Dict:
        """JSON merge patch."""
        return await self._patch(ref, MERGE, body, {"fieldManager": "modelyard"})

    async def json_patch(self, ref: Ref, operations: Sequence[Obj], subresource: str = "") -> Dict:
        """JSON patch; InvalidError if one of its `test` operations fails."""
        return await self._patch(ref, JSON_PATCH, operations, {}, subresource)

    async def delete(self, ref: Ref, uid: str, propagation: Propagation = "Background") -> Dict:
        """DELETE if it still is that uid (else ConflictError); the object as it goes, or a Status if it is gone."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": propagation,
        }
        return await self._send("DELETE", "delete", ref.kind, _path(ref.kind, ref.namespace, ref.name), {}, body)

    async def served(self, kind: Kind) -> bool:
        """Whether the API server serves this kind in this version."""
        path = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.api_version}"
        try:
            answer = await self._send("GET", "discover", kind, path)
        except errors.NotFoundError:
            return False
        return any(resource["name"] == kind.plural for resource in answer.get("resources", ()))

    async def _patch(self, ref: Ref, content_type: str, body: Any, query: Mapping[str, str], sub: str = "") -> Dict:
        path = _path(ref.kind, ref.namespace, ref.name) + (f"/{sub}" if sub else "")
        verb = "apply" if content_type == APPLY else "patch"
        return await self._send("PATCH", verb, ref.kind, path, query, body, content_type)

    async def log_tail(
        self, namespace: str, pod: str, container: str, lines: int, most_bytes: int, since: str = ""
    ) -> bytes:
        """The end of a container's log, the time before each line; InvalidError if there is none yet.

        `since`: only from that second on, RFC 3339.
        """
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(most_bytes), "timestamps": "true"}
        if since:
            query["sinceTime"] = since
        kind = Kind("v1", "Pod", "pods")
        return await self._request("GET", "log", kind, f"{_path(kind, namespace, pod)}/log", query)

    async def _send(
        self,
        method: str,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Dict:
        answer = _decode(await self._request(method, verb, kind, path, query, body, content_type))
        if not isinstance(answer, dict):
            raise errors.UnavailableError(f"{verb} {path}: the answer is no JSON object", 200)
        return answer

    async def _request(
        self,
        method: str,
        verb: str,
        kind: Kind,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        what = f"{verb} {path}"
        accept = "application/json" if verb != "log" else "*/*"
        # Not compressed: between an API server and its neighbours that costs both far more time than it saves.
        headers = {"Accept": accept, "Accept-Encoding": "identity", "Content-Type": content_type}
        headers["User-Agent"] = self._api.user_agent
        url = self._api.configuration.host + path + ("?" + urlencode(query) if query else "")
        started, code = time.monotonic(), 0
        try:
            await self._api.update_params_for_auth(headers, None, ["BearerToken"], path, method, body)
            response = await self._api.rest_client.request(
                method, url, headers=headers, body=body, _request_timeout=_TIMEOUT
            )
            raw = await response.read()
            code = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.UnavailableError(f"{what}: {type(error).__name__}", 0) from None
        finally:
            if self._observer:
                self._observer(seconds=time.monotonic() - started, code=code, verb=verb, kind=kind.plural)
        if not 200 <= code < 300:
            raise errors.from_status(what, code, _decode(raw), response.headers)
        return bytes(raw)


_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What YAML does not take, or takes as the end of a line; JSON has it as it is."""


def as_yaml(body: Obj) -> bytes:
    """JSON that is YAML as well: no pairs of surrogates, which YAML refuses, for what lies beyond 16 bits."""
    text = json.dumps(body, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def matches(selector: str | None, obj: Obj) -> bool:
    """Whether an object's labels satisfy a selector of the form `key=value`; always without one."""
    if selector is None:
        return True
    key, _, value = selector.partition("=")
    return (obj["metadata"].get("labels") or {}).get(key) == value


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    root = "/apis/" if kind.group else "/api/"
    place = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{root}{kind.api_version}{place}/{kind.plural}" + (f"/{quote(name, safe='')}" if name else "")


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
