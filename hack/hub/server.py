"""The Hub's HTTP protocol: info, tree, refs, resolve, whoami, with its status codes and error headers.

ModelScope's and Kaggle's protocols, from modules of their own, are served beside it.

A private repository needs the token (401 `RepoNotFound` without, as the real hub answers so as not to tell that it is
there); a gated one lists its files for everybody and refuses their content (403 `GatedRepo`). A wrong token is a 401
everywhere.
"""

from __future__ import annotations

import hmac
from typing import Any

from aiohttp import web

from hub import ranges, signed
from hub.faults import Faults, Rule, send
from hub.kaggle import Kaggle
from hub.modelscope import ModelScope
from hub.store import Blob, Commit, Kind, Repository, Store

PAGE_ENTRIES = 1000
_REPO = r"(?:[^/{}]+/)?[^/{}]+"


class RefusalError(Exception):
    """An answer with the hub's error headers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Hub:
    """One server over one store. `cdn` is where large files are redirected to, None to send them itself.

    `kaggle` is the whole Authorization value that Kaggle's part expects of whom it knows.
    """

    def __init__(
        self,
        store: Store,
        *,
        token: str,
        cdn: str | None,
        control: bool,
        page: int = PAGE_ENTRIES,
        kaggle: str = "",
    ) -> None:
        self._store = store
        self._token = token
        self._cdn = cdn
        self._page = page
        self._faults = Faults()
        self.app = web.Application(middlewares=[self._guard], client_max_size=1 << 20)
        self.app.add_routes([web.get("/healthz", self._health), web.get("/api/whoami-v2", self._whoami)])
        if control:
            self.app.add_routes(self._faults.routes())
        for kind, prefix in (("models", ""), ("datasets", "/datasets")):
            repo = f"/api/{kind}/{{repo:{_REPO}}}"
            self.app.add_routes(
                [
                    web.get(f"{repo}/revision/{{revision}}", self._info, name=f"{kind}-revision"),
                    web.get(f"{repo}/tree/{{revision}}", self._tree, name=f"{kind}-tree"),
                    web.get(f"{repo}/tree/{{revision}}/{{path:.*}}", self._tree, name=f"{kind}-tree-path"),
                    web.get(f"{repo}/refs", self._refs, name=f"{kind}-refs"),
                    web.get(f"{repo}/auth-check", self._auth_check, name=f"{kind}-auth-check"),
                    web.get(repo, self._info, name=f"{kind}-info"),
                    web.get(
                        f"{prefix}/{{repo:{_REPO}}}/resolve/{{revision}}/{{path:.*}}",
                        self._resolve,
                        name=f"{kind}-file",
                    ),
                ]
            )
        self.app.add_routes(ModelScope(store, token=token, cdn=cdn, send=self._bytes).routes())
        self.app.add_routes(Kaggle(store, credential=kaggle, send=self._bytes).routes())
        self.app.add_routes([web.get("/cdn/{sha256:[0-9a-f]{64}}", self._content)])

    # ---- access

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/_control"):
            answer: web.StreamResponse = await handler(request)
            return answer
        if (refused := self._faults.refusal(request)) is not None:
            return refused
        try:
            answer = await handler(request)
        except RefusalError as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
            return web.json_response({"error": refusal.message}, status=refusal.status, headers=headers)
        return answer

    def _known(self, request: web.Request) -> bool:
        """Whether the request carries the token; a wrong one is refused."""
        header = request.headers.get("Authorization", "")
        if not header:
            return False
        if not self._token or not hmac.compare_digest(header.encode(), f"Bearer {self._token}".encode()):
            raise RefusalError(401, "", "Invalid credentials in Authorization header")
        return True

    def _repository(self, request: web.Request) -> Repository:
        name = request.match_info["repo"]
        kind: Kind = "datasets" if request.path.startswith(("/api/datasets/", "/datasets/")) else "models"
        known = self._known(request)
        repo = self._store.get(kind, name) if ".." not in name.split("/") else None
        if repo is None or (repo.private and not known):
            raise RefusalError(404 if known else 401, "RepoNotFound", "Repository not found")
        return repo

    def _commit(self, request: web.Request, repo: Repository) -> Commit:
        revision = request.match_info.get("revision", "main")
        commit = repo.resolve(revision)
        if commit is None:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # ---- handlers

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _whoami(self, request: web.Request) -> web.Response:
        if not self._known(request):
            raise RefusalError(401, "", "Invalid username or password.")
        return web.json_response(
            {
                "type": "user",
                "id": "1",
                "name": "modelyard",
                "fullname": "Modelyard",
                "orgs": [],
                "auth": {"type": "access_token", "accessToken": {"displayName": "local", "role": "read"}},
            }
        )

    async def _info(self, request: web.Request) -> web.Response:
        repo = self._repository(request)
        commit = self._commit(request, repo)
        blobs = request.query.get("blobs", "").lower() in ("true", "1")
        siblings = [
            {"rfilename": path, **(_blob_info(blob) if blobs else {})} for path, blob in sorted(commit.files.items())
        ]
        return web.json_response(
            {
                "_id": commit.id[:24],
                "id": repo.name,
                "modelId": repo.name,
                "author": repo.name.partition("/")[0],
                "sha": commit.id,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "lastModified": "2026-01-01T00:00:00.000Z",
                "createdAt": "2026-01-01T00:00:00.000Z",
                "siblings": siblings,
            }
        )

    async def _tree(self, request: web.Request) -> web.Response:
        repo = self._repository(request)
        commit = self._commit(request, repo)
        below = request.match_info.get("path", "").strip("/")
        recursive = request.query.get("recursive", "").lower() in ("true", "1")
        entries = _entries(commit, below, recursive)
        if below and not entries:
            raise RefusalError(404, "EntryNotFound", f"{below} does not exist on {request.match_info['revision']}")
        start = int(request.query.get("cursor", "0"))
        headers = {}
        if start + self._page < len(entries):
            url = request.url.update_query(cursor=str(start + self._page))
            headers["Link"] = f'<{url}>; rel="next"'
        return web.json_response(entries[start : start + self._page], headers=headers)

    async def _refs(self, request: web.Request) -> web.Response:
        repo = self._repository(request)

        def told(kind: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [
                {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": to} for name, to in sorted(refs.items())
            ]

        return web.json_response(
            {"branches": told("heads", repo.branches), "tags": told("tags", repo.tags), "converts": []}
        )

    async def _auth_check(self, request: web.Request) -> web.Response:
        self._pass_gate(self._repository(request))
        return web.json_response({})

    @staticmethod
    def _pass_gate(repo: Repository) -> None:
        if repo.gated:
            raise RefusalError(
                403, "GatedRepo", f"Access to {repo.name} is restricted and you are not in the authorized list."
            )

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repo = self._repository(request)
        commit = self._commit(request, repo)
        blob = commit.files.get(request.match_info["path"])
        if blob is None:
            raise RefusalError(404, "EntryNotFound", "Entry not found")
        self._pass_gate(repo)
        headers = {"X-Repo-Commit": commit.id, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Size": str(blob.size), "X-Linked-ETag": f'"{blob.sha256}"'}
            if self._cdn is not None:
                location = f"{self._cdn}/cdn/{blob.sha256}?signature=local"
                return web.Response(status=302, headers={**headers, "Location": location})
        return await self._bytes(request, blob.sha256, blob.size, blob.etag, headers)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        path = signed.blob(request, self._store)
        headers = {"ETag": f'"{path.name}"', "Accept-Ranges": "bytes"}
        return await self._bytes(request, path.name, path.stat().st_size, path.name, headers)

    async def _bytes(
        self, request: web.Request, sha256: str, size: int, etag: str, headers: dict[str, str]
    ) -> web.StreamResponse:
        rule: Rule | None = request["rule"]
        span = None if rule is not None and rule.ignore_range else ranges.wanted(request, size, etag)
        start, end = span or (0, size)
        headers["Content-Type"] = "application/octet-stream"
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=206 if span is not None else 200, headers=headers)
        return await send(request, response, self._store.blob(sha256), start, end, self._faults, rule)


def _blob_info(blob: Blob) -> dict[str, Any]:
    told: dict[str, Any] = {"size": blob.size, "blobId": blob.oid}
    if blob.lfs:
        told["lfs"] = {"size": blob.size, "sha256": blob.sha256, "pointerSize": 134}
    return told


def _entries(commit: Commit, below: str, recursive: bool) -> list[dict[str, Any]]:
    """Files and folders below a path, in the order of their paths."""
    found: dict[str, dict[str, Any]] = {}
    prefix = f"{below}/" if below else ""
    for path, blob in commit.files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            folder = prefix + "/".join(parts[:depth])
            if depth == 1 or recursive:
                found[folder] = {"type": "directory", "oid": commit.id, "size": 0, "path": folder}
        if len(parts) == 1 or recursive:
            found[path] = {"type": "file", "oid": blob.oid, "size": blob.size, "path": path}
            if blob.lfs:
                found[path]["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
    return [found[path] for path in sorted(found)]
