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

TOKENS = 2000
"""Parsed events that are remembered."""


@dataclass
class Shared:
    """What all followers have in common."""

    host: str
    port: int
    headers: bytes
    parsed: dict[bytes, tuple[str, Any]] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    connects: int = 0
    resets: int = 0
    refused: int = 0

    def parse(self, frame: bytes) -> tuple[str, Any]:
        """The event's name and what it says: for a change op, key, label `at` and id."""
        found = self.parsed.get(frame)
        if found is None:
            fields = dict(line.partition(b": ")[::2] for line in frame.split(b"\n") if line)
            data = json.loads(fields.get(b"data", b"null"))
            name = fields.get(b"event", b"").decode()
            if name == "change":
                obj = data["object"]
                labels = obj.get("labels") or {}
                data = (data["op"], f"{obj['namespace']}/{obj['name']}", labels.get("at"))
            found = (name, (data, fields.get(b"id")))
            if len(self.parsed) > TOKENS:
                self.parsed.clear()
            self.parsed[frame] = found
        return found


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
            chunk = (await reader.readexactly(size + 2))[:-2]
            *frames, rest = (rest + chunk).split(b"\n\n")
            now = time.time()
            for frame in frames:
                self._take(frame, now)
            if self.settling or not self.synced:
                continue
            if self.habit == "stalls":
                await asyncio.sleep(random.uniform(5, 12))
            elif self.habit == "reconnects" and time.monotonic() > until:
                return

    def _take(self, frame: bytes, now: float) -> None:
        name, (data, event_id) = self.shared.parse(frame)
        if event_id:
            self.last = event_id
        if name == "reset":
            self.state.clear()
            self.synced = False
            self.shared.resets += 1
        elif name == "synced":
            self.synced = True
        elif name == "change":
            op, key, at = data
            if op == "put":
                self.state[key] = at
                if at and self.synced and self.habit == "reads":
                    self.shared.latencies.append(now - int(at) / 1000)
            else:
                self.state.pop(key, None)


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
            shared.latencies.clear()
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
    values = sorted(shared.latencies)
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
