"""Puts documents into rows of a fixed length, so that little is spent on padding. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence


def pack(lengths: Sequence[int], limit: int) -> list[list[int]]:
    """Rows of document numbers whose lengths add up to at most `limit`: best fit, the longest first.

    Every document (none longer than `limit`) is in exactly one row, and the result follows from the lengths alone.
    """
    rows: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms: list[int] = []
    """The keys of `with_room`, ascending."""
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        length = lengths[number]
        at = bisect_left(rooms, length)
        if at < len(rooms):
            room = rooms[at]
            row = with_room[room].pop()
            if not with_room[room]:
                del with_room[room], rooms[at]
        else:
            room, row = limit, len(rows)
            rows.append([])
        rows[row].append(number)
        left = room - length
        if left > 0:
            if left not in with_room:
                with_room[left] = []
                insort(rooms, left)
            with_room[left].append(row)
    return rows
