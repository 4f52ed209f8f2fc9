"""The stream of changes: a log of the newest state of each object, ordered by when it changed.

An object is in it once, at the place of its last change, with its event ready to be sent. So whoever stands at a
number needs just what lies behind it, however slow they were: nothing is kept for a follower, and a snapshot is the
same as following from 0. Deletions stay as marks; when the oldest mark has to go, `floor` rises, and whoever stands
below must begin anew. Numbers mean nothing to another process: `epoch` tells them apart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from modelyard.plan import Key, Kind

MARKS: Final = 20_000
"""Deletions that are remembered."""


class Entry(NamedTuple):
    """The last change of one object. `frame` is its event, ready for the wire."""

    seq: int
    kind: Kind
    key: Key
    gone: bool
    frame: bytes


class ChangeLog:
    """The log. Every call is atomic on the event loop; entries are shared and never change."""

    def __init__(self, epoch: str, marks: int = MARKS) -> None:
        self.epoch = epoch
        self.head = 0
        self.floor = 0
        self._entries: OrderedDict[tuple[Kind, Key], Entry] = OrderedDict()
        self._marks: OrderedDict[tuple[Kind, Key], int] = OrderedDict()
        self._most_marks = marks

    def put(self, kind: Kind, key: Key, row: bytes) -> None:
        """The object came or changed; `row` is its JSON on one line."""
        self._add(kind, key, False, b'{"op":"put","object":' + row + b"}")

    def gone(self, kind: Kind, key: Key, row: bytes) -> None:
        """The object is no more; `row` says which one it was."""
        self._add(kind, key, True, b'{"op":"gone","object":' + row + b"}")

    def position(self) -> str:
        """Where the log ends, as an event id."""
        return f"{self.epoch}:{self.head}"

    def resume(self, event_id: str) -> int | None:
        """The number that an event id stands for, or None if one cannot go on from there."""
        epoch, _, number = event_id.partition(":")
        if epoch != self.epoch or not number.isascii() or not number.isdigit() or len(number) > 18:
            return None
        seq = int(number)
        return seq if self.floor <= seq <= self.head else None

    def after(self, seq: int) -> Sequence[Entry]:
        """What changed after `seq`, oldest first. Expects `seq` >= `floor`, or 0 for all that is there."""
        found: list[Entry] = []
        for entry in reversed(self._entries.values()):
            if entry.seq <= seq:
                break
            if not (entry.gone and seq == 0):
                found.append(entry)
        found.reverse()
        return found

    def _add(self, kind: Kind, key: Key, gone: bool, data: bytes) -> None:
        self.head += 1
        name = (kind, key)
        frame = b"id: %b:%d\nevent: change\ndata: %b\n\n" % (self.epoch.encode(), self.head, data)
        self._entries[name] = Entry(self.head, kind, key, gone, frame)
        self._entries.move_to_end(name)
        self._marks.pop(name, None)
        if gone:
            self._marks[name] = self.head
            if len(self._marks) > self._most_marks:
                oldest, seq = self._marks.popitem(last=False)
                del self._entries[oldest]
                self.floor = seq
