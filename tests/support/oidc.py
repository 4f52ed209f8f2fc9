"""An OIDC issuer over HTTPS on loopback: discovery, keys, and ID tokens as an identity provider signs them."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from support.tls_sink import Certificates, certificates


class Issuer:
    """Signs tokens. `configuration` is what a cluster that trusts it is told."""

    def __init__(self, url: str, tls: Certificates) -> None:
        self.url = url
        self.audience = "kubernetes"
        self._tls = tls
        self._key = rsa.generate_private_key(65537, 2048)

    def token(self, seconds: int = 3600, **claims: Any) -> str:
        """An ID token for the cluster."""
        now = int(time.time())
        body = {"iss": self.url, "aud": self.audience, "iat": now, "exp": now + seconds, **claims}
        signed = f"{_part({'alg': 'RS256', 'kid': 'one', 'typ': 'JWT'})}.{_part(body)}"
        return f"{signed}.{_text(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    @property
    def configuration(self) -> dict[str, Any]:
        """An AuthenticationConfiguration: names by the claim `email`, groups by `groups`, with `oidc:` before both."""
        return {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": [
                {
                    "issuer": {
                        "url": self.url,
                        "certificateAuthority": self._tls.ca_pem,
                        "audiences": [self.audience],
                    },
                    "claimMappings": {
                        "username": {"claim": "email", "prefix": "oidc:"},
                        "groups": {"claim": "groups", "prefix": "oidc:"},
                    },
                }
            ],
        }

    def document(self, path: str) -> Mapping[str, Any] | None:
        """What it publishes."""
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/keys",
                "authorization_endpoint": f"{self.url}/none",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        if path == "/keys":
            public = self._key.public_key().public_numbers()
            number = {"n": _text(_bytes(public.n)), "e": _text(_bytes(public.e))}
            return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "one", **number}]}
        return None


@contextmanager
def issuer(folder: Path) -> Iterator[Issuer]:
    """It answers for the time of the block."""
    found: list[Issuer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = found[0].document(self.path)
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            pass

    folder.mkdir(parents=True, exist_ok=True)
    tls = certificates(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.cert, tls.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found.append(Issuer(f"https://127.0.0.1:{server.server_port}", tls))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _part(content: Mapping[str, Any]) -> str:
    return _text(json.dumps(content).encode())


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
