"""The part of a kubelet that gives logs, over its real protocol: the API server asks it, the lines are a test's."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import NODE, POD
from support.cluster import Kube, Obj, path_of

BINDING = Kind("v1", "Binding", "bindings")
BEGAN = datetime(2026, 11, 21, 10, tzinfo=UTC)


class LoggingNode:
    """A node whose pods write what a test says. Three lines are written in the same second."""

    def __init__(self, kube: Kube, port: int) -> None:
        self._kube = kube
        self.name = f"logs-{port}"
        self.lines: dict[tuple[str, str], list[str]] = {}
        self.asked: list[dict[str, str]] = []
        self.broken = False
        kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}}, NODE)
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        }
        kube.merge(NODE, "", self.name, {"status": status}, "status")

    def pod(self, namespace: str, name: str, labels: dict[str, str]) -> None:
        """A pod on this node that has a log."""
        spec = {"containers": [{"name": "trainer", "image": "none"}], "schedulerName": "none", "tolerations": []}
        body: Obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}
        body["metadata"]["namespace"] = namespace
        self._kube.create(body, POD)
        target = {"apiVersion": "v1", "kind": "Node", "name": self.name}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self._kube.request("POST", f"{path_of(POD, namespace, name)}/binding", binding)
        self.lines[namespace, name] = []

    def answer(self, place: tuple[str, str], query: dict[str, str]) -> bytes | None:
        """What the kubelet answers; None: it can't."""
        self.asked.append(query)
        if self.broken or place not in self.lines:
            return None
        stamped = [(BEGAN + timedelta(seconds=at // 3), at, text) for at, text in enumerate(self.lines[place])]
        if "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"])
            stamped = [line for line in stamped if line[0] >= since]
        stamped = stamped[-int(query.get("tailLines", "100000")) :]
        told = [f"{time:%Y-%m-%dT%H:%M:%S}.{at:09}Z {text}\n" for time, at, text in stamped]
        return "".join(told).encode()[: int(query.get("limitBytes", "100000000"))]


@contextmanager
def logging_node(plane: ControlPlane, kube: Kube) -> Iterator[LoggingNode]:
    """It answers for the time of the block."""
    found: list[LoggingNode] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            _, what, namespace, pod, _ = place.path.split("/", 4)
            assert what == "containerLogs"
            body = found[0].answer((namespace, pod), {k: v[0] for k, v in parse_qs(place.query).items()})
            self.send_response(500 if body is None else 200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(body or b"no log")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    certificate = plane.components.config.authority.server("logging-node", "system:node:logs", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        found.append(LoggingNode(kube, server.server_port))
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
