"""MODEL_SCOPE: a model or data set repository of ModelScope, at one revision.

The file list comes from ModelScope's own client [its `modelscope_hub` package: importing `modelscope` itself takes
more memory than a loader may have]; the bytes are fetched by our engine from the client's addresses. Every file is
checked against the sha256 of the list. The service does not tell which commit a branch is at, so the revision of a
branch is a hash over that list.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from modelyard.loader.content import Algorithm, Body, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.transport import Transport, base_url, refused, shown, unreachable

if TYPE_CHECKING:
    from modelscope_hub import HubApi

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9_][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPES = {"": "model", "model": "model", "dataset": "dataset"}
_OPTIONS = ("endpoint", "exclude", "include", "repoType", "revision")


class ModelScope:
    """One repository."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        parts = urlsplit(request.uri)
        self._repo = f"{parts.netloc}{parts.path}".rstrip("/")
        if parts.scheme.lower() != "modelscope" or parts.query or _REPO.fullmatch(self._repo) is None:
            raise bad_input("The URI of a MODEL_SCOPE source must read modelscope://namespace/name.")
        self._revision = request.options.get("revision", "") or "master"
        if _REVISION.fullmatch(self._revision) is None or ".." in self._revision:
            raise bad_input("Option revision must be a branch, a tag or a commit.")
        self._type = _TYPES.get(request.options.get("repoType", "").lower(), "")
        if not self._type:
            raise bad_input("Option repoType must be MODEL or DATASET.")
        self._endpoint = base_url(request.options.get("endpoint", ""), "https://modelscope.cn")
        self._patterns = Patterns.of(request.options)
        self._token = credentials.get("token")
        known = {"Authorization": f"Bearer {self._token}", "Cookie": f"m_session_id={self._token}"}
        self._transport = Transport(
            credentials=known if self._token else {}, trusted=self._endpoint, explain=self._explain
        )
        self._api: HubApi | None = None

    def pinned(self) -> str | None:
        """The commit, when the request names one in full."""
        return self._revision if _COMMIT.fullmatch(self._revision) else None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Lists the files of the revision."""
        from modelscope_hub.errors import APIError, HubError

        try:
            listed = self._client().list_repo_files(self._repo, self._type, revision=self._revision)
        except APIError as error:
            status = int(getattr(error, "status_code", 0) or 500)
            raise self._explain(status, {}) or refused(status, {}, self._where()) from None
        except (HubError, OSError) as error:
            raise unreachable(error, self._endpoint) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise bad_input(f"{shown(self._endpoint)} does not answer as ModelScope does.") from None
        found = [self._file(item) for item in listed if item.path and item.type != "tree"]
        wanted = checked(file for file in found if self._patterns.wants(file.path))
        if not wanted:
            message = f"None of the {len(found)} files of {self._where()} matches {self._patterns.describe()}."
            raise LoadError("NoMatch", message if found else f"{self._where()} has no files.")
        told = hashlib.sha256("".join(f"{file.path}\0{file.identity}\0{file.size}\n" for file in wanted).encode())
        revision = self.pinned() or f"sha256:{told.hexdigest()}"
        return Snapshot(origin=f"modelscope://{self._repo}", revision=revision, files=wanted)

    @contextmanager
    def open(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to fetch a file of the revision."""
        with self._transport.get(file.url, offset, length, file.size) as body:
            yield body

    def _client(self) -> HubApi:
        if self._api is None:
            folder = os.path.join(tempfile.gettempdir(), "modelscope")  # never in the volume
            os.environ.update(MODELSCOPE_CACHE=folder, MODELSCOPE_CREDENTIALS_PATH=os.path.join(folder, "credentials"))
            import modelscope_hub

            for name in ("modelscope_hub", "modelscope", "urllib3"):
                logging.getLogger(name).setLevel(logging.CRITICAL)  # they quote what servers and errors say
            self._api = modelscope_hub.HubApi(endpoint=self._endpoint, token=self._token or "")
        return self._api

    def _file(self, item: object) -> RemoteFile:
        path, size = str(getattr(item, "path", "")), getattr(item, "size", None)
        sha256 = str(getattr(item, "sha256", "") or "")
        url = (
            f"{self._endpoint}/api/v1/{self._type}s/{self._repo}/repo"
            f"?Revision={quote(self._revision, safe='')}&FilePath={quote(path, safe='')}"
        )
        if _SHA256.fullmatch(sha256) is None:
            return RemoteFile(path, url, size or None, self.pinned())
        digests: tuple[tuple[Algorithm, str], ...] = (("sha256", sha256),)
        return RemoteFile(path, url, size, f"sha256:{sha256}", digests)

    def _where(self) -> str:
        return f"{self._type} repository {self._repo} at {shown(self._endpoint)}"

    def _explain(self, status: int, headers: Mapping[str, str]) -> LoadError | None:
        if status == 401 and self._token:
            message = f"{self._where()} can't be read with this token: it is wrong or expired."
            return LoadError("Unauthorized", message)
        if status in (401, 403) and not self._token:
            message = f"{self._where()} is private. Name a Secret with the key token."
            return LoadError("Unauthorized", message)
        if status == 403:
            return LoadError("Forbidden", f"{self._where()} may not be read with this token (403).")
        if status == 404:
            message = f"{self._where()} or its revision {self._revision} is not there, or is private: check repo,"
            return LoadError("NotFound", f"{message} repoType and revision, or name a Secret with the key token.")
        return None
