"""The loader's HTTP against a server that says byte for byte what it is told to."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from modelyard.loader.wire import BrokenError, Connections, Raw, UnsendableError
from support.loading import free_port


class Scripted:
    """Answers each request with the next pieces of its script; None ends the connection."""

    def __init__(self, *script: tuple[bytes, ...] | None) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self._script = list(script)
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._door.accept()
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
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


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Connections(ssl.create_default_context)


def whole(raw: Raw) -> bytes:
    found = b""
    while data := raw.read1(7):
        found += data
    raw.close(1 << 16)
    return found


def test_every_framing_of_a_body(connections: Connections) -> None:
    server = Scripted(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX-Twice: a\r\nx-twice: b\r\n\r\nhello world",),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTT", b"P/1.1 206 \r\nContent-Le", b"ngth: 3\r\n\r", b"\nabc"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel",
            b"lo\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n",
        ),
        (b"HTTP/1.1 204 None\r\n\r\n",),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nup to", b" the end"),
    )
    raw = connections.request("GET", f"{server.url}/a b?q=é", {})
    assert (raw.status, raw.headers["x-twice"], whole(raw)) == (200, "a, b", b"hello world")
    assert server.heads[0].startswith(b"GET /a%20b?q=%C3%A9 HTTP/1.1\r\nHost: 127.0.0.1:")
    for expected in (b"abc", b"hello world", b"", b""):
        assert whole(connections.request("GET", server.url, {})) == expected
    assert whole(connections.request("GET", server.url, {})) == b"up to the end"
    assert server.connections == 1


def test_an_answer_to_head_has_no_body(connections: Connections) -> None:
    server = Scripted(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",)
    )
    assert whole(connections.request("HEAD", server.url, {})) == b""
    assert whole(connections.request("GET", server.url, {})) == b"x"
    assert server.connections == 1


def test_a_kept_connection_that_was_closed_is_replaced(connections: Connections) -> None:
    good = (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",)
    server = Scripted(good, None, good)
    assert whole(connections.request("GET", server.url, {})) == b"x"
    assert whole(connections.request("GET", server.url, {})) == b"x"
    assert (server.connections, len(server.heads)) == (2, 3)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\nConnection: close\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nno colon here, close\r\n\r\n",
        b"SSH-2.0-close\r\n\r\n",
        b"HTTP/1.1 200 OK, and then close",
    ],
)
def test_what_is_cut_or_garbled_is_said(connections: Connections, answer: bytes) -> None:
    server = Scripted((answer,))
    with pytest.raises(BrokenError):
        whole(connections.request("GET", server.url, {}))


def test_an_unread_rest_is_read_where_it_is_little(connections: Connections) -> None:
    answer = (b"HTTP/1.1 404 No\r\nContent-Length: 5\r\n\r\nwords",)
    server = Scripted(answer, answer, answer)
    connections.request("GET", server.url, {}).close(5)
    connections.request("GET", server.url, {}).close(4)
    connections.request("GET", server.url, {}).close(4)
    assert server.connections == 2


def test_a_header_can_not_smuggle_another(connections: Connections) -> None:
    with pytest.raises(UnsendableError):
        connections.request("GET", "http://127.0.0.1:1/", {"Authorization": "Bearer a\r\nX: y"})


def test_proxies_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = (b"HTTP/1.1 407 No\r\nConnection: close\r\n\r\n",)
    server = Scripted((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), refusal)
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//me:pass@"))
    monkeypatch.setenv("https_proxy", server.url)
    monkeypatch.setenv("no_proxy", "elsewhere.invalid")
    connections = Connections(ssl.create_default_context)
    assert whole(connections.request("GET", "http://models.invalid/a", {})) == b"ok"
    assert server.heads[0].startswith(b"GET http://models.invalid/a HTTP/1.1\r\nHost: models.invalid\r\n")
    assert b"\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n" in server.heads[0]
    connections = Connections(ssl.create_default_context)
    with pytest.raises(OSError, match="Tunnel"):
        connections.request("GET", "https://models.invalid/a", {"Authorization": "Bearer x"})
    assert server.heads[1].startswith(b"CONNECT models.invalid:443 ")
    assert b"Bearer" not in server.heads[1]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        connections.request("GET", f"http://127.0.0.1:{free_port()}/", {})
