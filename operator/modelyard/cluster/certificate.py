"""The server's certificate, from the folder of a mounted Secret, loaded again whenever its content changes."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
_CERTIFICATE, _KEY = "tls.crt", "tls.key"


class Certificate:
    """A TLS context whose new connections use what the folder holds now; old ones go on undisturbed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digest = ""
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def load(self) -> bool:
        """Loads the files if they are there, fit together and are new. True: a certificate is loaded."""
        try:
            digest = hashlib.sha256(
                (self._folder / _CERTIFICATE).read_bytes() + (self._folder / _KEY).read_bytes()
            ).hexdigest()
            if digest != self._digest:
                self.context.load_cert_chain(self._folder / _CERTIFICATE, self._folder / _KEY)
                self._digest = digest
                log.info("the certificate was loaded")
        except (OSError, ssl.SSLError) as error:
            # The kubelet swaps both files at once, but they may be read on both sides of the swap.
            log.warning("the certificate in %s can't be loaded (%s)", self._folder, type(error).__name__)
        return bool(self._digest)

    async def wait(self) -> None:
        """Until there is one to serve with."""
        while not self.load():  # noqa: ASYNC110 [a file system has no event to wait for]
            await asyncio.sleep(1)

    async def watch(self) -> None:
        """Loads what is new, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self.load()
