"""ModelScope's HTTP protocol over the same repositories: what there is, revisions, file lists, files.

A private repository is a 404 without the token, as the real service answers; a wrong token is a 401. The token comes
as a bearer or as the cookie `m_session_id`; both count. Large files are redirected to the content network where there
is one.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from hub.store import Blob, Commit, Kind, Repository, Store

LIST_LIMIT = 3000
"""The real service tells no more entries of one folder's tree than this, and does not say so."""
_REPO = r"[^/{}]+/[^/{}]+"
SendBytes = Callable[[web.Request, str, int, str, dict[str, str]], Awaitable[web.StreamResponse]]


class ModelScope:
    """The routes. `send` sends a content as the hub's faults want it."""

    def __init__(self, store: Store, *, token: str, cdn: str | None, send: SendBytes) -> None:
        self._store = store
        self._token = token
        self._cdn = cdn
        self._send = send

    def routes(self) -> list[web.RouteDef]:
        found = []
        for kind, listing in (("models", "files"), ("datasets", "tree")):
            repo = f"/api/v1/{kind}/{{repo:{_REPO}}}"
            found += [
                web.get(f"{repo}/repo/{listing}", self._files),
                web.get(f"{repo}/revisions", self._revisions),
                web.get(f"{repo}/repo", self._file),
                web.get(repo, self._info),
            ]
        return found

    def _repository(self, request: web.Request) -> Repository:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        given = bearer or request.cookies.get("m_session_id", "")
        known = bool(given and self._token and hmac.compare_digest(given.encode(), self._token.encode()))
        if given and not known:
            raise _refusal(401, 10010205001, "Invalid access token")
        kind: Kind = "datasets" if request.path.startswith("/api/v1/datasets/") else "models"
        repo = self._store.get(kind, request.match_info["repo"])
        if repo is None or (repo.private and not known):
            raise _refusal(404, 10010205003, "Repository not found")
        return repo

    def _commit(self, request: web.Request, repo: Repository) -> Commit:
        revision = request.query.get("Revision", "master")
        commit = repo.resolve("main" if revision == "master" else revision)
        if commit is None:
            raise _refusal(404, 10010206003, "Revision not found")
        return commit

    async def _info(self, request: web.Request) -> web.Response:
        repo = self._repository(request)
        owner, _, name = repo.name.partition("/")
        return _answer({"Id": 1, "Path": owner, "Name": name, "Visibility": 1 if repo.private else 5})

    async def _revisions(self, request: web.Request) -> web.Response:
        repo = self._repository(request)
        branches = [{"Revision": "master" if name == "main" else name} for name in sorted(repo.branches)]
        tags = [{"Revision": name} for name in sorted(repo.tags)]
        return _answer({"RevisionMap": {"Branches": branches, "Tags": tags}})

    async def _files(self, request: web.Request) -> web.Response:
        repo = self._repository(request)
        commit = self._commit(request, repo)
        root = request.query.get("Root", "").strip("/")
        recursive = request.query.get("Recursive", "").lower() in ("true", "1")
        entries = _entries(commit, root, recursive)
        if "PageNumber" in request.query:
            page, size = int(request.query["PageNumber"]), int(request.query.get("PageSize", "100"))
            entries = entries[(page - 1) * size : page * size]
        return _answer({"Files": entries[:LIST_LIMIT], "LatestCommitter": {"Id": commit.id}})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        repo = self._repository(request)
        blob = self._commit(request, repo).files.get(request.query.get("FilePath", ""))
        if blob is None:
            raise _refusal(404, 10010206002, "File not found")
        if blob.lfs and self._cdn is not None:
            raise web.HTTPFound(f"{self._cdn}/cdn/{blob.sha256}?signature=local")
        headers = {"ETag": f'"{blob.sha256}"', "Accept-Ranges": "bytes", "X-Linked-Etag": blob.sha256}
        return await self._send(request, blob.sha256, blob.size, blob.sha256, headers)


def _entries(commit: Commit, root: str, recursive: bool) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    prefix = f"{root}/" if root else ""
    for path, blob in sorted(commit.files.items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if depth == 1 or recursive:
                found.setdefault(folder, {"Type": "tree", "Path": folder, "Name": parts[depth - 1], "Size": 0})
        if len(parts) == 1 or recursive:
            found[path] = _entry(path, blob, commit)
    return list(found.values())


def _entry(path: str, blob: Blob, commit: Commit) -> dict[str, Any]:
    return {
        "Type": "blob",
        "Path": path,
        "Name": path.rpartition("/")[2],
        "Size": blob.size,
        "Sha256": blob.sha256,
        "IsLFS": blob.lfs,
        "Mode": "33188",
        "Revision": commit.id,
        "CommittedDate": 1767225600,
    }


def _answer(data: Any) -> web.Response:
    return web.json_response({"Code": 200, "Data": data, "Message": "success", "RequestId": "1", "Success": True})


def _refusal(status: int, code: int, message: str) -> web.HTTPException:
    body = {"Code": code, "Data": None, "Message": message, "RequestId": "1", "Success": False}
    made: web.HTTPException = {401: web.HTTPUnauthorized, 404: web.HTTPNotFound}[status]()
    made.content_type = "application/json"
    made.text = json.dumps(body)
    return made
