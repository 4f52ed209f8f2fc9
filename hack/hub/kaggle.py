"""Kaggle's protocol over the same repositories: JSON by POST to `/v1/<service>/<method>`, files from a storage.

A data set `owner/name` and a variation `owner/model/framework/variation` are repositories of the store; their versions
are its commits, the first is 1. A file is answered by a redirect to the storage, which tells the MD5 as Google's does
and refuses a second credential. The whole of a version comes as a zip (data sets) or tar.gz (models), for the real
client.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import tarfile
import zipfile
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from aiohttp import web

from hub import signed
from hub.store import Commit, Kind, Repository, Store

SendBytes = Callable[[web.Request, str, int, str, dict[str, str]], Awaitable[web.StreamResponse]]


class Kaggle:
    """The routes. `credential` is the whole Authorization value that private repositories need."""

    def __init__(self, store: Store, *, credential: str, send: SendBytes) -> None:
        self._store = store
        self._credential = credential
        self._send = send

    def routes(self) -> list[web.RouteDef]:
        sets, models = "datasets.DatasetApiService", "models.ModelApiService"
        return [
            web.get("/storage/{sha256:[0-9a-f]{64}}/{name}", self._storage),
            web.post(f"/v1/{sets}/GetDataset", self._data_set),
            web.post(f"/v1/{sets}/GetDatasetMetadata", self._metadata),
            web.post(f"/v1/{sets}/ListDatasetFiles", self._list),
            web.post(f"/v1/{sets}/DownloadDataset", self._download),
            web.post(f"/v1/{models}/GetModelInstance", self._instance),
            web.post(f"/v1/{models}/ListModelInstanceVersionFiles", self._list),
            web.post(f"/v1/{models}/DownloadModelInstanceVersion", self._download),
        ]

    def _repository(self, request: web.Request, asked: dict[str, Any]) -> Repository:
        given = request.headers.get("Authorization", "")
        known = bool(given) and hmac.compare_digest(given.encode(), self._credential.encode())
        if given and not known:
            raise _refusal(401, "Unauthenticated")
        kind: Kind = "datasets" if "datasetSlug" in asked else "models"
        if kind == "datasets":
            name = f"{asked['ownerSlug']}/{asked['datasetSlug']}"
        else:
            framework = asked["framework"].removeprefix("MODEL_FRAMEWORK_").lower()
            name = f"{asked['ownerSlug']}/{asked['modelSlug']}/{framework}/{asked['instanceSlug']}"
        repo = self._store.get(kind, name)
        if repo is None or ((repo.private or repo.gated) and not known) or repo.gated:
            raise _refusal(403, "Permission 'datasets.get' was denied")
        return repo

    async def _data_set(self, request: web.Request) -> web.Response:
        repo = self._repository(request, await request.json())
        return web.json_response({"ref": repo.name, "title": repo.name, "currentVersionNumber": len(repo.commits)})

    async def _metadata(self, request: web.Request) -> web.Response:
        repo = self._repository(request, await request.json())
        about = {"title": repo.name, "licenses": [{"name": "CC0-1.0"}]}
        return web.json_response({"info": about, "errorMessage": ""})

    async def _instance(self, request: web.Request) -> web.Response:
        repo = self._repository(request, await request.json())
        return web.json_response({"id": 1, "slug": repo.name.split("/")[3], "versionNumber": len(repo.commits)})

    async def _list(self, request: web.Request) -> web.Response:
        asked = await request.json()
        repo = self._repository(request, asked)
        commit = self._version(repo, asked)
        start, size = int(asked.get("pageToken") or 0), int(asked.get("pageSize") or 20)
        paths = sorted(commit.files)[start : start + size]
        more = str(start + size) if start + size < len(commit.files) else ""
        made = "2026-01-01T00:00:00Z"
        if repo.kind == "datasets":
            listed = [
                {"ref": path, "name": path, "totalBytes": commit.files[path].size, "creationDate": made}
                for path in paths
            ]
            return web.json_response({"datasetFiles": listed, "errorMessage": "", "nextPageToken": more})
        listed = [{"name": path, "size": commit.files[path].size, "creationDate": made} for path in paths]
        return web.json_response({"files": listed, "nextPageToken": more})

    def _version(self, repo: Repository, asked: dict[str, Any]) -> Commit:
        number = asked.get("datasetVersionNumber") or asked.get("versionNumber") or len(repo.commits)
        if not 1 <= number <= len(repo.commits):
            raise _refusal(404, "Not found")
        return list(repo.commits.values())[number - 1]

    async def _download(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        repo = self._repository(request, asked)
        commit = self._version(repo, asked)
        path = asked.get("fileName") or asked.get("path")
        if path:
            if path not in commit.files:
                raise _refusal(404, "Not found")
            sha256, name = commit.files[path].sha256, path.rpartition("/")[2]
        else:
            data = self._archive(commit, zipped=repo.kind == "datasets")
            sha256, name = hashlib.sha256(data).hexdigest(), "archive"
            self._store.blob(sha256).write_bytes(data)
        where = request.url.with_host("localhost").with_path(f"/storage/{sha256}/{name}")  # as if it were another's
        raise web.HTTPFound(str(where.with_query(signature="local")))

    def _archive(self, commit: Commit, *, zipped: bool) -> bytes:
        """As Kaggle packs a version."""
        target = io.BytesIO()
        contents = {path: self._store.blob(blob.sha256).read_bytes() for path, blob in sorted(commit.files.items())}
        if zipped:
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
                for path, data in contents.items():
                    packed.writestr(path, data)
        else:
            with tarfile.open(fileobj=target, mode="w:gz") as tarred:
                for path, data in contents.items():
                    info = tarfile.TarInfo(path)
                    info.size = len(data)
                    tarred.addfile(info, io.BytesIO(data))
        return target.getvalue()

    async def _storage(self, request: web.Request) -> web.StreamResponse:
        path = signed.blob(request, self._store)
        md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False)
        headers = {
            "ETag": f'"{md5.hexdigest()}"',
            "x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(md5.digest()).decode()}",
            "x-goog-stored-content-encoding": "identity",
            "Accept-Ranges": "bytes",
            "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True),
        }
        return await self._send(request, path.name, path.stat().st_size, md5.hexdigest(), headers)


def _refusal(status: int, message: str) -> web.HTTPException:
    made: web.HTTPException = {401: web.HTTPUnauthorized, 403: web.HTTPForbidden, 404: web.HTTPNotFound}[status]()
    made.content_type = "application/json"
    made.text = json.dumps({"code": status, "message": message})
    return made
