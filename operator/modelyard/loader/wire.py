"""HTTP/1.1 as a download needs it: one request after the other on connections that are kept, bodies as they arrive.

Beneath `transport`, which knows of redirects, credentials and words. Written for many small files: a request is one
write, an answer that fits is one read. What is sent must be safe to send twice: a kept connection that turns out to
be closed is replaced by a new one.
"""

from __future__ import annotations

import base64
import http.client
import re
import select
import ssl
import threading
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

_CONNECT_SECONDS = 10.0
_READ_SECONDS = 60.0
_MAX_HEAD_BYTES = 1 << 18
_AT_ONCE = 1 << 16
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
_PLAIN = re.compile(r"[!-~]+")
_SAFE = "!#$%&'()*+,/:;=?@[]~"


class BrokenError(OSError):
    """The other side ended too early, or what it sent is not HTTP."""


class UnsendableError(ValueError):
    """A URL, or a header, that HTTP can't carry."""


class Raw:
    """An answer whose body is unread. Header names are in lower case; those that came twice are joined by commas."""

    def __init__(self, line: _Line, status: int, headers: Mapping[str, str], *, keep: bool, empty: bool) -> None:
        self.status = status
        self.headers = headers
        self._line = line
        self._keep = keep
        self._left: int | None = None
        """Bytes of the body, or of its chunk, that are still to come; None: up to the end of the connection."""
        self._chunked = False
        self._ended = False
        length = headers.get("content-length")
        if empty:
            self._left = 0
        elif headers.get("transfer-encoding", "identity").lower() != "identity":
            if headers["transfer-encoding"].lower() != "chunked":
                raise BrokenError("an unknown transfer coding")
            self._chunked, self._left = True, 0
            self._keep = keep and length is None
        elif length is not None:
            lengths = {part.strip() for part in length.split(",")}
            if len(lengths) != 1 or not (told := lengths.pop()).isascii() or not told.isdigit():
                raise BrokenError("a length that is no number")
            self._left = int(told)
        else:
            self._keep = False
        self._ended = self._left == 0 and not self._chunked

    def read1(self, most: int) -> bytes:
        """What has arrived, at most so many bytes; none at the end.

        Raises:
            OSError: the connection broke.
        """
        if self._ended:
            return b""
        if self._chunked and not self._left:
            self._left = self._line.chunk()
            if not self._left:
                self._line.trailer()
                self._ended = True
                return b""
        data = self._line.some(most if self._left is None else min(most, self._left))
        if not data:
            self._ended = True
            if self._left is not None:
                raise BrokenError("the answer is cut short")
            return b""
        if self._left is not None:
            self._left -= len(data)
            if self._chunked and not self._left:
                self._line.chunk_end()
            self._ended = not self._left and not self._chunked
        return data

    def close(self, little: int) -> None:
        """Lets go of the connection: for the next request where at most `little` bytes are left, else for good."""
        try:
            if self._keep and not self._chunked and (self._left or 0) <= little:
                while self.read1(_AT_ONCE):
                    continue
            elif self._keep and self._chunked and not self._ended and not self._left:
                self.read1(1)  # nothing but the end may be left
            if self._keep and self._ended:
                self._line.done()
                return
        except OSError:
            pass
        self._line.close()


