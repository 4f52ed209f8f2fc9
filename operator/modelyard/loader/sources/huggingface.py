"""HUGGING_FACE: a model or dataset repository of a hub, at one commit.

Revision, file list and access rules come from the hub's own client; the bytes are fetched by our engine from the
client's URLs, because only so can a kill at any byte be gone on with. Every file is checked against the hash that the
list gives: sha256 for those in large-file storage, the git blob's sha1 for the others.

The list of a gated repository is open to everybody, even with a bad token [the hub's own behaviour]: so it is the
first file that tells whether the token is good, and its refusal has words of its own here.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import httpx2

from modelyard.loader.content import Algorithm, Body, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.transport import Transport, base_url, refused, shown, unreachable

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]{0,199}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TYPES = {"": "model", "model": "model", "dataset": "dataset"}
_TIMEOUT = httpx2.Timeout(connect=10, read=60, write=30, pool=None)
_OPTIONS = ("endpoint", "exclude", "include", "repoType", "revision")


class HuggingFace:
    """One repository."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        self._repo = _repo(request.uri)
        self._revision = request.options.get("revision", "") or "main"
        if _REVISION.fullmatch(self._revision) is None or ".." in self._revision:
            raise bad_input("Option revision must be a branch, a tag or a commit.")
        self._type = _TYPES.get(request.options.get("repoType", "").lower(), "")
        if not self._type:
            raise bad_input("Option repoType must be MODEL or DATASET.")
        self._endpoint = base_url(request.options.get("endpoint", ""), "https://huggingface.co")
        self._patterns = Patterns.of(request.options)
        self._token = credentials.get("token")
        authorization = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        self._transport = Transport(credentials=authorization, trusted=self._endpoint, explain=self._explain)
        self._api: HfApi | None = None

    def pinned(self) -> str | None:
        """The commit, when the request names one in full."""
        return self._revision if _COMMIT.fullmatch(self._revision) else None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Resolves the revision to its commit and lists that commit's files."""
        from huggingface_hub import RepoFile, hf_hub_url
        from huggingface_hub.errors import HfHubHTTPError

        api = self._client()
        try:
            info = api.repo_info(self._repo, revision=self._revision, repo_type=self._type)
            commit = info.sha or ""
            if _COMMIT.fullmatch(commit) is None:
                raise LoadError(
                    "ServerError", f"{shown(self._endpoint)} does not say which commit {self._revision} is."
                )
            tree = api.list_repo_tree(self._repo, recursive=True, revision=commit, repo_type=self._type)
            files = [item for item in tree if isinstance(item, RepoFile)]
        except HfHubHTTPError as error:
            status, headers = error.response.status_code, error.response.headers
            raise self._explain(status, headers) or refused(status, headers, self._where()) from None
        except httpx2.TransportError as error:
            raise unreachable(error, self._endpoint) from None
        except (ValueError, KeyError, TypeError):
            raise bad_input(f"{shown(self._endpoint)} does not answer as a Hugging Face hub does.") from None
        first = hf_hub_url(self._repo, "x", repo_type=self._type, revision=commit, endpoint=self._endpoint)
        wanted = checked(_file(item, first[:-1]) for item in files if self._patterns.wants(item.path))
        if not wanted:
            message = f"None of the {len(files)} files of {self._where()} matches {self._patterns.describe()}."
            raise LoadError("NoMatch", message if files else f"{self._where()} has no files.")
        return Snapshot(origin=f"huggingface://{self._repo}", revision=commit, files=wanted)

    def open(self, file: RemoteFile, offset: int, length: int | None) -> AbstractContextManager[Body]:
        """Starts to fetch a file of the commit."""
        return self._transport.get(file.url, offset, length, file.size)

    def _client(self) -> HfApi:
        if self._api is None:
            os.environ.update(
                HF_HOME=os.path.join(tempfile.gettempdir(), "huggingface"),  # never in the volume
                HF_HUB_DISABLE_TELEMETRY="1",
                HF_HUB_DISABLE_IMPLICIT_TOKEN="1",
                HF_HUB_DISABLE_PROGRESS_BARS="1",
                HF_HUB_DISABLE_XET="1",
                HF_HUB_OFFLINE="0",
            )
            import huggingface_hub

            logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)  # it quotes what servers and errors say
            huggingface_hub.set_client_factory(lambda: httpx2.Client(follow_redirects=True, timeout=_TIMEOUT))
            self._api = huggingface_hub.HfApi(endpoint=self._endpoint, token=self._token or False)
        return self._api

    def _where(self) -> str:
        return f"{self._type} repository {self._repo} at {shown(self._endpoint)}"

    def _explain(self, status: int, headers: Mapping[str, str]) -> LoadError | None:
        code = headers.get("x-error-code", "")
        if status in (401, 403) and code == "GatedRepo":
            message = f"{self._where()} is gated: its terms must be accepted on its page by the account of the token."
            return LoadError("Forbidden" if self._token else "Unauthorized", message)
        if status == 401 and self._token:
            message = f"{self._where()} can't be read with this token: it is wrong or expired, or the repository"
            return LoadError("Unauthorized", f"{message} is not there. Check the Secret's key token and the name.")
        if status == 401:
            message = f"{self._where()} is private, gated or not there: without a token the hub does not tell which."
            return LoadError("Unauthorized", f"{message} Name a Secret with the key token, or check the name.")
        if status == 403:
            return LoadError("Forbidden", f"{self._where()} may not be read with this token (403).")
        if status == 404 and code == "RevisionNotFound":
            return LoadError("NotFound", f"{self._where()} has no revision {self._revision}.")
        if status == 404 and code == "EntryNotFound":
            return LoadError("NotFound", f"A file of {self._where()} is not there any more.")
        if status == 404:
            message = f"{self._where()} is not there, or this token may not see it. Check repo, repoType and endpoint."
            return LoadError("NotFound", message)
        return None


def _file(item: RepoFile, below: str) -> RemoteFile:
    digest: tuple[Algorithm, str] = ("sha256", item.lfs.sha256) if item.lfs else ("git-sha1", item.blob_id)
    return RemoteFile(item.path, below + quote(item.path), item.size, f"{digest[0]}:{digest[1]}", (digest,))


def _repo(uri: str) -> str:
    parts = urlsplit(uri)
    repo = f"{parts.netloc}{parts.path}".rstrip("/")
    if parts.scheme.lower() != "huggingface" or parts.query or parts.fragment:
        raise bad_input("The URI of a HUGGING_FACE source must read huggingface://org/repo.")
    if "@" in repo:
        raise bad_input("The URI can't hold @revision: pin it by the option revision.")
    if _REPO.fullmatch(repo) is None or ".." in repo or "--" in repo:
        raise bad_input(
            "The URI of a HUGGING_FACE source must read huggingface://org/repo, in the hub's own characters."
        )
    return repo
