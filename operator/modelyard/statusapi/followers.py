"""What those who follow the stream are sent, made once for all who stand at the same place and may see the same.

Followers are woken together, at most every `window` seconds: so most of them stand at the same place, changes of one
object in between are sent once, and the work does not grow with their number. One that is slow is left where it is.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from modelyard.plan import Kind
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog, Entry

SLICE: Final = 64 * 1024
"""Bytes that are handed to a connection at a time."""
_MEMOS: Final = 64
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Lens:
    """What a follower sees: per kind the namespaces, and one object alone if `name` is given."""

    kinds: tuple[tuple[Kind, Seen], ...]
    name: str = ""

    def shows(self, entry: Entry) -> bool:
        """Whether the follower may see it and asked for it."""
        if self.name and entry.key.name != self.name:
            return False
        return any(kind == entry.kind and entry.key.namespace in seen for kind, seen in self.kinds)


_Name = tuple[int, int, Lens]


class Followers:
    """Wakes followers and prepares their batches."""

    def __init__(self, log: ChangeLog, window: float, pulse: float) -> None:
        """`pulse`: seconds after which followers wake although nothing changed."""
        self.log = log
        self._window = window
        self._pulse = pulse
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._memo: OrderedDict[tuple[int, int, Lens], Sequence[Entry]] = OrderedDict()
        self._joined: OrderedDict[tuple[int, int, Lens], bytes | None] = OrderedDict()
        self.head = log.head

    def touch(self) -> None:
        """The log has grown."""
        self._changed.set()

    async def run(self) -> None:
        """Wakes followers, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._pulse):
                    await self._changed.wait()
                await asyncio.sleep(self._window)
            except TimeoutError:
                pass
            self._changed.clear()
            self.head = self.log.head
            news, self._news = self._news, asyncio.Event()
            news.set()

    async def wait(self) -> None:
        """Until there may be news, or the pulse."""
        await self._news.wait()

    def batch(self, seq: int, lens: Lens) -> tuple[Sequence[Entry], int]:
        """What the follower has to see after `seq`, and the number that they stand at then."""
        head = max(self.head, seq)
        name = (seq, head, lens)
        found = self._memo.get(name)
        if found is None:
            found = tuple(e for e in self.log.after(seq) if e.seq <= head and lens.shows(e))
            _remember(self._memo, name, found)
        return found, head

    def joined(self, seq: int, head: int, lens: Lens, entries: Sequence[Entry]) -> bytes | None:
        """A small batch as one piece of wire; None if it is to be sent in slices, which are not kept."""
        name = (seq, head, lens)
        if name not in self._joined:
            small = sum(len(entry.frame) for entry in entries) <= SLICE
            _remember(self._joined, name, b"".join(entry.frame for entry in entries) if small else None)
        return self._joined[name]


def slices(entries: Sequence[Entry]) -> list[Sequence[Entry]]:
    """In pieces of about SLICE bytes."""
    pieces, start, size = [], 0, 0
    for at, entry in enumerate(entries):
        size += len(entry.frame)
        if size >= SLICE:
            pieces.append(entries[start : at + 1])
            start, size = at + 1, 0
    return [*pieces, entries[start:]] if start < len(entries) else pieces


def _remember(memo: OrderedDict[_Name, _T], name: _Name, value: _T) -> None:
    memo[name] = value
    if len(memo) > _MEMOS:
        memo.popitem(last=False)
