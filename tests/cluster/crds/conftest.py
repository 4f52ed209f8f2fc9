"""A control plane with the CRDs installed the way a user installs them: plain `kubectl apply`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from localcluster import ControlPlane
from localcluster.tools import build_tools
from modelyard.resources.meta import GROUP, VERSION

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Api:
    """The API server, asked the way `kubectl apply --validate=strict` asks."""

    kubeconfig: Path
    objects: client.CustomObjectsApi

    def kubectl(self, *words: str) -> str:
        command = [str(build_tools(["kubectl"])["kubectl"]), "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def create(self, kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Raises ApiException with the server's words if it is refused."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": name, "namespace": "default"},
            "spec": dict(spec),
        }
        created: dict[str, Any] = self.objects.create_namespaced_custom_object(
            GROUP, VERSION, "default", f"{kind.lower()}s", body, field_validation="Strict"
        )
        return created

    def replace(self, obj: Mapping[str, Any], *, status: bool = False) -> dict[str, Any]:
        """PUT of the object or of its status."""
        put = (
            self.objects.replace_namespaced_custom_object_status
            if status
            else self.objects.replace_namespaced_custom_object
        )
        plural = f"{obj['kind'].lower()}s"
        result: dict[str, Any] = put(
            GROUP, VERSION, "default", plural, obj["metadata"]["name"], obj, field_validation="Strict"
        )
        return result

    def apply_status(self, obj: Mapping[str, Any], status: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Server-side apply of a status, as the operator writes it."""
        body = {key: obj[key] for key in ("apiVersion", "kind")} | {
            "metadata": {"name": obj["metadata"]["name"], "resourceVersion": obj["metadata"]["resourceVersion"]},
            "status": dict(status),
        }
        result: dict[str, Any] = self.objects.patch_namespaced_custom_object_status(
            GROUP,
            VERSION,
            "default",
            f"{obj['kind'].lower()}s",
            obj["metadata"]["name"],
            body,
            field_manager=manager,
            field_validation="Strict",
            _content_type="application/apply-patch+yaml",
        )
        return result

    def delete(self, kind: str, name: str) -> None:
        self.objects.delete_namespaced_custom_object(GROUP, VERSION, "default", f"{kind.lower()}s", name)


@pytest.fixture(scope="package")
def api() -> Iterator[Api]:
    with ControlPlane() as plane:
        found = Api(plane.kubeconfig, client.CustomObjectsApi(config.new_client_from_config(str(plane.kubeconfig))))
        found.kubectl("apply", "-f", str(ROOT / "crds"))
        found.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield found
