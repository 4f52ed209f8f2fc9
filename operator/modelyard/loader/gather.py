"""Has a snapshot's files brought into the staging folder, by several hands at once."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Container, Iterator, Sequence

from modelyard.loader.content import RemoteFile
from modelyard.loader.disk import require
from modelyard.loader.fetch import left, little
from modelyard.loader.manifest import Entry
from modelyard.loader.progress import Progress
from modelyard.loader.staging import Staging

HANDS = 8
"""So many files are on their way at once."""
_LITTLE_AT_ONCE = 64

Hand = Callable[[Sequence[RemoteFile]], list[Entry]]
"""Makes files whole, and gives them; raises LoadError. For one thread at a time."""


def gather(
    files: Sequence[RemoteFile],
    staging: Staging,
    progress: Progress,
    hands: Sequence[Hand],
    sure: Container[str] = (),
) -> list[Entry]:
    """Has the hands fetch what is not whole yet and gives all files, sorted by path.

    `sure` are the paths of files that this run made whole before.

    Raises:
        LoadError: the first failure; everything fetched so far is kept.
    """
    whole = staging.prepare(files, sure)
    missing = [file for file in files if file.path not in whole]
    progress.there(sum(entry.size for entry in whole.values()), len(whole))
    sizes = [file.size for file in files]
    progress.expect(None if None in sizes else sum(size or 0 for size in sizes), len(files))
    require(staging.tree, sum(left(staging, file) for file in missing))
    tasks: queue.SimpleQueue[Sequence[RemoteFile]] = queue.SimpleQueue()
    for task in tasks_of(missing):
        tasks.put(task)
    results: queue.SimpleQueue[list[Entry] | BaseException] = queue.SimpleQueue()
    called = hands[: len(missing)]
    for number, hand in enumerate(called):
        threading.Thread(target=_work, args=(hand, tasks, results), name=f"fetch-{number}", daemon=True).start()
    entries = list(whole.values())
    for _ in called:
        result = results.get()
        if isinstance(result, BaseException):
            raise result
        entries.extend(result)
    return sorted(entries)


def tasks_of(missing: Sequence[RemoteFile]) -> Iterator[Sequence[RemoteFile]]:
    """Large files one by one, the largest first: one of them last would leave the other hands idle. Then little ones,
    many at once, in turns from far places in the list: two that make files in one folder wait for each other.
    """
    large = sorted((file for file in missing if not little(file)), key=lambda file: -(file.size or 0))
    yield from ([file] for file in large)
    small = [file for file in missing if little(file)]
    share = -(-len(small) // HANDS)
    count = max(1, min(_LITTLE_AT_ONCE, share // 4))
    for start in range(0, share, count):
        for first in range(0, len(small), share):
            if task := small[first + start : min(first + start + count, first + share)]:
                yield task


def _work(
    hand: Hand,
    tasks: queue.SimpleQueue[Sequence[RemoteFile]],
    results: queue.SimpleQueue[list[Entry] | BaseException],
) -> None:
    done: list[Entry] = []
    try:
        with contextlib.suppress(queue.Empty):
            while True:
                done += hand(tasks.get_nowait())
        results.put(done)
    except BaseException as error:  # every end of a thread must be heard of, or `gather` waits for ever
        results.put(error)
