"""S3: one object, or everything below a folder of a bucket, from AWS or any service that speaks its protocol.

The protocol is the client library's; staging, resuming and trying again are our engine's. An object's identity is its
entity tag. Its bytes are checked against that tag where it is the MD5 of the content (not for several parts, not under
a key of its own), and against the SHA-256 and CRC-32 that the service keeps of the whole object.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass
from xml.etree.ElementTree import ParseError

import httpx2

from modelyard.loader.content import MAX_FILES, Algorithm, Body, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.transport import refused, retry_after, unreachable

if TYPE_CHECKING:
    from minio import Minio
    from minio.datatypes import Object
    from urllib3 import BaseHTTPResponse

_OPTIONS = ("endpoint", "exclude", "include", "provider", "region", "syncMode", "unpack")
_PROVIDERS = ("AWS", "MINIO")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_WORKERS = 16
_CHUNK_BYTES = 1 << 17
_NOT_THE_KEY = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_NOT_THE_REGION = frozenset(
    {"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "PermanentRedirect", "TemporaryRedirect"}
)


class _S3Body:
    """The bytes of a 200 or 206."""

    digests: tuple[tuple[Algorithm, str], ...] = ()

    def __init__(self, response: BaseHTTPResponse, offset: int, endpoint: str) -> None:
        self.offset = offset
        self._response = response
        self._endpoint = endpoint

    def chunks(self) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from self._response.stream(_CHUNK_BYTES, decode_content=False)
        except HTTPError as error:
            raise unreachable(error, self._endpoint) from None


class S3:
    """One object or folder."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        self._bucket, self._folder = _address(request.uri)
        if request.options.get("syncMode", "sync") != "sync":
            raise bad_input("Option syncMode must be sync: what is fetched is always exactly what the source has.")
        if request.options.get("provider", "AWS") not in _PROVIDERS:
            raise bad_input(f"Option provider must be {' or '.join(_PROVIDERS)}.")
        self._region = request.options.get("region", "") or "us-east-1"
        if _REGION.fullmatch(self._region) is None:
            raise bad_input("Option region must be one word of letters, digits, '.', '_' and '-'.")
        if request.options.get("provider") == "MINIO" and not request.options.get("endpoint"):
            raise bad_input("Option endpoint is missing: provider MINIO needs the URL of the service.")
        self._endpoint = _endpoint(request.options.get("endpoint", ""))
        self._patterns = Patterns.of(request.options)
        self._keys = credentials.get("access-key"), credentials.get("secret-key")
        if (self._keys[0] is None) != (self._keys[1] is None):
            missing = "access-key" if self._keys[0] is None else "secret-key"
            raise bad_input(f"The Secret lacks the key {missing}: S3 needs both access-key and secret-key.")
        self._client: Minio | None = None

    def pinned(self) -> str | None:
        """None: a bucket's content may change at any time."""
        return None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Lists the folder and asks for each wanted object's checksums."""
        below = f"{self._folder}/" if self._folder else ""
        found = [item for item in self._list(below) if not (item.object_name or "/").endswith("/")]
        if not found and self._folder:
            below = self._folder.rpartition("/")[0] + "/" if "/" in self._folder else ""
            found = [item for item in self._list(self._folder, 1) if item.object_name == self._folder]
        if not found:
            raise LoadError("NotFound", f"{self._where()} has nothing there. Check bucket and folder.")
        listed = (self._file(item, below) for item in found)
        wanted = checked(file for file in listed if self._patterns.wants(file.path))
        if not wanted:
            message = f"None of the {len(found)} objects of {self._where()} matches {self._patterns.describe()}."
            raise LoadError("NoMatch", message)
        with ThreadPoolExecutor(_WORKERS) as pool:
            files = list(pool.map(self._probe, wanted))
        told = hashlib.sha256("".join(f"{file.path}\0{file.identity}\n" for file in files).encode())
        origin = f"s3://{self._bucket}/{self._folder}".rstrip("/")
        return Snapshot(origin=origin, revision=f"sha256:{told.hexdigest()}", files=files)

    @contextmanager
    def open(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to fetch an object, and makes sure that it is still the one that was listed."""
        asked: dict[str, Any] = {"If-Match": f'"{file.identity}"'} if file.identity else {}
        with self._translated():
            response = self._made().get_object(
                self._bucket, file.url, offset=offset, length=length or 0, request_headers=asked
            )
        with closing(response):
            if response.headers.get("etag", "").strip('"') not in (file.identity, ""):
                raise self._changed(file.path)
            yield _S3Body(response, offset if response.status == 206 else 0, self._endpoint)

    def _list(self, prefix: str, most: int = MAX_FILES + 1) -> list[Object]:
        with self._translated():
            objects = self._made().list_objects(self._bucket, prefix=prefix, recursive=True)
            return list(itertools.islice(objects, most))

    def _file(self, item: Object, below: str) -> RemoteFile:
        key = item.object_name or ""
        return RemoteFile(key[len(below) :], key, item.size, (item.etag or "").strip('"') or None)

    def _probe(self, file: RemoteFile) -> RemoteFile:
        with self._translated():
            asked: dict[str, Any] = {"x-amz-checksum-mode": "ENABLED"}
            told = self._made().stat_object(self._bucket, file.url, extra_headers=asked)
        headers = {name.lower(): value for name, value in dict(told.metadata or {}).items()}
        identity = (told.etag or "").strip('"') or None
        return RemoteFile(file.path, file.url, told.size, identity, digests(identity, headers))

    def _made(self) -> Minio:
        if self._client is None:
            from minio import Minio
            from urllib3 import PoolManager, ProxyManager, Timeout

            logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it quotes what servers and errors say
            parts = urlsplit(self._endpoint)
            proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
            settings: dict[str, Any] = {
                "retries": False,
                "timeout": Timeout(connect=10, read=60),
                "maxsize": _WORKERS,
                "ssl_context": httpx2.create_ssl_context(),
            }
            self._client = Minio(
                parts.netloc,
                access_key=self._keys[0],
                secret_key=self._keys[1],
                secure=parts.scheme == "https",
                region=self._region,
                http_client=ProxyManager(proxy, **settings) if proxy else PoolManager(**settings),
            )
        return self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        from minio.error import InvalidResponseError, S3Error, ServerError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except S3Error as error:
            raise self._refused(error.code or "", error.response.status, error.response.headers) from None
        except ServerError as error:
            raise self._refused("", error.status_code, {}) from None
        except HTTPError as error:
            raise unreachable(error, self._endpoint) from None
        except (InvalidResponseError, ParseError, ValueError, KeyError) as error:
            status = error._code if isinstance(error, InvalidResponseError) else 200  # has no public name for it
            if status in (401, 403, 408, 429) or status >= 500:  # of something before the service
                raise self._refused("", status, {}) from None
            raise bad_input(f"{urlsplit(self._endpoint).netloc} does not answer as an S3 service does.") from None

    def _refused(self, code: str, status: int, headers: Mapping[str, str]) -> LoadError:
        where = self._where()
        if code in _NOT_THE_KEY:
            message = f"{where} does not accept the credentials. Check the Secret's access-key and secret-key."
            return LoadError("Unauthorized", message)
        if code == "RequestTimeTooSkewed":
            return LoadError("Unauthorized", f"{where} refuses the signature's time: this node's clock is wrong.")
        if code in _NOT_THE_REGION or status == 301:
            return bad_input(f"{where} is in another region than {self._region}. Set region to the bucket's.")
        if code == "NoSuchBucket":
            return LoadError("NotFound", f"There is no bucket {self._bucket} at {urlsplit(self._endpoint).netloc}.")
        if code in ("SlowDown", "RequestLimitExceeded", "Throttling"):
            message = f"{where} asks for fewer requests ({status})."
            return LoadError("RateLimited", message, retryable=True, retry_after=retry_after(headers))
        if code in ("AccessDenied", "AllAccessDisabled"):
            status = 403
        return self._explain(status, headers) or refused(status, headers, where)

    def _explain(self, status: int, headers: Mapping[str, str]) -> LoadError | None:
        if status == 403 and self._keys[0] is None:
            message = f"{self._where()} is not public. Name a Secret with the keys access-key and secret-key."
            return LoadError("Unauthorized", message)
        if status == 403:
            return LoadError("Forbidden", f"{self._where()} may not be listed or read with these keys (403).")
        if status == 404:
            return LoadError("NotFound", f"An object of {self._where()} is not there any more.")
        if status == 412:
            return self._changed(self._where())
        return None

    @staticmethod
    def _changed(what: str) -> LoadError:
        message = f"{what} changed while it was being fetched."
        return LoadError("ServerError", message, retryable=True, here=False)

    def _where(self) -> str:
        return f"{self._bucket}/{self._folder}".rstrip("/") + f" at {urlsplit(self._endpoint).netloc}"


def digests(etag: str | None, headers: Mapping[str, str]) -> tuple[tuple[Algorithm, str], ...]:
    """What an object's bytes must hash to, from its entity tag and its headers (names in lower case)."""
    told: list[tuple[Algorithm, str]] = []
    encryption = headers.get("x-amz-server-side-encryption", "")
    keyed = encryption.startswith("aws:") or any("encryption-customer" in name for name in headers)
    if etag and _MD5.fullmatch(etag) and not keyed:
        told.append(("md5", etag))
    if headers.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        for algorithm, length in (("sha256", 32), ("crc32", 4)):
            try:
                value = base64.b64decode(headers.get(f"x-amz-checksum-{algorithm}", ""), validate=True)
            except (binascii.Error, ValueError):  # `…-3`: a hash of three parts' hashes
                continue
            if len(value) == length:
                told.append(("sha256" if length == 32 else "crc32", value.hex()))
    return tuple(told)


def _address(uri: str) -> tuple[str, str]:
    parts = urlsplit(uri)
    bucket, folder = parts.netloc, parts.path.strip("/")
    if parts.scheme.lower() != "s3" or parts.query or parts.fragment or _BUCKET.fullmatch(bucket) is None:
        raise bad_input("The URI of an S3 source must read s3://bucket/folder, without credentials.")
    if ".." in bucket or any(part in ("", ".", "..") for part in folder.split("/")[: None if folder else 0]):
        raise bad_input("The URI of an S3 source must hold no empty part and no . or .. between its slashes.")
    return bucket, folder


def _endpoint(text: str) -> str:
    endpoint = (text or "https://s3.amazonaws.com").rstrip("/")
    parts = urlsplit(endpoint)
    try:
        plain = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        plain = False
    if not plain or parts.path or parts.query or parts.fragment:
        raise bad_input("Option endpoint must be an http or https URL of a host and port, without a path.")
    if "@" in parts.netloc:
        raise bad_input("Option endpoint must not hold credentials: they belong into the Secret.")
    return endpoint
