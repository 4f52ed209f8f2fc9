"""Reports that wait for the collector: bounded, in order, the newest always kept.

While the collector can't be reached, ordinary reports are thinned to every second one each time the buffer is full:
what is left still covers the whole outage. The rows that end an epoch, few and small, are kept apart from that.
"""

from __future__ import annotations

import json
import threading

from .progress import Entry

MAX_PLAIN = 512
MAX_ROWS = 4096
BATCH_ENTRIES = 200
BATCH_BYTES = 192 * 1024


class Buffer:
    """A thread-safe queue of entries. `put` never waits for anything but the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plain: list[Entry] = []
        self._rows: list[Entry] = []
        self._urgent = False

    def put(self, entry: Entry) -> None:
        """Adds an entry; thins out older ones when there is no room."""
        with self._lock:
            self._urgent = self._urgent or entry.urgent
            if entry.row:
                self._rows.append(entry)
                del self._rows[:-MAX_ROWS]
                return
            self._plain.append(entry)
            if len(self._plain) > MAX_PLAIN:
                self._plain = self._plain[-1::-2][::-1]

    def batch(self) -> list[Entry]:
        """The oldest entries, as many as fit one request. They stay here until `drop`."""
        with self._lock:
            waiting = sorted([*self._plain, *self._rows], key=lambda e: e.seq)[:BATCH_ENTRIES]
            self._urgent = False
        size, fit = 0, list[Entry]()
        for entry in waiting:
            size += len(json.dumps(entry.body)) + 1
            if fit and size > BATCH_BYTES:
                break
            fit.append(entry)
        return fit

    def drop(self, sent: list[Entry]) -> None:
        """Forgets entries that the collector has or will never take."""
        gone = {entry.seq for entry in sent}
        with self._lock:
            self._plain = [e for e in self._plain if e.seq not in gone]
            self._rows = [e for e in self._rows if e.seq not in gone]

    def drain(self) -> list[Entry]:
        """Everything that waits, in order; nothing is left."""
        with self._lock:
            everything = sorted([*self._plain, *self._rows], key=lambda e: e.seq)
            self._plain, self._rows, self._urgent = [], [], False
        return everything

    @property
    def urgent(self) -> bool:
        """Whether something that should not wait came since the last batch."""
        with self._lock:
            return self._urgent

    def __len__(self) -> int:
        with self._lock:
            return len(self._plain) + len(self._rows)
