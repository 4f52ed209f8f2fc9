"""HTTP as every source needs it: redirects that never carry a credential to another host, failures in our words.

Bytes are taken as they are on the wire (no content coding is asked for), so offsets and lengths mean the file's own.
"""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from modelyard.loader.content import LITTLE, Algorithm
from modelyard.loader.failure import LoadError
from modelyard.loader.line import Line

_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_START = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s\\]*(?=[/?#]|$)")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_PLAIN = re.compile(r"[!-?A-~]+")
"""A URL that needs no quoting, and has no userinfo."""
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Explain = Callable[[int, Mapping[str, str]], LoadError | None]
"""A source's own words for a status and its headers; None for the common ones."""


def host(url: str) -> str:
    """Host and port of a URL, without userinfo: fit to be shown."""
    return urlsplit(url).netloc.rpartition("@")[2]


def shown(url: str) -> str:
    """A URL without userinfo, query and fragment: a signed URL's query is a credential."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{host(url)}{parts.path}"


def base_url(text: str, default: str) -> str:
    """Option `endpoint`: an http or https URL that paths are put behind.

    Raises:
        LoadError: BadInput for anything else, and for credentials in it.
    """
    endpoint = (text or default).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise LoadError("BadInput", "Option endpoint must be an http or https URL without a query.")
    if "@" in parts.netloc:
        raise LoadError("BadInput", "Option endpoint must not hold credentials: they belong into the Secret.")
    return endpoint


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a credential is good for."""
    start = _START.match(url)
    return _origin(start[0] if start else url)


@functools.lru_cache(maxsize=64)
def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def refused(status: int, headers: Mapping[str, str], where: str) -> LoadError:
    """The common words for an HTTP status that is no success."""
    if status == 401:
        return LoadError("Unauthorized", f"{where} does not accept the credentials (401). Check the Secret's values.")
    if status == 403:
        return LoadError("Forbidden", f"{where} refuses access (403). These credentials lack the right to read it.")
    if status in (404, 410):
        return LoadError("NotFound", f"{where} is not there ({status}). Check the address.")
    if status == 429:
        message = f"{where} asks for fewer requests (429)."
        return LoadError("RateLimited", message, retryable=True, retry_after=retry_after(headers))
    if status == 416:
        message = f"{where} has fewer bytes than it announced (416): it is being changed."
        return LoadError("ServerError", message, retryable=True, here=False)
    if status >= 500 or status == 408:
        message = f"{where} has an error of its own ({status})."
        return LoadError("ServerError", message, retryable=True, retry_after=retry_after(headers))
    return LoadError("BadInput", f"{where} does not understand the request ({status}). Check the address and options.")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for; None without a readable one."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    return None


def unreachable(error: BaseException, url: str) -> LoadError:
    """Words for a connection that did not come about or broke, whichever client met it."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(causes) < 10:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        told = "its certificate is not signed by an authority that this container trusts"
    elif any(isinstance(cause, socket.gaierror) for cause in causes):
        told = "its name does not resolve"
    elif any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        told = "it refuses connections"
    elif any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        told = "it does not answer in time"
    else:
        told = "the connection broke"
    return LoadError("Unreachable", f"{host(url)} can't be reached: {told}.", retryable=True)


class Response:
    """An answer with its body unread. `url` is the one that gave it, after redirects."""

    def __init__(self, line: Line, url: str) -> None:
        self.status_code = line.status
        self.headers = line.headers
        self.url = url
        self._line = line

    def chunks(self) -> Iterator[bytes]:
        """Bytes as they arrive, as they are on the wire.

        Raises:
            LoadError: Unreachable when the connection breaks.
        """
        try:
            while chunk := self._line.read():
                yield chunk
        except OSError as error:
            raise unreachable(error, self.url) from None


class HttpBody:
    """The bytes of a 200 or 206."""

    digests: tuple[tuple[Algorithm, str], ...] = ()

    def __init__(self, response: Response, offset: int, total: int | None) -> None:
        self.offset = offset
        self.total = total
        """Of the whole file, in bytes; None when the server doesn't say."""
        self.headers = response.headers
        self.url = response.url
        self._response = response

    def chunks(self) -> Iterator[bytes]:
        """Bytes as they arrive.

        Raises:
            LoadError: Unreachable when the connection breaks.
        """
        return self._response.chunks()


def small(response: Response, most: int) -> bytes:
    """A whole answer that must not be larger than `most` bytes.

    Raises:
        LoadError: BadInput when it is; Unreachable when the connection breaks.
    """
    found = bytearray()
    for chunk in response.chunks():
        found += chunk
        if len(found) > most:
            raise LoadError("BadInput", f"{shown(response.url)} answers with more than {most} bytes.")
    return bytes(found)


class Transport:
    """Connections that are kept, shared by the worker threads."""

    def __init__(self, *, credentials: Mapping[str, str], trusted: str, explain: Explain | None = None) -> None:
        """`credentials` are headers that only the origin of the URL `trusted` ever gets."""
        self._credentials = dict(credentials)
        self._trusted = origin(trusted)
        self._explain = explain
        self._proxies = getproxies()
        self._by: dict[tuple[str, str], str | None] = {}
        self._idle: deque[Line] = deque()

    @contextlib.contextmanager
    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        secret: Mapping[str, str] | None = None,
        content: bytes | None = None,
        little: bool = False,
    ) -> Iterator[Response]:
        """An answer with its body unread, after redirects. `secret` are headers that only this URL's origin ever gets.

        What is not `little` is read as it arrives; of what should be, no more is taken than shows that it is not.

        Raises:
            LoadError: for what is not 200 or 206, and when the server can't be reached.
        """
        first = origin(url)
        for _ in range(_MAX_REDIRECTS):
            here = origin(url)
            credentials = self._credentials if here == self._trusted else {}
            if secret and here == first:
                credentials = {**credentials, **secret}
            line = self._ask(method, url, self._proxy(here), {**(headers or {}), **credentials}, content, little)
            try:
                if line.status in _REDIRECTS and "location" in line.headers:
                    url = self._follow(url, line.headers["location"])
                    if method == "POST" and line.status in (301, 302, 303):
                        method, content = "GET", None
                        headers = {name: value for name, value in (headers or {}).items() if name != "Content-Type"}
                    continue
                if line.status not in (200, 206):
                    own = self._explain(line.status, line.headers) if self._explain else None
                    raise own or refused(line.status, line.headers, shown(url))
                yield Response(line, url)
                return
            finally:
                line.hang_up(LITTLE)
                self._idle.append(line)
        raise LoadError("BadInput", f"{host(url)} redirects more than {_MAX_REDIRECTS} times.")

    def _ask(
        self, method: str, url: str, proxy: str | None, headers: Mapping[str, str], content: bytes | None, little: bool
    ) -> Line:
        sent = {"Accept-Encoding": "identity", "User-Agent": "modelyard-load", **headers}
        try:
            lines = [_header(name, value) for name, value in sent.items()]
            line = self._line()
            line.ask(method, _sendable(url), lines, proxy, content, LITTLE if little else None)
        except OSError as error:
            raise unreachable(error, url) from None
        except ValueError:
            raise LoadError("BadInput", "The address, or a credential, holds what HTTP can't carry.") from None
        return line

    def _line(self) -> Line:
        try:
            return self._idle.pop()
        except IndexError:
            return Line()

    def _proxy(self, of: tuple[str, str, int]) -> str | None:
        """The proxy that the environment names for an origin."""
        scheme, host, _ = of
        if (scheme, host) not in self._by:
            found = self._proxies.get(scheme) or self._proxies.get("all")
            self._by[scheme, host] = None if not found or proxy_bypass(host) else found
        return self._by[scheme, host]

    @staticmethod
    def _follow(url: str, location: str) -> str:
        target = urljoin(url, location)
        scheme = urlsplit(target).scheme
        if scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
            raise LoadError("BadInput", f"{host(url)} redirects to an address that is not encrypted or not HTTP.")
        return target

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        offset: int,
        length: int | None,
        size: int | None,
        headers: Mapping[str, str] | None = None,
        secret: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Iterator[HttpBody]:
        """A file's bytes from `offset`, at most `length` of them. `size` is the whole file's, where it is known.

        With `content` it is asked for by POST.

        The body's own offset is 0 when the server sends the whole file instead.

        Raises:
            LoadError: as `send`; retryable when the file's length is not the expected one.
        """
        asked = dict(headers or {})
        if offset or length is not None:
            asked["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        method = "GET" if content is None else "POST"
        little = any(most is not None and most <= LITTLE for most in (length, size))
        with self.send(method, url, asked, secret=secret, content=content, little=little) as response:
            total: int | None = None
            start = 0
            if response.status_code == 206:
                match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
                if match is None or int(match[1]) != offset:
                    raise LoadError("ServerError", f"{host(url)} answers with a range that was not asked for.")
                start, total = offset, None if match[3] == "*" else int(match[3])
            elif "content-encoding" not in response.headers and "content-length" in response.headers:
                total = int(response.headers["content-length"])
            if size is not None and total is not None and total != size:
                message = f"{host(url)} offers {total} bytes where it announced {size}: the file is being changed."
                raise LoadError("ServerError", message, retryable=True, here=False)
            yield HttpBody(response, start, total)


def _header(name: str, value: str) -> bytes:
    if _CONTROL.search(value):
        raise ValueError("a header within a header")
    return (f"{name}: {value}" if value else f"{name};").encode("latin-1")


def _sendable(url: str) -> str:
    """A URL in ASCII, without userinfo: credentials travel as headers alone."""
    if _PLAIN.fullmatch(url):
        return url
    parts = urlsplit(url)
    return quote(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), safe=_SAFE)
