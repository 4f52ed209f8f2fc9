"""Curves of trainings, asked of the collector when somebody asks here. Who may see them is decided before.

The collector believes this process by its own service account's token, for an audience of its own. Where it can't be
asked, or none is set up, the answer is None: an object still has its latest values and last epochs.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
from pydantic import ValidationError

from modelyard.settings import Collector
from modelyard.statusapi.schemas.answers import Curves

logger = logging.getLogger(__name__)

_TIMEOUT: Final = aiohttp.ClientTimeout(total=10, sock_connect=2)
_AT_ONCE: Final = 8
_MOST_BYTES: Final = 32 * 1024 * 1024

Query = Mapping[str, str | int | Sequence[str] | None]


class CurveSource:
    """The collector. The files of its CA and of the token are read each time: both are rotated."""

    def __init__(self, settings: Collector) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._trusted = ""

    async def close(self) -> None:
        """Closes the connections."""
        if self._session is not None:
            await self._session.close()

    async def of(self, uid: str, query: Query) -> Curves | None:
        """Curves of the Training with that uid; None if they cannot be had now."""
        if not self._settings.url:
            return None
        pairs = [(name, str(one)) for name, value in query.items() for one in _each(value)]
        try:
            async with self._slots:
                raw = await self._ask(f"{self._settings.url}/v1/series/{uid}", pairs)
            return None if raw is None else await asyncio.to_thread(Curves.model_validate_json, raw)
        except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError, ValidationError) as error:
            logger.info("The collector could not be asked for curves (%s).", type(error).__name__)
        return None

    async def _ask(self, url: str, query: Sequence[tuple[str, str]]) -> bytes | None:
        token = await asyncio.to_thread(self._settings.token_file.read_text, encoding="ascii")
        session = await self._connected()
        headers = {"Authorization": f"Bearer {token.strip()}"}
        async with session.get(url, params=list(query), headers=headers, allow_redirects=False) as response:
            if response.status != 200:
                logger.info("The collector answered %d when asked for curves.", response.status)
                return None
            raw = bytearray()
            async for chunk in response.content.iter_chunked(64 * 1024):
                raw += chunk
                if len(raw) > _MOST_BYTES:
                    return None
            return bytes(raw)

    async def _connected(self) -> aiohttp.ClientSession:
        """A session that trusts what the CA's file holds now."""
        path = self._settings.ca_file
        trusted = "" if path is None else await asyncio.to_thread(path.read_text, encoding="ascii")
        if self._session is None or trusted != self._trusted:
            before = self._session
            context = ssl.create_default_context(cadata=trusted or None)
            connector = aiohttp.TCPConnector(ssl=context, limit=_AT_ONCE)
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, connector=connector)
            self._trusted = trusted
            if before is not None:
                await before.close()
        return self._session


def _each(value: str | int | Sequence[str] | None) -> Sequence[str | int]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str | int) else value
