"""The API server away, back, compacted: the API says how stale it is, lets nobody in unseen, and recovers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import time
import urllib.request
from pathlib import Path

import httpx2

from localcluster import ControlPlane
from modelyard.resources.meta import MODEL
from support.cluster import Kube, wait_for
from support.statusapi import SPECS, ApiProcess, Follower, account, api_process, make, token_of
from support.tls_sink import certificates


def compact(plane: ControlPlane) -> None:
    """Makes etcd forget its history: every watch that has to resume gets 410."""
    base = f"http://127.0.0.1:{plane.components.config.ports['etcd']}/v3/kv"

    def post(path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        request = urllib.request.Request(f"{base}/{path}", json.dumps(body).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    revision = post("range", {"key": "AA=="})["header"]["revision"]
    post("compaction", {"revision": revision, "physical": True})


def test_the_api_server_goes_and_comes_back_with_its_history_gone(
    control_plane: ControlPlane, api: ApiProcess, kube: Kube, admin_token: str, filled: str
) -> None:
    caller = api.caller(admin_token)
    stranger = account(kube, filled, "stranger")
    make(kube, MODEL, filled, "goes", SPECS["models"])
    follower = Follower(api.url, admin_token, namespace=filled)
    assert follower.synced.wait(120)
    wait_for(lambda: ("Model", filled, "goes") in follower.state(), "the snapshot")
    control_plane.stop_apiserver()
    try:
        wait_for(lambda: caller.get("/models").headers.get("Modelyard-Stale") == "true", "the API to say so")
        kept = caller.get("/models", namespace=filled)
        assert kept.status_code == 200
        assert len(kept.json()["items"]) == 2
        refused = api.caller(stranger).get("/models")
        assert refused.status_code == 503
        assert refused.headers["Retry-After"]
        assert refused.json()["code"] == "ClusterUnavailable"
        assert refused.json()["staleSince"]
        assert api.probe("/healthz")[0] == 200
        status, words = api.probe("/readyz")
        assert status == 200
        assert words.startswith("stale since")
        wait_for(lambda: any(beat["stale"] for beat in follower.seen("heartbeat")), "the stream to say so")
    finally:
        control_plane.start_apiserver()
    kube.delete(MODEL, filled, "goes")
    make(kube, MODEL, filled, "comes", SPECS["models"])
    compact(control_plane)
    wait_for(lambda: caller.get("/models").headers.get("Modelyard-Stale") is None, "the API to be fresh")
    names = {"one", "comes"}
    wait_for(lambda: {r["name"] for r in caller.json("/models", namespace=filled)["items"]} == names, "the list")
    wait_for(lambda: {k[2] for k in follower.state() if k[0] == "Model"} == names, "the stream")
    follower.close()


def test_probes_and_metrics(api: ApiProcess) -> None:
    assert api.probe("/readyz") == (200, "ready\n")
    text = api.probe("/metrics")[1]
    for name in ("requests_total", "token_reviews_total", "access_reviews_total", "streams", "cluster_age_seconds"):
        assert f"modelyard_api_{name}" in text
    assert "Bearer" not in text


def test_an_api_server_that_hangs_holds_up_nobody_who_is_known(
    control_plane: ControlPlane, api: ApiProcess, kube: Kube, admin_token: str, filled: str
) -> None:
    caller = api.caller(admin_token)
    stranger = account(kube, filled, "stranger")
    wait_for(lambda: len(caller.json("/models", namespace=filled)["items"]) == 1, "the object")
    server = control_plane.components.process("kube-apiserver").pid()
    assert server is not None
    os.kill(server, signal.SIGSTOP)
    try:
        assert caller.json("/models", namespace=filled)["total"] == 1
        refused = api.caller(stranger).get("/models")
        assert (refused.status_code, refused.json()["code"]) == (503, "ClusterUnavailable")
        assert caller.json("/models", namespace=filled)["total"] == 1
    finally:
        os.kill(server, signal.SIGCONT)
    wait_for(lambda: api.caller(stranger).get("/models").status_code == 200, "the API server to answer")
    make(kube, MODEL, filled, "later", SPECS["models"])
    wait_for(lambda: caller.json("/models", namespace=filled)["total"] == 2, "the change")


def test_tokens_must_be_meant_for_the_audience(
    api_kubeconfig: Path, kube: Kube, admin_token: str, filled: str, tmp_path: Path
) -> None:
    account(kube, filled, "jane")
    with api_process(tmp_path, api_kubeconfig, api={"audiences": ["modelyard"]}) as process:
        meant = token_of(kube, filled, "jane", audiences=("modelyard",))
        other = token_of(kube, filled, "jane", audiences=("vault",))
        assert process.caller(meant).json("/status")["user"] == f"system:serviceaccount:{filled}:jane"
        assert process.caller(other).get("/status").status_code == 401
        assert process.caller(admin_token).get("/status").status_code == 401


def test_without_authentication_only_on_loopback(api_kubeconfig: Path, tmp_path: Path) -> None:
    limits = {"requestsPerSecond": 0.01, "burst": 3}
    with api_process(tmp_path, api_kubeconfig, api={"authentication": "none", "limits": limits}) as process:
        assert "no authentication" in process.log
        answer = process.caller(None).get("/status")
        assert answer.status_code == 200
        assert answer.headers["Modelyard-Authentication"] == "none"
        foreign = process.caller(None).http.get("/status", headers={"Host": f"rebound.example.com:{process.port}"})
        assert (foreign.status_code, foreign.json()["code"]) == (403, "NotLoopback")
        codes = [process.caller(None).get("/status").status_code for _ in range(4)]
        assert codes == [200, 200, 429, 429]
        assert int(process.caller(None).get("/status").headers["Retry-After"]) >= 1
        process.stop()
        process.settings["api"]["host"] = "0.0.0.0"
        process.start(ready=False)
        assert process.process is not None
        assert process.process.wait(120) == 2
        assert "loopback" in process.log


def test_who_never_finishes_a_request_is_let_go(api_kubeconfig: Path, admin_token: str, tmp_path: Path) -> None:
    """A head that does not end, a body that does not, and what is no HTTP at all."""
    authorized = f"Host: x\r\nAuthorization: Bearer {admin_token}\r\n"
    body = "Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    sent = {
        "junk": b"\x16\x03\x01 this is TLS\r\n\r\n",
        "nothing": b"",
        "head": b"GET /api/v1/models HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "body": f"POST /api/v1/secrets/validate HTTP/1.1\r\n{authorized}{body}".encode(),
    }
    said = dict.fromkeys(sent, b"")
    with (
        api_process(tmp_path, api_kubeconfig, api={"limits": {"requestSeconds": 2}}) as process,
        contextlib.ExitStack() as opened,
    ):
        sockets = {}
        for what, begun in sent.items():
            sockets[what] = socket.create_connection(("127.0.0.1", process.port), timeout=60)
            opened.enter_context(sockets[what])
            sockets[what].sendall(begun)
        for what, one in sockets.items():
            with contextlib.suppress(ConnectionResetError):
                while part := one.recv(4096):
                    said[what] += part
                    if what == "body" and b"}" in said[what]:
                        break
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(60):
                sockets["body"].sendall(b" ")
                time.sleep(1)
            raise AssertionError("who goes on with a body that nobody waits for is not let go")
    assert said["junk"].startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in said["junk"]
    assert (said["nothing"], said["head"]) == (b"", b"")
    assert said["body"].startswith(b"HTTP/1.1 504")


def test_tls_is_renewed_and_only_named_origins_may_ask(api_kubeconfig: Path, admin_token: str, tmp_path: Path) -> None:
    (tmp_path / "tls").mkdir()
    tls = certificates(tmp_path / "tls")
    settings = {"tlsDir": str(tmp_path / "tls"), "allowedOrigins": ["https://ui.example.com"]}
    with api_process(tmp_path, api_kubeconfig, api=settings) as process:
        url = process.url.replace("http:", "https:")

        def ask(origin: str, method: str = "GET", **headers: str) -> httpx2.Response:
            verify = ssl.create_default_context(cadata=tls.ca_pem)
            with httpx2.Client(verify=verify, trust_env=False) as http:
                sent = {"Authorization": f"Bearer {admin_token}", "Origin": origin, **headers}
                return http.request(method, f"{url}/api/v1/models", headers=sent)

        answer = ask("https://ui.example.com")
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://ui.example.com"
        assert "ETag" in answer.headers["Access-Control-Expose-Headers"]
        asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
        assert ask("https://ui.example.com", "OPTIONS", **asked).status_code == 200
        assert "Access-Control-Allow-Origin" not in ask("https://evil.example.com").headers
        tls = certificates(tmp_path / "tls")

        def renewed() -> bool:
            try:
                return ask("https://ui.example.com").status_code == 200
            except httpx2.ConnectError:
                return False

        wait_for(renewed, "the new certificate")
