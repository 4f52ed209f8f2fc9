"""The client against a server that fails: it says so, and leaves what to do about it to the work queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from modelyard.cluster import errors
from modelyard.cluster.client import Client, connect
from modelyard.plan import Ref
from modelyard.resources.meta import JOB

NAMED = Ref(JOB, "team-a", "fetch")


@pytest.mark.parametrize("ask", [lambda c: c.get(NAMED), lambda c: c.delete(NAMED, "uid")], ids=["get", "delete"])
async def test_a_failure_of_the_server_is_told_at_once(
    ask: Callable[[Client], Awaitable[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fail(request: web.Request) -> web.Response:
        asked.append(request.method)
        return web.json_response({"kind": "Status"}, status=504)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fail)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    client = await connect("test")
    try:
        with pytest.raises(errors.UnavailableError):
            await ask(client)
    finally:
        await client.close()
        await runner.cleanup()
    assert len(asked) == 1
