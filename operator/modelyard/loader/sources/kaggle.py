"""KAGGLE: a data set, or a variation of a model, at one version.

Kaggle's own client needs the whole of an archive at once and can't be gone on with after a kill; so its wire protocol
(JSON by POST, `Service/Method`) is spoken by our transport, and every file is fetched by itself, unpacked as Kaggle
keeps it (`raw`). The list has no hashes: a file is checked against the MD5 that its storage sends along, where it does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from modelyard.loader.content import MAX_FILES, Algorithm, Body, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.transport import Transport, base_url, shown, small

_OPTIONS = ("endpoint", "exclude", "include", "revision", "unpack")
_SLUG = r"[A-Za-z0-9][\w.-]{0,127}"
_REPO = re.compile(f"{_SLUG}/{_SLUG}(?:/{_SLUG}/{_SLUG})?", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_PAGE = 200
_MAX_ANSWER_BYTES = 16 << 20
_FRAMEWORKS: Final = (
    *("TENSOR_FLOW_1", "TENSOR_FLOW_2", "TF_LITE", "TF_JS", "PY_TORCH", "JAX", "FLAX", "PAX", "MAX_TEXT"),
    *("GEMMA_CPP", "GGML", "GGUF", "CORAL", "SCIKIT_LEARN", "MXNET", "ONNX", "KERAS", "TRANSFORMERS", "API"),
    *("OTHER", "TENSOR_RT_LLM", "TRITON", "VLLM"),
)


class _KaggleBody:
    """An answer with the digest that its storage tells."""

    def __init__(self, body: Body, headers: Mapping[str, str]) -> None:
        self.offset = body.offset
        self.digests = _hash(headers)
        self.chunks = body.chunks


class Kaggle:
    """One data set `owner/name`, or one variation `owner/model/framework/variation`."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        parts = urlsplit(request.uri)
        self._repo = f"{parts.netloc}{parts.path}".rstrip("/")
        if parts.scheme.lower() != "kaggle" or parts.query or _REPO.fullmatch(self._repo) is None:
            raise bad_input(
                "The URI of a KAGGLE source must read kaggle://owner/dataset or kaggle://owner/model/framework/variation."
            )
        self._wanted = request.options.get("revision", "")
        if self._wanted and _VERSION.fullmatch(self._wanted) is None:
            raise bad_input("Option revision must be the number of a version.")
        self._endpoint = base_url(request.options.get("endpoint", ""), "https://api.kaggle.com")
        self._patterns = Patterns.of(request.options)
        self._username, key = credentials.get("username"), credentials.get("key")
        if (self._username is None) != (key is None):
            raise bad_input(f"The Secret lacks the key {'username' if self._username is None else 'key'}.")
        known = {}
        if self._username is not None:
            pair = base64.b64encode(f"{self._username}:{key}".encode()).decode()
            known = {"Authorization": f"Basic {pair}"}
        self._transport = Transport(credentials=known, trusted=self._endpoint, explain=self._explain)
        self._service, self._name = self._addressed()

    def _addressed(self) -> tuple[str, dict[str, Any]]:
        parts = self._repo.split("/")
        if len(parts) == 2:
            return "datasets.DatasetApiService", {"ownerSlug": parts[0], "datasetSlug": parts[1]}
        plain = parts[2].replace("_", "").replace("-", "").lower()
        framework = next((f for f in _FRAMEWORKS if f.replace("_", "").lower() == plain), None)
        if framework is None:
            raise bad_input(f"Kaggle has no framework of that name; it knows {', '.join(_FRAMEWORKS).lower()}.")
        return "models.ModelApiService", {
            "ownerSlug": parts[0],
            "modelSlug": parts[1],
            "framework": f"MODEL_FRAMEWORK_{framework}",
            "instanceSlug": parts[3],
        }

    def pinned(self) -> str | None:
        """The version, when the request names it: versions do not change."""
        return self._wanted or None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Finds the version and lists its files."""
        version = self._wanted or self._latest()
        origin = f"kaggle://{self._repo}"
        if version == held:
            return Snapshot(origin=origin, revision=version)
        found = list(self._listed(version))
        wanted = checked(file for file in found if self._patterns.wants(file.path))
        if not wanted:
            message = f"None of the {len(found)} files of {self._where()} matches {self._patterns.describe()}."
            raise LoadError("NoMatch", message if found else f"{self._where()} has no files.")
        return Snapshot(origin=origin, revision=version, files=wanted)

    @contextmanager
    def open(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to fetch a file of the version: the service redirects to its storage."""
        method, asked = json.loads(file.url)
        content = json.dumps(asked).encode()
        with self._transport.get(
            self._url(method), offset, length, file.size, {"Content-Type": "application/json"}, content=content
        ) as body:
            yield _KaggleBody(body, body.headers)

    def _latest(self) -> str:
        if "datasetSlug" in self._name:
            version = self._ask("GetDataset", self._name).get("currentVersionNumber")
        else:
            version = self._ask("GetModelInstance", self._name).get("versionNumber")
        if not isinstance(version, int) or version < 1:
            raise LoadError("ServerError", f"{self._where()} has no finished version yet.", retryable=True)
        return str(version)

    def _listed(self, version: str) -> Iterator[RemoteFile]:
        data_set = "datasetSlug" in self._name
        numbered = {**self._name, "datasetVersionNumber" if data_set else "versionNumber": int(version)}
        token, count = "", 0
        while True:
            asked = {**numbered, "pageSize": _PAGE, **({"pageToken": token} if token else {})}
            page = self._ask("ListDatasetFiles" if data_set else "ListModelInstanceVersionFiles", asked)
            if page.get("errorMessage"):
                raise LoadError("NotFound", f"{self._where()} has no version {version}, or does not list its files.")
            for item in page.get("datasetFiles" if data_set else "files") or []:
                count += 1
                yield self._file(item, numbered, version, data_set)
            token = page.get("nextPageToken") or ""
            if not token or count > MAX_FILES:
                return

    def _file(self, item: Any, numbered: Mapping[str, Any], version: str, data_set: bool) -> RemoteFile:
        try:
            path, size = str(item["name"]), int(item["totalBytes" if data_set else "size"])
        except (KeyError, TypeError, ValueError):
            raise self._odd() from None
        if data_set:
            method, asked = "DownloadDataset", {**numbered, "fileName": path, "raw": True}
        else:
            method, asked = "DownloadModelInstanceVersion", {**numbered, "path": path}
        return RemoteFile(path, json.dumps([method, asked]), size, f"{version}:{size}", announced=("md5",))

    def _ask(self, method: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps(asked).encode()
        with self._transport.send("POST", self._url(method), {"Content-Type": "application/json"}, content=body) as got:
            answer = small(got, _MAX_ANSWER_BYTES)
        try:
            told = json.loads(answer)
            if not isinstance(told, dict):
                raise self._odd()
        except ValueError:
            raise self._odd() from None
        code = told.get("code")
        if isinstance(code, int) and code >= 400:  # an error in an answer that says 200
            raise self._explain(code, {}) or self._odd()
        return told

    def _url(self, method: str) -> str:
        return f"{self._endpoint}/v1/{self._service}/{method}"

    def _odd(self) -> LoadError:
        return bad_input(f"{shown(self._endpoint)} does not answer as Kaggle does.")

    def _where(self) -> str:
        return f"{'Data set' if 'datasetSlug' in self._name else 'Model'} {self._repo} at {shown(self._endpoint)}"

    def _explain(self, status: int, headers: Mapping[str, str]) -> LoadError | None:
        if status == 401 and self._username is not None:
            message = f"{self._where()} can't be read: the Secret's username or key is wrong or was revoked."
            return LoadError("Unauthorized", message)
        if status in (401, 403) and self._username is None:
            message = f"{self._where()} is private, asks for consent or is not there."
            return LoadError("Unauthorized", f"{message} Name a Secret with the keys username and key.")
        if status == 403:
            message = f"{self._where()} may not be read by this user (403): its page may ask for consent to its terms,"
            return LoadError("Forbidden", f"{message} or it is private or not there.")
        if status == 404:
            version = f" in version {self._wanted}" if self._wanted else ""
            return LoadError("NotFound", f"{self._where()} is not there{version}. Check the name.")
        return None


def _hash(headers: Mapping[str, str]) -> tuple[tuple[Algorithm, str], ...]:
    """The MD5 in Google's storage header, of an object that is stored as it is."""
    if headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return ()
    for item in headers.get("x-goog-hash", "").split(","):
        name, _, value = item.strip().partition("=")
        if name == "md5":
            try:
                return (("md5", base64.b64decode(value, validate=True).hex()),)
            except (binascii.Error, ValueError):
                return ()
    return ()
