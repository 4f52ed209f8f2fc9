"""Processes that fetch: a download's work is the CPU's (hashes, TLS, copies), and one interpreter uses one core.

They are forked before this process has threads or connections, each with the source as it was made, and wait for
orders, each over a pipe of its own. Each says how far it is on the way, and its result last. They die with the process
that forked them, at once and however that ends; until then they hold the volume's lock, so that no other download
begins while one of them still writes.
"""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

from modelyard.loader.content import Prober, RemoteFile, Source
from modelyard.loader.disk import Access
from modelyard.loader.failure import LoadError, unexpected
from modelyard.loader.fetch import Fetcher, begin
from modelyard.loader.gather import HANDS, Hand
from modelyard.loader.manifest import Entry
from modelyard.loader.progress import Counter
from modelyard.loader.request import Request
from modelyard.loader.staging import Staging

_TELL_SECONDS = 0.2
_PROBES = 64
_MOST = 4
"""Processes. Many that make files at once in one file system cost the kernel more than they gain."""
_OF_A_CORE = 2
"""Processes: threads of one wait for each other even where all of them share a core."""
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class _Counted:
    """Bytes and files since the last one."""

    fetched: int
    kept: int
    whole: int


@dataclass(frozen=True)
class _Hold:
    """The handle of the volume's lock follows."""


@dataclass(frozen=True)
class _Probe:
    files: Sequence[RemoteFile]


@dataclass(frozen=True)
class _Begin:
    files: Sequence[RemoteFile]


@dataclass(frozen=True)
class _Fetch:
    files: Sequence[RemoteFile]


