"""Many followers of the stream in one process, each with the state that a UI would keep; told what to do on stdin.

Commands, a line each: `mark` forgets the latencies so far, `report` prints them, `settle SECONDS FILE` waits until
every follower's state is the one in FILE and prints how many are not. Events are parsed
once for all who get the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PIECES = 500
"""Parsed pieces of the stream that are remembered."""


@dataclass(frozen=True)
class Batch:
    """What one piece of the stream says: changes in order after the last reset in it, and where one stands then."""

    reset: bool
    synced: bool
    puts: dict[str, str | None]
    gone: tuple[str, ...]
    times: tuple[int, ...]
    last: bytes | None


@dataclass
class Shared:
    """What all followers have in common."""

    host: str
    port: int
    headers: bytes
    parsed: dict[bytes, Batch] = field(default_factory=dict)
    deliveries: list[tuple[float, tuple[int, ...]]] = field(default_factory=list)
    connects: int = 0
    resets: int = 0
    refused: int = 0

    def parse(self, piece: bytes) -> Batch:
        """Whole events. Most followers get the same bytes, so most are parsed once."""
        found = self.parsed.get(piece)
        if found is None:
            found = parse(piece)
            if len(self.parsed) > PIECES:
                self.parsed.clear()
            self.parsed[piece] = found
        return found


def parse(piece: bytes) -> Batch:
    """What whole events say."""
    reset = synced = False
    state: dict[str, tuple[str, str | None]] = {}
    last: bytes | None = None
    for frame in piece.split(b"\n\n"):
        fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n") if line)
        last = fields.get(b"id", last)
        name = fields.get(b"event")
        if name == b"reset":
            reset, synced = True, False
            state.clear()
        elif name == b"synced":
            synced = True
        elif name == b"change":
            data = json.loads(fields[b"data"])
            obj = data["object"]
            state[f"{obj['namespace']}/{obj['name']}"] = (data["op"], (obj.get("labels") or {}).get("at"))
    puts = {key: at for key, (op, at) in state.items() if op == "put"}
    gone = tuple(key for key, (op, _) in state.items() if op == "gone")
    return Batch(reset, synced, puts, gone, tuple(int(at) for at in puts.values() if at), last)


class Follower:
    """One follower. `habit`: reads, stalls (reads nothing for long, then on), or reconnects every few seconds."""

    def __init__(self, shared: Shared, habit: str) -> None:
        self.shared = shared
        self.habit = habit
        self.state: dict[str, str | None] = {}
        self.last: bytes | None = None
        self.settling = False
        self.synced = False

    async def run(self) -> None:
        """Follows for ever, connecting again with the last id."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._follow()
            await asyncio.sleep(random.uniform(0.2, 2.0))

    async def _follow(self) -> None:
        shared = self.shared
        reader, writer = await asyncio.open_connection(shared.host, shared.port, limit=256 * 1024)
        shared.connects += 1
        try:
            resume = b"Last-Event-ID: %b\r\n" % self.last if self.last else b""
            writer.write(b"GET /api/v1/events?kind=models HTTP/1.1\r\nHost: x\r\n" + shared.headers + resume + b"\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                shared.refused += 1
                return
            await self._read(reader)
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        rest, until = b"", time.monotonic() + random.uniform(2, 6)
        while True:
            size = int(await reader.readline(), 16)
            if size == 0:
                return
            rest += (await reader.readexactly(size + 2))[:-2]
            whole, end, rest = rest.rpartition(b"\n\n")
            if end:
                self._take(self.shared.parse(whole), time.time())
            if self.settling or not self.synced:
                continue
            if self.habit == "stalls":
                await asyncio.sleep(random.uniform(5, 12))
            elif self.habit == "reconnects" and time.monotonic() > until:
                return

    def _take(self, batch: Batch, now: float) -> None:
        self.last = batch.last or self.last
        if batch.reset:
            self.state.clear()
            self.synced = False
            self.shared.resets += 1
        elif self.synced and self.habit == "reads" and batch.times:
            self.shared.deliveries.append((now, batch.times))
        self.state.update(batch.puts)
        for key in batch.gone:
            self.state.pop(key, None)
        self.synced = self.synced or batch.synced


async def main(host: str, port: str, token: str, count: str, stalled: str, reconnecting: str) -> None:
    """Arguments: host, port, token, followers, of these stalled, of these reconnecting."""
    shared = Shared(host, int(port), f"Authorization: Bearer {token}\r\n".encode())
    habits = ["stalls"] * int(stalled) + ["reconnects"] * int(reconnecting)
    habits += ["reads"] * (int(count) - len(habits))
    followers = [Follower(shared, habit) for habit in habits]
    tasks = []
    for follower in followers:
        tasks.append(asyncio.create_task(follower.run()))
        await asyncio.sleep(0.02)
    while sum(f.synced for f in followers) < len(followers):  # noqa: ASYNC110 - a thousand flags, one look
        await asyncio.sleep(0.2)
    say({"synced": len(followers)})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, *rest = line.split()
        if word == "mark":
            shared.deliveries.clear()
        elif word == "report":
            say(report(shared))
        elif word == "settle":
            say(await settle(followers, float(rest[0]), json.loads(content(rest[1]))))
    for task in tasks:
        task.cancel()


async def settle(followers: list[Follower], seconds: float, expected: dict[str, str | None]) -> dict[str, Any]:
    """Everybody reads on; how many have not the expected state in time."""
    began = time.monotonic()
    for follower in followers:
        follower.settling = True
    while wrong := [f for f in followers if f.state != expected]:
        if time.monotonic() - began > seconds:
            break
        await asyncio.sleep(0.25)
    return {"different": len(wrong), "of": len(followers), "settledAfterSeconds": round(time.monotonic() - began, 2)}


def report(shared: Shared) -> dict[str, Any]:
    """Latencies in milliseconds, from before a change was sent to the API server until it was read here."""
    values = sorted(now - at / 1000 for now, times in shared.deliveries for at in times)
    at = (
        {name: round(1000 * values[int(part * (len(values) - 1))], 1) for name, part in PARTS.items()} if values else {}
    )
    counts = {"connects": shared.connects, "resets": shared.resets, "refused": shared.refused}
    return {"deliveries": len(values), "milliseconds": at, **counts}


def content(path: str) -> str:
    """What is in a file."""
    return Path(path).read_text()


PARTS = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


def say(value: Any) -> None:
    """One line to whoever started this."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], content(sys.argv[3]).strip(), *sys.argv[4:]))
