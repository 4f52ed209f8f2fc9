"""The loader's HTTP against a server that says byte for byte what it is told to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import pytest

from modelyard.loader.failure import LoadError
from modelyard.loader.transport import Transport
from support.ports import free_port
from support.tls_sink import Certificates, certificates


class Scripted:
    """Answers each request with the next pieces of its script; None ends the connection."""

    def __init__(self, *script: tuple[bytes, ...] | None, tls: Certificates | None = None) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self._script = list(script)
        self._tls: ssl.SSLContext | None = None
        if tls:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self._tls.load_cert_chain(tls.cert, tls.key)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._door.accept()
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, contextlib.suppress(OSError):
            if self._tls:
                with self._tls.wrap_socket(connection, server_side=True) as encrypted:
                    self._answer(encrypted)
            else:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        while self._script:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            self.heads.append(head)
            pieces = self._script.pop(0)
            for piece in pieces or ():
                connection.sendall(piece)
            if pieces is None or b"close" in pieces[0]:
                return


def tunnel(port: int) -> str:
    """A proxy that answers one CONNECT, and then is a wire to that port."""
    door = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        near, _ = door.accept()
        far = socket.create_connection(("127.0.0.1", port))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += near.recv(65536)
        near.sendall(b"HTTP/1.1 200 Connection established\r\nVia: tunnel\r\n\r\n")
        threading.Thread(target=pump, args=(far, near), daemon=True).start()
        pump(near, far)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{door.getsockname()[1]}"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def transport(url: str, **credentials: str) -> Transport:
    return Transport(credentials=credentials, trusted=url)


def whole(asked: Transport, url: str, method: str = "GET") -> bytes:
    with asked.send(method, url) as response:
        return b"".join(response.chunks())


def test_every_framing_of_a_body() -> None:
    server = Scripted(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world",),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"P/1.1 206 \r\nContent-Le", b"ngth: 3\r\n\r", b"\nabc"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel",
            b"lo\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nup to", b" the end"),
    )
    asked = transport(server.url)
    assert whole(asked, f"{server.url}/a b?q=é") == b"hello world"
    assert server.heads[0].startswith(b"GET /a%20b?q=%C3%A9 HTTP/1.1\r\nHost: 127.0.0.1:")
    for expected in (b"abc", b"hello world", b"up to the end"):
        assert whole(asked, server.url) == expected
    assert server.connections == 1


def test_an_answer_to_head_has_no_body() -> None:
    server = Scripted(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",)
    )
    asked = transport(server.url)
    assert whole(asked, server.url, "HEAD") == b""
    assert whole(asked, server.url) == b"x"
    assert server.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\nConnection: close\r\n\r\nx",
        b"SSH-2.0-close\r\n\r\n",
    ],
)
def test_what_is_cut_or_garbled_is_said(answer: bytes) -> None:
    server = Scripted((answer,))
    with pytest.raises(LoadError) as refusal:
        whole(transport(server.url), server.url)
    assert (refusal.value.reason, refusal.value.retryable) == ("Unreachable", True)


def test_an_unread_rest_is_read_where_it_is_little() -> None:
    little = (b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nwords",)
    much = (b"HTTP/1.1 404 No\r\nContent-Length: 1000000\r\n\r\nwords",)
    server = Scripted(little, much, little)
    asked = transport(server.url)
    for _ in range(3):
        with pytest.raises(LoadError, match="404"):
            whole(asked, server.url)
    assert server.connections == 2


def test_a_header_can_not_smuggle_another() -> None:
    with pytest.raises(LoadError, match="HTTP can't carry") as refusal:
        whole(transport("http://127.0.0.1:1/", Authorization="Bearer a\r\nX: y"), "http://127.0.0.1:1/")
    assert "Bearer" not in str(refusal.value)


def test_proxies_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = (b"HTTP/1.1 407 No\r\nConnection: close\r\n\r\n",)
    server = Scripted((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), refusal)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.setenv("no_proxy", "elsewhere.invalid")
    assert whole(transport("http://models.invalid"), "http://models.invalid/a") == b"ok"
    assert server.heads[0].startswith(b"GET http://models.invalid/a HTTP/1.1\r\n")
    assert b"\r\nHost: models.invalid\r\n" in server.heads[0]
    with pytest.raises(LoadError) as told:
        whole(transport("https://models.invalid", Authorization="Bearer x"), "https://models.invalid/a")
    assert told.value.reason == "Unreachable"
    assert server.heads[1].startswith(b"CONNECT models.invalid:443 ")
    assert b"Bearer" not in server.heads[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = f"http://127.0.0.1:{free_port()}/"
    with pytest.raises(LoadError, match="refuses connections"):
        whole(transport(url), url)


def test_authorities_and_a_tunnel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = certificates(tmp_path)
    (tmp_path / "authority.pem").write_text(made.ca_pem)
    ok = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",)
    server = Scripted(ok, ok, tls=made)
    with pytest.raises(LoadError, match="not signed by an authority that this container trusts"):
        whole(transport(server.url), server.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    assert whole(transport(server.url), server.url) == b"ok"
    monkeypatch.setenv("https_proxy", tunnel(server.port))
    with transport(server.url).send("GET", server.url) as response:
        assert response.headers == {"content-length": "2"}  # what the proxy says is not the answer's
        assert b"".join(response.chunks()) == b"ok"


def test_credentials_in_an_address_are_not_sent() -> None:
    ok = (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",)
    server = Scripted((b"HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n",), ok)
    url = server.url.replace("//", "//me:canary@")
    assert whole(transport(url), f"{url}/a") == b"ok"
    assert [head.split(b" ")[1] for head in server.heads] == [b"/a", b"/b"]
    assert not any(b"uthorization" in head or b"canary" in head for head in server.heads)
