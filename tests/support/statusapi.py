"""The status API as a process of its own, callers with tokens, and a follower of its stream that keeps state."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx2
import yaml

from localcluster.ports import free_ports
from modelyard.resources import meta
from support.cluster import CRD, Kube, Obj, Refused, wait_for

__all__ = ["Obj"]

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"requestsPerSecond": 5000, "burst": 20000, "streams": 5000}


class Caller:
    """Somebody with a token, before the API."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx2.Client(base_url=f"{url}/api/v1", headers=headers, trust_env=False, timeout=60)

    def get(self, path: str, **params: Any) -> httpx2.Response:
        """GET below /api/v1."""
        return self.http.get(path, params=params)

    def json(self, path: str, **params: Any) -> Any:
        """The answer, which must be 200."""
        answer = self.get(path, **params)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:300])
        return answer.json()


@dataclass
class ApiProcess:
    """One `modelyard api`."""

    folder: Path
    kubeconfig: Path
    port: int
    metrics_port: int
    settings: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("api-*.log")))

    def start(self, ready: bool = True) -> None:
        """Starts it; it is ready on return."""
        path = self.folder / "settings.yaml"
        api = {"host": "127.0.0.1", "port": self.port, "metricsPort": self.metrics_port, "limits": LIMITS}
        content = {"namespace": "modelyard-system", "logLevel": "DEBUG", **self.settings}
        content["api"] = {**api, **content.get("api", {})}
        path.write_text(yaml.safe_dump(content))
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "PYTHONPATH": f"{ROOT}/operator:{ROOT}/training"}
        self.starts += 1
        with (self.folder / f"api-{self.starts}.log").open("wb") as out:
            command = [sys.executable, "-m", "modelyard.statusapi.main", "--settings", str(path)]
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
        if ready:
            wait_for(lambda: self.probe("/readyz")[0] == 200, "the API to be ready")

    def stop(self) -> int:
        """Ends it as Kubernetes does; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=120)

    def probe(self, path: str) -> tuple[int, str]:
        """GET on the port for probes and metrics."""
        try:
            answer = httpx2.get(f"http://127.0.0.1:{self.metrics_port}{path}", trust_env=False, timeout=30)
        except httpx2.HTTPError:
            return 0, ""
        return answer.status_code, answer.text

    def caller(self, token: str | None) -> Caller:
        """Somebody with a token."""
        return Caller(self.url, token)


@contextlib.contextmanager
def api_process(folder: Path, kubeconfig: Path, **settings: Any) -> Iterator[ApiProcess]:
    """A running API for the time of the block."""
    with free_ports(["api", "metrics"]) as ports:
        found = ApiProcess(folder, kubeconfig, ports["api"], ports["metrics"], settings)
    found.start()
    try:
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.stop()


def account(kube: Kube, namespace: str, name: str) -> str:
    """Makes a service account; returns a token of it."""
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}
    kube.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", body)
    return token_of(kube, namespace, name)


def token_of(kube: Kube, namespace: str, name: str, seconds: int = 3600, audiences: tuple[str, ...] = ()) -> str:
    """A fresh token of a service account, as TokenRequest gives it."""
    spec: Obj = {"expirationSeconds": seconds, **({"audiences": list(audiences)} if audiences else {})}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str(kube.request("POST", path, body)["status"]["token"])


RBAC = "/apis/rbac.authorization.k8s.io/v1"


def rule(verbs: list[str], resources: list[str], group: str = meta.GROUP, names: list[str] | None = None) -> Obj:
    """One RBAC rule."""
    found: Obj = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return {**found, "resourceNames": names} if names else found


def grant(kube: Kube, name: str, subject: Obj, rules: list[Obj], namespace: str = "") -> None:
    """Gives a subject rules, in one namespace or (empty) everywhere."""
    kind, place = ("Role", f"{RBAC}/namespaces/{namespace}") if namespace else ("ClusterRole", RBAC)
    where = {"namespace": namespace} if namespace else {}
    head: Obj = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    kube.request(
        "POST", f"{place}/{kind.lower()}s", {**head, "kind": kind, "metadata": {"name": name, **where}, "rules": rules}
    )
    binding = {
        **head,
        "kind": f"{kind}Binding",
        "metadata": {"name": name, **where},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [subject],
    }
    kube.request("POST", f"{place}/{kind.lower()}bindings", binding)


def revoke(kube: Kube, name: str, namespace: str = "") -> None:
    """Takes a grant away."""
    kind, place = ("role", f"{RBAC}/namespaces/{namespace}") if namespace else ("clusterrole", RBAC)
    kube.request("DELETE", f"{place}/{kind}bindings/{name}")
    kube.request("DELETE", f"{place}/{kind}s/{name}")


def service_account(namespace: str, name: str) -> Obj:
    """A subject of a binding."""
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


class Follower:
    """Follows the stream in a thread and keeps the state that a UI would keep."""

    def __init__(self, url: str, token: str, last_event_id: str | None = None, **params: Any) -> None:
        self.objects: dict[tuple[str, str, str], Obj] = {}
        self.events: list[tuple[str, Any]] = []
        self.last_event_id = last_event_id
        self.status: int | None = None
        self.synced = threading.Event()
        self.over = threading.Event()
        headers = {"Authorization": f"Bearer {token}"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
        self._connection.connect()
        self._socket = self._connection.sock  # http.client lets go of it as soon as the answer begins
        self._connection.request("GET", f"/api/v1/events?{urlencode(params, doseq=True)}", headers=headers)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hangs up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        assert self.over.wait(120)

    def seen(self, name: str) -> list[Any]:
        """The data of all events of that name."""
        return [data for found, data in self.events if found == name]

    def state(self) -> dict[tuple[str, str, str], Obj]:
        """What a UI would show."""
        return dict(self.objects)

    def _run(self) -> None:
        try:
            answer = self._connection.getresponse()
            self.status = answer.status
            self._read(answer)
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            self.over.set()

    def _read(self, answer: http.client.HTTPResponse) -> None:
        event: dict[str, str] = {}
        for raw in answer:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                self._take(event)
                event = {}

    def _take(self, event: Mapping[str, str]) -> None:
        if "id" in event:
            self.last_event_id = event["id"]
        if "event" not in event:
            return
        data = json.loads(event["data"])
        self.events.append((event["event"], data))
        if event["event"] == "reset":
            self.objects.clear()
            self.synced.clear()
        elif event["event"] == "change":
            obj = data["object"]
            key = (obj["kind"], obj["namespace"], obj["name"])
            if data["op"] == "put":
                self.objects[key] = obj
            else:
                self.objects.pop(key, None)
        elif event["event"] == "synced":
            self.synced.set()


def make(kube: Kube, kind: Any, namespace: str, name: str, spec: Obj, status: Obj | None = None, **more: Any) -> Obj:
    """Creates an object of ours and writes its status, as the operator would."""
    body = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "namespace": namespace, **more},
        "spec": spec,
    }
    made = kube.create(body, kind)
    return kube.merge(kind, namespace, name, {"status": status}, "status") if status else made


SPECS: Mapping[str, Obj] = {
    "models": {"versions": [{"name": "v1"}]},
    "modelsources": {"type": "HUGGING_FACE", "secretRef": "hub"},
    "trainings": {"recipe": {"name": "tabular-classification"}, "dataset": {"pvc": {"claimName": "data"}}},
    "datasets": {"source": {"type": "HUGGING_FACE", "uri": "huggingface://a/b"}, "secretRef": "hub"},
    "pods": {"containers": [{"name": "trainer", "image": "x"}], "nodeSelector": {"modelyard.dev/nowhere": "true"}},
}


def listed(caller: Caller, namespace: str) -> dict[tuple[str, str, str], Obj]:
    """A fresh list of all our kinds in a namespace."""
    rows = [r for k in meta.ROOT_KINDS for r in caller.json(f"/{k.plural}", namespace=namespace, limit=500)["items"]]
    return {(row["kind"], row["namespace"], row["name"]): row for row in rows}


def equal(follower: Follower, fresh: Callable[[], dict[tuple[str, str, str], Obj]]) -> None:
    """Waits until the follower shows what a list shows."""
    wait_for(lambda: follower.state() == fresh(), "the follower to show what a list shows")


def install_datasets(kube: Kube) -> None:
    """Serves Datasets: their names and their status as the Dataset controller has them, any spec, no controller."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything, "status": anything}}},
        "subresources": {"status": {}},
    }
    group, plural = meta.DATASET.group, meta.DATASET.plural
    spec = {
        "group": group,
        "names": {"kind": "Dataset", "plural": plural},
        "scope": "Namespaced",
        "versions": [version],
    }
    body = {"apiVersion": CRD.api_version, "kind": CRD.kind, "metadata": {"name": f"{plural}.{group}"}, "spec": spec}
    kube.apply(body, CRD)

    def served() -> bool:
        try:
            kube.list(meta.DATASET)
        except Refused:
            return False
        return True

    wait_for(served, "Datasets to be served")
