"""A git server over HTTP: the `git http-backend` program for repositories, and the LFS Batch API for large objects.

    python -m hub.git --root DIR --port P [--cert FILE --key FILE] [--credential-env NAME] [--control]

`ROOT/<name>.git` are bare repositories, `<name>.git/lfs/objects/aa/bb/<sha256>` their objects, as git-lfs keeps them.
The environment variable holds the Authorization value that is expected, such as `Basic …`. An object's address has a
header of its own, which nothing else accepts, and lasts `--lfs-seconds`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import os
import re
import ssl
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from hub import ranges
from hub.faults import Faults, Rule, send

_OID = re.compile(r"[0-9a-f]{64}")
_LFS = "application/vnd.git-lfs+json"
_OBJECT_KEY = "RemoteAuth object-key"


class GitServer:
    """One folder of repositories."""

    def __init__(self, root: Path, *, credential: str, control: bool, public: str, lfs_seconds: int) -> None:
        self._root = root.resolve()
        self._credential = credential
        self._public = public
        self._lfs_seconds = lfs_seconds
        self._faults = Faults()
        self.app = web.Application(middlewares=[self._guard], client_max_size=1 << 30)
        if control:
            self.app.add_routes(self._faults.routes())
        self.app.add_routes(
            [
                web.post("/{repo:.+}/info/lfs/objects/batch", self._batch),
                web.get("/lfs/{ends}/{repo:.+}/{oid}", self._object),
                web.route("*", "/{path:.+}", self._backend),
            ]
        )

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/_control"):
            if (refused := self._faults.refusal(request)) is not None:
                return refused
            expected = _OBJECT_KEY if request.path.startswith("/lfs/") else self._credential
            given = request.headers.get("Authorization", "")
            if expected and not hmac.compare_digest(given.encode(), expected.encode()):
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'}, text="Who are you?")
        answer: web.StreamResponse = await handler(request)
        return answer

    async def _batch(self, request: web.Request) -> web.Response:
        asked = await request.json()
        repo = request.match_info["repo"]
        ends = int(time.time()) + self._lfs_seconds
        objects: list[dict[str, Any]] = []
        for item in asked["objects"]:
            path = self._lfs(repo, str(item["oid"]))
            if path is None or not path.is_file():
                objects.append({**item, "error": {"code": 404, "message": "Object does not exist"}})
                continue
            download = {
                "href": f"{self._public}/lfs/{ends}/{repo}/{item['oid']}",
                "header": {"Authorization": _OBJECT_KEY},
                "expires_in": self._lfs_seconds,
            }
            objects.append({"oid": item["oid"], "size": path.stat().st_size, "actions": {"download": download}})
        return web.json_response({"transfer": "basic", "objects": objects}, content_type=_LFS)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        if int(request.match_info["ends"]) < time.time():
            return web.Response(status=403, text="Request has expired")
        path = self._lfs(request.match_info["repo"], request.match_info["oid"])
        if path is None or not path.is_file():
            return web.Response(status=404)
        size = path.stat().st_size
        rule: Rule | None = request["rule"]
        span = ranges.wanted(request, size, path.name)
        start, end = span or (0, size)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if span is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        response = web.StreamResponse(status=206 if span is not None else 200, headers=headers)
        return await send(request, response, path, start, end, self._faults, rule)

    def _lfs(self, repo: str, oid: str) -> Path | None:
        folder = (self._root / repo).resolve()
        if not folder.is_relative_to(self._root) or _OID.fullmatch(oid) is None:
            return None
        return folder / "lfs" / "objects" / oid[:2] / oid[2:4] / oid

    async def _backend(self, request: web.Request) -> web.StreamResponse:
        """The CGI program, as any web server runs it."""
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        program = await asyncio.create_subprocess_exec(
            *("git", "http-backend"),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(await request.read())
        program.stdin.close()
        status, headers = 200, {}
        while line := (await program.stdout.readline()).decode().strip():
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers[name] = value
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        try:
            await self._stream(request, response, program)
        except ConnectionError:
            pass  # the client has gone
        finally:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, program: asyncio.subprocess.Process
    ) -> None:
        assert program.stdout is not None
        rule: Rule | None = request["rule"]
        sent = 0
        while chunk := await program.stdout.read(1 << 16):
            if rule is not None and rule.cut_after is not None and sent + len(chunk) > rule.cut_after:
                if request.transport is not None:
                    request.transport.close()
                return
            await response.write(chunk)
            self._faults.sent(request, len(chunk))
            sent += len(chunk)
            if rule is not None and rule.bytes_per_second:
                await asyncio.sleep(len(chunk) / rule.bytes_per_second)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hub.git", description="Serve git repositories over HTTP.")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8082)
    parser.add_argument("--cert", type=Path, help="certificate; with it the server speaks HTTPS")
    parser.add_argument("--key", type=Path, help="its key")
    parser.add_argument(
        "--credential-env", default="", help="environment variable with the Authorization value to expect"
    )
    parser.add_argument("--lfs-seconds", type=int, default=600, help="how long an object's address lasts")
    parser.add_argument("--control", action="store_true", help="faults to order and counts at /_control: for tests")
    args = parser.parse_args()
    context = None
    if args.cert is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
    scheme = "https" if context else "http"
    server = GitServer(
        args.root,
        credential=os.environ.get(args.credential_env, "") if args.credential_env else "",
        control=args.control,
        public=f"{scheme}://{args.host}:{args.port}",
        lfs_seconds=args.lfs_seconds,
    )
    web.run_app(
        server.app, host=args.host, port=args.port, ssl_context=context, print=None, shutdown_timeout=1, access_log=None
    )


if __name__ == "__main__":
    main()