class Crew:
    """The processes, as their parent sees them. Make it as soon as there is the source."""

    def __init__(self, source: Source, request: Request) -> None:
        context = multiprocessing.get_context("fork")
        self._processes: list[BaseProcess] = []
        self.whole: set[str] = set()
        """The paths of what `begin` made whole."""
        count = min(_cores() * _OF_A_CORE, _MOST)
        ends: list[list[Connection[Any, Any]]] = []
        for number in range(count):
            pipes = [context.Pipe() for _ in range(HANDS // count)]
            member = _Member(source, request, number)
            process = context.Process(
                target=member.run,
                args=([theirs for _, theirs in pipes], os.getpid()),
                name=f"fetch-{number}",
                daemon=True,
            )
            process.start()
            self._processes.append(process)
            for _, theirs in pipes:
                theirs.close()
            ends.append([ours for ours, _ in pipes])
        self._pipes = [pipe for turn in zip(*ends, strict=True) for pipe in turn]
        """In turns, so that a few large files are shared out to all."""

    def hold(self, lock: int) -> None:
        """Has all hold the volume's lock, an open handle, for as long as they live."""
        for pipe in self._pipes:
            pipe.send(_Hold())
            send_handle(pipe, lock, None)

    def end(self) -> None:
        """Sends all away, and waits until they are gone: nothing of the volume is open in them then."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()

    def probe(self, files: Sequence[RemoteFile]) -> list[RemoteFile]:
        """Has the request's source asked about each file; in the same order.

        Raises:
            LoadError: the first failure.
        """
        found: list[RemoteFile] = self._ask(_Probe, files)
        return found

    def begin(self, files: Sequence[RemoteFile], progress: Counter) -> list[RemoteFile]:
        """As `probe`, by fetching the beginning of each file into the request's staging folder: that must be empty.

        Raises:
            LoadError: the first failure; everything fetched is kept.
        """
        found: list[tuple[RemoteFile, bool]] = self._ask(_Begin, files, progress)
        self.whole |= {file.path for file, whole in found if whole}
        return [file for file, _ in found]

    def _ask(self, kind: type[_Probe | _Begin], files: Sequence[RemoteFile], progress: Counter | None = None) -> Any:
        parts = [files[start : start + _PROBES] for start in range(0, len(files), _PROBES)]
        # From far places in turns: two that make files in one folder wait for each other.
        share = max(1, -(-len(parts) // len(self._pipes)))
        turns = [part for first in range(share) for part in range(first, len(parts), share)]
        idle: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(len(self._pipes)):
            idle.put(number)

        def ask(part: int) -> Any:
            number = idle.get()
            try:
                return self._order(number, kind(parts[part]), progress)
            finally:
                idle.put(number)

        with ThreadPoolExecutor(len(self._pipes)) as pool:
            found = dict(zip(turns, pool.map(ask, turns), strict=True))
        return [answer for part in range(len(parts)) for answer in found[part]]

    def hands(self, progress: Counter) -> list[Hand]:
        """Those of all processes: files of the source go into the request's staging folder."""

        def fetch(number: int, files: Sequence[RemoteFile]) -> list[Entry]:
            entries: list[Entry] = self._order(number, _Fetch(files), progress)
            return entries

        return [partial(fetch, number) for number in range(len(self._pipes))]

    def _order(self, number: int, order: _Probe | _Begin | _Fetch, progress: Counter | None) -> Any:
        pipe = self._pipes[number]
        try:
            pipe.send(order)
            while isinstance(answer := pipe.recv(), _Counted):
                if progress is not None:
                    progress.fetched(answer.fetched)
                    progress.kept(answer.kept)
                    progress.whole(answer.whole)
        except (EOFError, OSError):
            message = "A process of the download was ended from outside, perhaps for want of memory."
            raise LoadError("Interrupted", message, retryable=True, here=False) from None
        if isinstance(answer, LoadError):
            raise answer
        return answer


class _Teller:
    """A `Counter` whose counts go to the parent, now and then."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe = pipe
        self._fetched = self._kept = self._whole = 0
        self._told = 0.0

    def fetched(self, count: int) -> None:
        self._fetched += count
        self._now_and_then()

    def kept(self, count: int) -> None:
        self._kept += count

    def whole(self, count: int = 1) -> None:
        self._whole += count
        self._now_and_then()

    def _now_and_then(self) -> None:
        if time.monotonic() - self._told >= _TELL_SECONDS:
            self.tell()

    def tell(self) -> None:
        self._pipe.send(_Counted(self._fetched, self._kept, self._whole))
        self._fetched = self._kept = self._whole = 0
        self._told = time.monotonic()


class _Member:
    """One of the processes, from inside: a thread for each of its pipes."""

    def __init__(self, source: Source, request: Request, number: int) -> None:
        self._source = source
        self._staging = Staging(request.state, request.key, number)
        self._access = Access(request.mode, request.uid, request.gid)
        self._patience = request.patience

    def run(self, pipes: Sequence[Connection[Any, Any]], parent: int) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent says what there is to say
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return
        threads = [threading.Thread(target=self._serve, args=(pipe,)) for pipe in pipes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _serve(self, pipe: Connection[Any, Any]) -> None:
        teller = _Teller(pipe)
        with suppress(EOFError, OSError):  # the parent is gone
            while (order := pipe.recv()) is not None:
                if isinstance(order, _Hold):
                    recv_handle(pipe)
                    continue
                try:
                    result: Any = self._carry_out(order, teller)
                except LoadError as error:
                    result = error
                except Exception as error:
                    result = unexpected(error)
                teller.tell()
                pipe.send(result)

    def _carry_out(self, order: _Probe | _Begin | _Fetch, teller: _Teller) -> Any:
        if isinstance(order, _Fetch):
            return Fetcher(self._source, self._staging, teller, self._access, self._patience).fetch(order.files)
        assert isinstance(self._source, Prober)
        if isinstance(order, _Begin):
            return begin(self._source, self._staging, teller, order.files)
        return [self._source.probe(file) for file in order.files]


def _cores() -> int:
    """How many this process may use at once: a container's limit is a share of time, which no affinity shows."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)
