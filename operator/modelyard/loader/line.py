"""HTTP by libcurl, one exchange at a time: a request goes out, its answer is pulled as it arrives, or taken whole.

Beneath `transport`, which knows of redirects, credentials and words. What goes wrong is told by the standard library's
own exceptions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Mapping

import pycurl

_SUPPRESS_CONNECT_HEADERS = 265
"""An option of libcurl that pycurl has no name for: what a proxy answers to CONNECT is no answer."""
_CONNECT_SECONDS = 10
_SILENT_SECONDS = 60
_LOOK_SECONDS = 0.2
_BUFFER_BYTES = 1 << 16
"""Ten times as much comes in one go. More of it would save some CPU, but a kill would cost more."""
_NOT_TRUSTED = (pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE)
_NO_NAME = (pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_COULDNT_RESOLVE_PROXY)


class Line:
    """A handle of libcurl with the connections that it keeps. For one thread at a time."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        """Names in lower case; values of a name that came more than once are joined by commas."""
        self.received = 0
        """Bytes of the body so far."""
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self._room = 0
        self._bare = False
        self._ended = True
        self._failure: Exception | None = None
        self._multi = pycurl.CurlMulti()
        connections = pycurl.CurlShare()
        connections.setopt(pycurl.SH_SHARE, pycurl.LOCK_DATA_CONNECT)
        self._easy = easy = pycurl.Curl()
        easy.setopt(pycurl.SHARE, connections)  # else what is pulled and what is taken whole would have some each
        easy.setopt(pycurl.NOSIGNAL, 1)
        easy.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
        easy.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        easy.setopt(_SUPPRESS_CONNECT_HEADERS, 1)
        easy.setopt(pycurl.CONNECTTIMEOUT, _CONNECT_SECONDS)
        easy.setopt(pycurl.BUFFERSIZE, _BUFFER_BYTES)
        easy.setopt(pycurl.LOW_SPEED_LIMIT, 1)
        easy.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        for file, folder in ((pycurl.CAINFO, pycurl.CAPATH), (pycurl.PROXY_CAINFO, pycurl.PROXY_CAPATH)):
            _trust(easy, file, folder)

    def ask(
        self,
        method: str,
        url: str,
        headers: list[bytes],
        proxy: str | None,
        content: bytes | None,
        most: int | None = None,
    ) -> None:
        """Sends GET, HEAD or POST and waits for status and headers. `url` holds no more than ASCII.

        With `most` it waits for the body too, and breaks it off when it has taken more bytes than that: for little
        answers, as handing them over piece by piece costs more than they do.

        Raises:
            OSError: the other side can't be reached, or does not speak HTTP.
            ValueError: the URL is none.
        """
        easy = self._easy
        easy.setopt(pycurl.URL, url)
        easy.setopt(pycurl.HTTPHEADER, headers)
        easy.setopt(pycurl.PROXY, proxy or "")  # never what libcurl finds in the environment
        if method == "POST":
            easy.setopt(pycurl.POST, 1)
            easy.setopt(pycurl.POSTFIELDS, content or b"")
        elif method == "HEAD":
            easy.setopt(pycurl.NOBODY, 1)
        else:
            easy.setopt(pycurl.HTTPGET, 1)
        self._lines.clear()
        self._pieces.clear()
        self.received, self._bare, self._ended, self._failure = 0, method == "HEAD", False, None
        if self._bare or most is not None:
            self._take(most or 0)
        else:
            easy.setopt(pycurl.LOW_SPEED_TIME, 0)  # whoever pulls may be slow
            easy.setopt(pycurl.WRITEFUNCTION, self._pieces.append)
            self._multi.add_handle(easy)
        while not self._headed():
            if self._ended:
                raise self._failure or ConnectionError("no answer")
            self._go_on()

    def _take(self, most: int) -> None:
        self._room = most
        self._easy.setopt(pycurl.LOW_SPEED_TIME, _SILENT_SECONDS)
        self._easy.setopt(pycurl.WRITEFUNCTION, self._put)
        try:
            self._easy.perform()
        except pycurl.error as error:
            if self._room >= 0:
                self._failure = _failure(int(error.args[0]), self._easy.getinfo(pycurl.OS_ERRNO))
        self._ended = True

    def _put(self, piece: bytes) -> int:
        self._pieces.append(piece)
        self._room -= len(piece)
        return len(piece) if self._room >= 0 else -1

    def read(self) -> bytes:
        """The next bytes of the body, as they are on the wire; none at its end.

        Raises:
            OSError: the connection broke.
        """
        while not self._pieces:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            self._go_on()
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.received += len(found)
        return found

    def hang_up(self, little: int = 0) -> None:
        """Ends the exchange. The connection is kept where the answer is at its end, or at most `little` is missing."""
        length = "0" if self._bare else self.headers.get("content-length", "")
        rest = int(length) - self.received if length.isdigit() else little + 1
        with contextlib.suppress(OSError):
            while not self._ended and rest <= little and self.read():
                pass
        self._leave()

    def _leave(self) -> None:
        if not self._ended:
            self._ended = True
            self._multi.remove_handle(self._easy)

    def _go_on(self) -> None:
        """Until something more has arrived, or nothing will."""
        lines, since = len(self._lines), time.monotonic()
        while True:
            running = self._multi.perform()[1]
            if not running:
                self._finish()
                return
            if self._pieces or len(self._lines) > lines:
                return
            if self._multi.select(_LOOK_SECONDS) <= 0:
                if time.monotonic() - since > _SILENT_SECONDS:
                    self._leave()
                    self._failure = TimeoutError("silent")
                    return
                time.sleep(0.001)  # there is no socket yet to wait for

    def _finish(self) -> None:
        for _, code, _ in self._multi.info_read()[2]:
            self._failure = _failure(code, self._easy.getinfo(pycurl.OS_ERRNO))
        self._leave()

    def _headed(self) -> bool:
        headers: dict[str, str] = {}
        for line in b"".join(self._lines).decode("latin-1").split("\n")[:-1]:
            name, colon, value = line.partition(":")
            if line.startswith("HTTP/"):
                headers.clear()
                self.status = int(line.split(None, 2)[1])
            elif not colon and not name.strip():
                if self.status >= 200:  # else it only announces the answer
                    self.headers = headers
                    return True
            else:
                name, value = name.strip().lower(), value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return False


def _trust(easy: pycurl.Curl, file: int, folder: int) -> None:
    """The authorities that Python's own TLS would trust, told to libcurl."""
    named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    paths = ssl.get_default_verify_paths()
    chosen = (named[0], None) if named[0] else (None, named[1]) if named[1] else (paths.cafile, paths.capath)
    for option, path in zip((file, folder), chosen, strict=True):
        if path is None:
            easy.unsetopt(option)
        else:
            easy.setopt(option, path)


def _failure(code: int, number: int) -> Exception:
    if code == pycurl.E_URL_MALFORMAT:
        return ValueError("no URL")
    if code in _NOT_TRUSTED:
        return ssl.SSLCertVerificationError("not trusted")
    if code in _NO_NAME:
        return socket.gaierror("no such name")
    if code == pycurl.E_COULDNT_CONNECT and number == errno.ECONNREFUSED:
        return ConnectionRefusedError("refused")
    if code == pycurl.E_OPERATION_TIMEDOUT:
        return TimeoutError("too slow")
    return ConnectionError("broken")
