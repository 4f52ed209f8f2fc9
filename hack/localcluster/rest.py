"""Just enough HTTPS to ask a cluster's own components whether they work, with the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def get(url: str, certificate: Path, timeout: float = 5) -> tuple[int, bytes]:
    """GET with a client certificate. No proxy is ever asked: every address is on this machine."""
    context = ssl.create_default_context()
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    # These are health checks of processes that the launcher started, on ports that it chose; the scheduler and the
    # controller manager serve self-signed certificates there.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context)
    try:
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def answers(url: str, certificate: Path) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return get(url, certificate)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def get_json(url: str, certificate: Path) -> Any:
    """The JSON document behind a URL; None when there is none."""
    try:
        status, body = get(url, certificate)
        return json.loads(body) if status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
