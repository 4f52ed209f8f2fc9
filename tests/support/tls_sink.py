"""A real HTTPS server that stands where the collector stands, to see what the agent sends and how it bears trouble."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Certificates:
    """A CA as PEM text, and a server's certificate and key for 127.0.0.1 as files."""

    ca_pem: str
    cert: Path
    key: Path


def certificates(folder: Path) -> Certificates:
    """Makes a CA and a server certificate under it."""
    now = datetime.datetime.now(datetime.UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def build(subject: str, issuer: str, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(issuer))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = (
        build("test ca", "test ca", ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")])
    leaf = build("collector", "test ca", key.public_key()).add_extension(names, False).sign(ca_key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "tls.crt").write_bytes(leaf.public_bytes(pem))
    (folder / "tls.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificates(ca.public_bytes(pem).decode(), folder / "tls.crt", folder / "tls.key")


@dataclass
class Sink:
    """Takes reports. `answers`: status codes of the next requests, then 200; `hold`: requests wait for it to be set."""

    certificates: Certificates
    answers: list[int] = field(default_factory=list)
    hold: threading.Event | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.server = _QuietServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.cert, self.certificates.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    @property
    def accepted(self) -> list[dict[str, Any]]:
        """Every report that was answered with 200, in the order in which it came; once, though it may come again."""
        found: dict[int, dict[str, Any]] = {}
        for request in self.requests:
            for report in request["reports"] if request["code"] == 200 else ():
                found.setdefault(report["seq"], report)
        return list(found.values())

    def close(self) -> None:
        """Stops."""
        if self.hold:
            self.hold.set()
        self.server.shutdown()
        self.server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _handler(sink: Sink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sink.tokens.append(self.headers["Authorization"])
            sink.paths.append(self.path)
            if sink.hold:
                sink.hold.wait()
            code = sink.answers.pop(0) if sink.answers else 200
            sink.requests.append({**body, "code": code})
            answer = json.dumps({"accepted": len(body["reports"])}).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def never_accepting() -> tuple[str, Callable[[], None]]:
    """A port whose queue is full: connections to it neither succeed nor fail. Its URL, and what closes it."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    waiting = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(address)
        waiting.append(filler)

    def close() -> None:
        for one in (listener, *waiting):
            one.close()

    return f"https://127.0.0.1:{address[1]}", close
