"""The HTTP server on the loopback address that the program reports to.

It answers at once and does no I/O of its own, so a program that posts in its training loop loses nothing but the time
of a local round trip, whatever the collector and the network do. Any path is accepted: the programs' libraries differ.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from threading import Thread
from typing import Any

MAX_BODY = 1024 * 1024
_IDLE_SECONDS = 60

Take = Callable[[dict[str, Any]], bool]


class Loopback:
    """A server on a free port of 127.0.0.1. `take` gets each parsed report and says whether it was one."""

    def __init__(self, take: Take) -> None:
        self._server = _Server(("127.0.0.1", 0), _handler(take))
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serves until the process ends or `close`."""
        self._thread.start()

    def close(self) -> None:
        """Stops taking reports; those already sent by the program have been taken."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def server_bind(self) -> None:
        # The base class looks its own name up, which can take seconds in a pod without DNS.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A program that hangs up in the middle of a request is nobody's error."""


def _handler(take: Take) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_SECONDS
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MAX_BODY:
                self.close_connection = True
                self._answer(413 if length.isdigit() else 411)
                return
            body = self.rfile.read(int(length))
            try:
                report = json.loads(body)
            except (ValueError, RecursionError):
                report = None
            self._answer(200 if isinstance(report, dict) and take(report) else 400)

        def do_GET(self) -> None:
            self._answer(200)

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Reports are no news."""

    return Handler
