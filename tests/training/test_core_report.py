"""Reports to the agent: what is in them, and that no agent can slow a run down."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from modelyard_training.core.report import MetricsFile, Reporter


@contextmanager
def agent() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A server on loopback that keeps what is posted, with its Authorization header."""
    got: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", got
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_tells_the_agent_everything(trainer: Callable[..., Any], digits_csv: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("dummy\n")
    with agent() as (url, got):
        extra = {
            "KUBEFLOW_TRAINER_SERVER_URL": url,
            "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token),
            "http_proxy": "http://127.0.0.1:9",
        }
        config = {"recipe": "tabular-classification", "params": {"epochs": 3}, "dataset": {}}
        code, printed = trainer(config, {"digits.csv": digits_csv}, extra=extra).run()
    assert code == 0
    assert {header for header, _ in got} == {"Bearer dummy"}
    ours = [body["modelyard"] for _, body in got]
    assert ours == printed
    assert ours[0] == {"phase": "Preparing"}
    assert [o["epochRow"]["epoch"] for o in ours if "epochRow" in o] == [1, 2, 3]
    assert set(ours[-2]["checkpoint"]) == {"step", "path"}
    last = got[-1][1]
    assert last["modelyard"]["done"] is True
    assert last["modelyard"]["result"]["summary"]["path"] == "model"
    assert last["trainerStatus"]["progressPercentage"] == 100
    statuses = [body["trainerStatus"] for _, body in got[:-1] if "trainerStatus" in body]
    assert all(status["progressPercentage"] < 100 for status in statuses)
    assert all(isinstance(m["value"], str) for status in statuses for m in status["metrics"])
    assert all("lastUpdatedTime" in status for status in statuses)


def test_a_silent_agent_is_not_waited_for(capsys: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reporter = Reporter(f"http://127.0.0.1:{silent.getsockname()[1]}/", "dummy")
        for step in range(2000):
            reporter.send({"step": step})
        reporter.send({"epochRow": {"epoch": 1, "metrics": {}}}, keep=True)
        queued = [body["modelyard"] for _, body in reporter._queue]
    assert len(queued) <= 256
    assert queued[-1] == {"epochRow": {"epoch": 1, "metrics": {}}}
    assert queued[-2] == {"step": 1999}
    assert len(capsys.readouterr().out.splitlines()) == 2001


def test_a_late_agent_gets_what_matters() -> None:
    with agent() as (url, got):
        reporter = Reporter(url, "dummy")
        reporter.send({"result": {"result": "done"}}, keep=True)
        reporter.close(20)
        deadline = time.monotonic() + 20
        while not got and time.monotonic() < deadline:
            time.sleep(0.01)
    assert got[0][1]["modelyard"] == {"result": {"result": "done"}}


def test_metrics_file_is_cut_to_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    for step in range(1, 5):
        file.add({"step": step, "loss": 1 / step})
    file.add({"step": 4, "epoch": 1, "accuracy": 0.5})
    file.flush()
    with path.open("a") as torn:
        torn.write('{"step": 2, "lo')
    MetricsFile(path).cut(4, 0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert not any("epoch" in row for row in rows)
    MetricsFile(path).cut(2, 0)
    assert len(path.read_text().splitlines()) == 2
