"""A real control plane for tests, and a plain client to look at it and act on it as a user would.

`control_plane` is one API server, etcd and controller manager for the tests of one folder with the CRDs installed;
`kube` its administrator's client; `namespace` a fresh one per test. Import the fixtures into a conftest to use them:
where the folder is a package they end with its last test, so that no folder's processes run beside the next one's.
"""

from __future__ import annotations

import base64
import itertools
import os
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources import meta
from support.waiting import wait_for

Obj = dict[str, Any]
CRDS = Path(__file__).resolve().parents[2] / "crds"
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions")

_names = itertools.count(1)


class Refused(Exception):  # noqa: N818 - reads as what happened
    """The API server's answer was no success."""

    def __init__(self, code: int, status: Obj) -> None:
        super().__init__(f"{code} {status.get('reason')}: {status.get('message')}")
        self.code = code
        self.reason = status.get("reason", "")
        self.message = status.get("message", "")


class Kube:
    """The API server by a kubeconfig, synchronously; objects are dicts."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cadata=content_of(cluster, "certificate-authority").decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(content_of(user, "client-certificate") + b"\n" + content_of(user, "client-key"))
            pair.flush()
            context.load_cert_chain(pair.name)
        self._http = httpx2.Client(
            base_url=cluster["server"], verify=context, trust_env=False, timeout=120, headers={"User-Agent": "test"}
        )

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Obj:
        """Any request; `Refused` unless it succeeds."""
        headers = {"Content-Type": content_type}
        answer = self._http.request(method, path, json=body, headers=headers)
        is_json = "json" in answer.headers.get("Content-Type", "")
        content: Obj = answer.json() if is_json and answer.content else {"message": answer.text[:200]}
        if not answer.is_success:
            raise Refused(answer.status_code, content)
        return content

    def get(self, kind: Kind, namespace: str, name: str) -> Obj:
        """The object; `Refused` with code 404 if it is not there."""
        return self.request("GET", path_of(kind, namespace, name))

    def find(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """The object, or None."""
        try:
            return self.get(kind, namespace, name)
        except Refused as refused:
            if refused.code == 404:
                return None
            raise

    def exists(self, path: str) -> bool:
        """Whether there is something at that path."""
        try:
            self.request("GET", path)
        except Refused as refused:
            if refused.code == 404:
                return False
            raise
        return True

    def list(self, kind: Kind, namespace: str = "", selector: str = "") -> list[Obj]:
        """All objects of a kind, in one namespace or everywhere."""
        query = f"?labelSelector={selector}" if selector else ""
        found: list[Obj] = self.request("GET", path_of(kind, namespace) + query)["items"]
        return found

    def create(self, obj: Obj, kind: Kind) -> Obj:
        """POST."""
        return self.request("POST", path_of(kind, obj["metadata"].get("namespace", "")), obj)

    def apply(self, obj: Obj, kind: Kind, manager: str = "test") -> Obj:
        """Server-side apply, creating what is not there."""
        meta_ = obj["metadata"]
        path = path_of(kind, meta_.get("namespace", ""), meta_["name"]) + f"?fieldManager={manager}&force=true"
        return self.request("PATCH", path, obj, "application/apply-patch+yaml")

    def merge(self, kind: Kind, namespace: str, name: str, patch: Obj, subresource: str = "") -> Obj:
        """JSON merge patch."""
        path = path_of(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, patch, "application/merge-patch+json")

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        """DELETE in the background."""
        self.request("DELETE", path_of(kind, namespace, name), {"propagationPolicy": "Background"})

    def install_crds(self) -> None:
        """Applies the repository's CRDs and waits until they are served."""
        for file in sorted(CRDS.glob("*.yaml")):
            self.apply(yaml.safe_load(file.read_text()), CRD)
        for kind in meta.ROOT_KINDS:
            self.wait_until_served(kind)

    def wait_until_served(self, kind: Kind) -> None:
        """Waits until the API server has taken a CRD in."""
        wait_for(lambda: self._served(kind), f"{kind.plural} of {kind.api_version} to be served")

    def _served(self, kind: Kind) -> bool:
        try:
            self.list(kind)
        except Refused:
            return False
        return True


def path_of(kind: Kind, namespace: str = "", name: str = "") -> str:
    """The URL path of a kind, or of one object."""
    root = "/apis/" if kind.group else "/api/"
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{kind.api_version}{place}/{kind.plural}" + (f"/{name}" if name else "")


def new_namespace(kube: Kube, prefix: str = "test") -> str:
    """Makes a namespace that no other test uses."""
    name = f"{prefix}-{os.getpid()}-{next(_names)}"
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, meta.NAMESPACE)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    wait_for(lambda: kube.exists(account), f"the account of pods in {name}", every=0.02)
    return name


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane of this folder's own, with audit log and CRDs."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    with ControlPlane(name=f"pytest-{os.getpid()}{worker}", audit=True) as plane:
        Kube(plane.kubeconfig).install_crds()
        yield plane


@pytest.fixture(scope="package")
def kube(control_plane: ControlPlane) -> Kube:
    """The administrator's client."""
    return Kube(control_plane.kubeconfig)


@pytest.fixture
def namespace(kube: Kube) -> str:
    """A namespace of the test's own."""
    return new_namespace(kube)


def content_of(entry: Obj, name: str) -> bytes:
    """What a kubeconfig says inline or by a file."""
    if f"{name}-data" in entry:
        return base64.b64decode(entry[f"{name}-data"])
    return Path(entry[name]).read_bytes()
