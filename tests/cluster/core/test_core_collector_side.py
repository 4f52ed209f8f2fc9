"""The operator's dealings with the collector: its certificates, and asking how far downloads are."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, SECRET
from support.audit import Audit
from support.cluster import Kube, wait_for
from support.operator import OperatorProcess
from support.ports import free_port

CA, LEAF = "modelyard-ca", "modelyard-collector-tls"


class CollectorStandIn:
    """A TLS server with the certificate that the operator made; answers with the download that it is told of.

    The real collector believes only running pods, which there are none of without a node: see tests/e2e.
    """

    def __init__(self, port: int, pair: Path) -> None:
        self.asked: list[str] = []
        self.downloads: list[dict[str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(f"{self.path} {self.headers['Authorization']}")
                body = json.dumps({"downloads": outer.downloads}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def settings(namespace: str, tmp_path: Path) -> dict[str, Any]:
    token = tmp_path / "token"
    token.write_text("operators-own\n")
    url = f"https://127.0.0.1:{free_port()}"
    collector = {"url": url, "tokenFile": str(token), "pollSeconds": 0.2}
    return {"namespace": namespace, "watchNamespaces": [namespace], "collector": collector}


@pytest.fixture
def operator(control_plane: ControlPlane, tmp_path: Path, settings: dict[str, Any]) -> Iterator[OperatorProcess]:
    with OperatorProcess(control_plane.kubeconfig, tmp_path, settings) as process:
        process.wait_until_leading()
        yield process


def test_certificates_are_made_once_and_mended(
    kube: Kube, namespace: str, operator: OperatorProcess, control_plane: ControlPlane
) -> None:
    ca = wait_for(lambda: kube.find(SECRET, namespace, CA), "the authority")
    leaf = wait_for(lambda: kube.find(SECRET, namespace, LEAF), "the leaf")
    assert set(leaf["data"]) == {"tls.crt", "tls.key", "ca.crt"}
    assert leaf["data"]["ca.crt"] == ca["data"]["tls.crt"]
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    assert operator.terminate() == 0
    operator.start()
    operator.wait_until_leading()
    wait_for(lambda: operator.metric("modelyard_leader") == 1, "it to lead again")
    assert not audit.written(namespace=namespace)
    assert operator.terminate() == 0
    kube.merge(SECRET, namespace, LEAF, {"data": {"tls.crt": base64.b64encode(b"nonsense").decode()}})
    operator.start()
    wait_for(lambda: kube.get(SECRET, namespace, LEAF)["data"]["ca.crt"] == ca["data"]["tls.crt"], "the leaf")
    wait_for(
        lambda: base64.b64decode(kube.get(SECRET, namespace, LEAF)["data"]["tls.crt"]) != b"nonsense", "a new leaf"
    )
    assert kube.get(SECRET, namespace, CA)["data"] == ca["data"]


def test_a_strangers_secret_is_left_alone(
    kube: Kube, namespace: str, control_plane: ControlPlane, tmp_path: Path, settings: dict[str, Any]
) -> None:
    theirs = {"metadata": {"name": CA, "namespace": namespace}, "stringData": {"password": "mine"}}
    made = kube.create(theirs, SECRET)
    with OperatorProcess(control_plane.kubeconfig, tmp_path, settings) as operator:
        words = (
            f"Secret {namespace}/{CA} holds no usable pair, was not made by Modelyard and stays as it is: 409 NameTaken"
        )
        wait_for(lambda: words in operator.log.read_text(), "it to say so")
        assert kube.get(SECRET, namespace, CA) == made
        kube.delete(SECRET, namespace, CA)
        wait_for(lambda: kube.find(SECRET, namespace, LEAF), "both to be made once the name is free")


def test_the_collector_is_asked_only_while_something_is_downloaded(
    kube: Kube, namespace: str, operator: OperatorProcess, settings: dict[str, Any], tmp_path: Path
) -> None:
    secret = wait_for(lambda: kube.find(SECRET, namespace, LEAF), "the leaf")
    pair = tmp_path / "pair.pem"
    pair.write_bytes(b"".join(base64.b64decode(secret["data"][name]) for name in ("tls.crt", "tls.key")))
    collector = CollectorStandIn(int(settings["collector"]["url"].rpartition(":")[2]), pair)
    try:
        api = MODEL.api_version
        source = {"apiVersion": api, "kind": "ModelSource", "metadata": {"name": "hub", "namespace": namespace}}
        kube.create({**source, "spec": {"type": "HUGGING_FACE"}}, MODELSOURCE)
        assert collector.asked == []
        model = {"apiVersion": api, "kind": "Model", "metadata": {"name": "m", "namespace": namespace}}
        versions = [{"name": "v1", "repo": "org/repo"}]
        kube.create({**model, "spec": {"sourceRef": "hub", "versions": versions}}, MODEL)
        wait_for(lambda: collector.asked, "the collector to be asked")
        assert collector.asked[0] == "/v1/downloads Bearer operators-own"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        common = {"kind": "Model", "namespace": namespace, "name": "m", "version": "v1", "volume": "mdl-m-v1"}
        collector.downloads = [{**common, "pod": "p", "bytes": 40, "totalBytes": 100, "reportedAt": now}]

        def progress() -> Any:
            entry = (kube.get(MODEL, namespace, "m").get("status") or {}).get("syncedVersions") or [{}]
            return entry[0].get("progress")

        found = wait_for(progress, "the progress in the status")
        assert found["bytes"] == 40
        kube.delete(MODEL, namespace, "m")
        wait_for(lambda: not kube.list(JOB, namespace), "the download to go")
        wait_for(lambda: operator.metric('modelyard_cache_objects{kind="jobs"}') == 0, "the cache to know")
        count = len(collector.asked)
        kube.create(
            {**source, "metadata": {"name": "other", "namespace": namespace}, "spec": {"type": "HTTP"}}, MODELSOURCE
        )
        wait_for(lambda: kube.get(MODELSOURCE, namespace, "other").get("status"), "the operator to go on")
        assert len(collector.asked) <= count + 1
    finally:
        collector.close()