class _Line:
    """One connection, and the bytes that were read too far."""

    def __init__(self, connection: http.client.HTTPConnection, done: Callable[[_Line], None]) -> None:
        self._connection = connection
        self._socket = connection.sock
        self._socket.settimeout(_READ_SECONDS)
        self._done = done
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def idle(self) -> bool:
        """Whether it is open as far as one can see: who asked nothing gets no bytes, but for the end."""
        return not self._buffer and not self._poll.poll(0)

    def ask(self, head: bytes, method: str) -> Raw:
        self._socket.sendall(head)
        return self._answer(method)

    def _answer(self, method: str) -> Raw:
        while True:
            lines = self._head().split("\n")
            match = _STATUS_LINE.fullmatch(lines[0].rstrip("\r"))
            if match is None:
                raise BrokenError("no HTTP")
            status = int(match[2])
            if status >= 200:
                break
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                raise BrokenError("a header that is none")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        connection = headers.get("connection", "").lower()
        keep = "close" not in connection and (match[1] == "1" or "keep-alive" in connection)
        return Raw(self, status, headers, keep=keep, empty=method == "HEAD" or status in (204, 304))

    def _head(self) -> str:
        looked = 0
        while (end := _HEAD_END.search(self._buffer, max(0, looked - 3))) is None:
            looked = len(self._buffer)
            if looked > _MAX_HEAD_BYTES:
                raise BrokenError("too long a head")
            self._more()
        head = self._buffer[: end.start()].decode("latin-1")
        del self._buffer[: end.end()]
        return head

    def _more(self) -> None:
        data = self._socket.recv(_AT_ONCE)
        if not data:
            raise BrokenError("the connection ended")
        self._buffer += data

    def _text(self) -> bytes:
        """Up to the end of a line."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise BrokenError("too long a line")
            self._more()
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        return line

    def some(self, most: int) -> bytes:
        """Bytes as they are there; none at the end of the connection."""
        if not self._buffer:
            return self._socket.recv(most)
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    def chunk(self) -> int:
        """The size of the next chunk."""
        try:
            return int(self._text().partition(b";")[0].strip() or b"-", 16)
        except ValueError:
            raise BrokenError("a chunk without a size") from None

    def chunk_end(self) -> None:
        if self._text():
            raise BrokenError("a chunk of another size")

    def trailer(self) -> None:
        while self._text():
            continue

    def done(self) -> None:
        self._done(self)

    def close(self) -> None:
        self._connection.close()


class Connections:
    """Kept connections by where they lead. For several threads, each with a connection of its own."""

    def __init__(self, context: Callable[[], ssl.SSLContext]) -> None:
        """`context` is asked once, for the first https address: reading all authorities takes its time."""
        self._make_context = context
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str], list[_Line]] = {}
        self._proxies = getproxies()

    def request(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None) -> Raw:
        """An answer with its body unread.

        Raises:
            UnsendableError: the URL or a header can't be sent.
            OSError: the server can't be reached, or does not answer as it should.
        """
        parts = urlsplit(url)
        proxy = self._proxy(parts.scheme, parts.hostname or "")
        head = _request(method, url, headers, content, proxy if parts.scheme == "http" else None)
        kept = self._kept.setdefault((parts.scheme, parts.netloc), [])
        while kept:
            try:
                line = kept.pop()
            except IndexError:
                break
            if line.idle():
                try:
                    return line.ask(head, method)
                except TimeoutError:
                    line.close()
                    raise
                except OSError:
                    pass  # it was closed while it was kept
            line.close()
        line = _Line(self._connect(url, proxy), kept.append)
        try:
            return line.ask(head, method)
        except BaseException:
            line.close()
            raise

    def _proxy(self, scheme: str, host: str) -> str | None:
        found = self._proxies.get(scheme) or self._proxies.get("all")
        if not found or proxy_bypass(host):
            return None
        return found if "://" in found else f"http://{found}"

    def _connect(self, url: str, proxy: str | None) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        way = urlsplit(proxy) if proxy else parts
        try:
            host, port = _host(way.hostname), way.port
            if proxy and (way.scheme != "http" or not host):
                raise UnsendableError("a proxy must be named by http://host:port")
            if parts.scheme == "https":
                with self._lock:
                    self._context = self._context or self._make_context()
                made: http.client.HTTPConnection = http.client.HTTPSConnection(
                    host, port or (80 if proxy else 443), timeout=_CONNECT_SECONDS, context=self._context
                )
                if proxy:
                    made.set_tunnel(_host(parts.hostname), parts.port or 443, _proxy_authorization(proxy))
            else:
                made = http.client.HTTPConnection(host, port or 80, timeout=_CONNECT_SECONDS)
        except (ValueError, http.client.InvalidURL):
            raise UnsendableError("not a URL") from None
        try:
            made.connect()
        except http.client.HTTPException:
            raise BrokenError("the proxy does not answer as one") from None
        return made


def _host(name: str | None) -> str:
    return (name or "") if not name or name.isascii() else name.encode("idna").decode()


def _request(method: str, url: str, headers: Mapping[str, str], content: bytes | None, proxy: str | None) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _PLAIN.fullmatch(target):
        target = quote(target, safe=_SAFE)
    where = parts.netloc.rpartition("@")[2]
    if not where.isascii():
        where = _host(parts.hostname) + (f":{parts.port}" if parts.port else "")
    lines = [f"{method} {f'http://{where}' if proxy else ''}{target} HTTP/1.1", f"Host: {where}"]
    sent = {**headers, **(_proxy_authorization(proxy) if proxy else {})}
    if content is not None:
        sent["Content-Length"] = str(len(content))
    for name, value in sent.items():
        lines.append(f"{name}: {value}")
    if any("\n" in line or "\r" in line for line in lines):
        raise UnsendableError("a line break in a header")
    try:
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    except UnicodeEncodeError:
        raise UnsendableError("a character that HTTP has not") from None
    return head if content is None else head + content


def _proxy_authorization(proxy: str) -> dict[str, str]:
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
