"""`make bench-load`: the loader beside `hf download`, rclone and aria2c, from one nginx, in one run.

2 GiB in 4 files, then 20,000 files of 8 KiB. The server is as plain as can be (static files, among them the hub's
answers), so that the client is what is measured. Each run goes into an empty folder and ends when its bytes are on the
disk: the loader sees to that itself, for the others `syncfs` is added. The loader checks a sha256 of every byte on the
way, the others check nothing. The clients take turns, but for aria2c and `hf`, which come last: they delete as many
files as they make, and for minutes after that ext4 is slow to make new ones. The median of BENCH_LOAD_ROUNDS counts,
and who needs more than a minute for a turn has only one. Then the loader is killed at half, and what the server sends
in all is counted.
BENCH_LOAD_BYTES, BENCH_LOAD_LARGE, BENCH_LOAD_FILES and BENCH_LOAD_SMALL change the sizes; needs about three times
BENCH_LOAD_BYTES on the disk, and ten minutes of two idle cores.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.loader.disk import sync
from support.bench import Row, at_most, less_is_better, more_is_better, plain, publish
from support.loading import PATHS, held, memory, until
from support.nginx import Nginx
from support.programs import need

TOTAL = int(os.environ.get("BENCH_LOAD_BYTES", str(2 << 30)))
LARGE = int(os.environ.get("BENCH_LOAD_LARGE", "4"))
FILES = int(os.environ.get("BENCH_LOAD_FILES", "20000"))
SMALL = int(os.environ.get("BENCH_LOAD_SMALL", "8192"))
ROUNDS = int(os.environ.get("BENCH_LOAD_ROUNDS", "3"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MEMORY = 256 << 20
SLOW_SECONDS = 60
MANY_FILES = 1_000
MEMORY_EACH = 10
"""Each so many looks whether a client has ended its memory is read, which costs it something."""
AT_ONCE = "8"
HUB = "hf download"
LAST = ("aria2c", HUB)


@dataclass(frozen=True)
class Cost:
    """What one run took: seconds, CPU seconds of all its processes, the most memory that they had together in bytes."""

    seconds: float
    cpu: float
    peak: int


def main() -> None:
    """Runs it all; the figures go to stdout and to build/bench/load.json."""
    need("nginx", "rclone", "aria2c")
    with tempfile.TemporaryDirectory(prefix="bench-load-") as folder:
        root, target = Path(folder, "www"), Path(folder, "target")
        sizes = {"large": [TOTAL // LARGE] * LARGE, "small": [SMALL] * FILES}
        for name in sizes:
            repository(root, name, sizes[name])
        server = Nginx(Path(folder), root)
        try:
            rows = []
            for name in sizes:
                rows += compare(server, root, target, name, sizes[name])
            rows += killed(server, target)
        finally:
            server.stop()
    publish("load", rows)


def repository(root: Path, name: str, sizes: Sequence[int]) -> None:
    """A repository as static files: the content, and what a hub would answer about it."""
    resolve = root / "org" / name / "resolve" / COMMIT
    tree = []
    for number, size in enumerate(sizes):
        path = f"{number % 50:02}/{number:06}.bin"
        (resolve / path).parent.mkdir(parents=True, exist_ok=True)
        state, chance, left = hashlib.sha256(), random.Random(number), size
        with open(resolve / path, "wb") as file:
            while left:
                chunk = chance.randbytes(min(left, 1 << 20))
                file.write(chunk)
                state.update(chunk)
                left -= len(chunk)
        about = {"oid": state.hexdigest(), "size": size, "pointerSize": 134}
        tree.append({"type": "file", "path": path, "size": size, "oid": state.hexdigest()[:40], "lfs": about})
    api = root / "api/models/org" / name
    info = {"_id": "1", "id": f"org/{name}", "sha": COMMIT, "private": False, "tags": [], "downloads": 0, "likes": 0}
    told = {**info, "siblings": [{"rfilename": item["path"]} for item in tree]}
    for path, content in ((f"revision/{COMMIT}", told), ("revision/main", told), (f"tree/{COMMIT}", tree)):
        (api / path).parent.mkdir(parents=True, exist_ok=True)
        (api / path).write_text(json.dumps(content))
    urls = "".join(f"URL/org/{name}/resolve/{COMMIT}/{item['path']}\n  out={item['path']}\n" for item in tree)
    (root / f"{name}.list").write_text(urls)


def compare(server: Nginx, root: Path, target: Path, name: str, sizes: Sequence[int]) -> list[Row]:
    """All clients, one after the other, the whole round again as often as is asked for."""
    files = f"{server.url}/org/{name}/resolve/{COMMIT}/"
    listed = root.parent / f"{name}.list"
    listed.write_text((root / f"{name}.list").read_text().replace("URL/", f"{server.url}/"))
    aria2 = ["aria2c", "--quiet", "-j", AT_ONCE, "-x", "4", "-i", str(listed), "-d", str(target)]
    rclone = ["rclone", "copy", "--transfers", AT_ONCE, "--checkers", AT_ONCE, "--http-url", files]
    clients = {
        "ours, HUGGING_FACE": ours(target, "HUGGING_FACE", f"huggingface://org/{name}", endpoint=server.url),
        HUB: [sys.executable, "-m", "huggingface_hub.cli.hf", "download", f"org/{name}", "--local-dir", str(target)],
        "ours, HTTP": ours(target, "HTTP", files),
        "rclone": [*rclone, ":http:", str(target)],
        "aria2c": aria2,
    }
    costs: dict[str, list[Cost]] = {client: [] for client in clients}
    turns = [client for _ in range(ROUNDS) for client in clients if client not in LAST]
    turns += [client for client in LAST for _ in range(ROUNDS)]
    for client in turns:
        if any(cost.seconds > SLOW_SECONDS for cost in costs[client]):
            continue
        cost = run(clients[client], target, server.url, sum(sizes))
        costs[client].append(cost)
        spent = f"{cost.seconds:.1f} s, CPU {cost.cpu:.1f} s, {cost.peak >> 20} MiB"
        print(f"{name}, {len(costs[client])} of {ROUNDS}: {client} {spent}", flush=True)
    return told(name, {client: middle(costs[client]) for client in clients}, sizes)


def middle(costs: Sequence[Cost]) -> Cost:
    """Each figure's own median; of memory the most."""
    seconds, cpu = (
        statistics.median(kind) for kind in ([cost.seconds for cost in costs], [cost.cpu for cost in costs])
    )
    return Cost(seconds, cpu, max(cost.peak for cost in costs))


def told(name: str, costs: dict[str, Cost], sizes: Sequence[int]) -> list[Row]:
    """The rates beside the best of the others, then what they cost."""
    unit, amount = ("MiB/s", sum(sizes) / 2**20) if name == "large" else ("files/s", float(len(sizes)))
    what = f"{amount / 1024:.3g} GiB in {len(sizes)} files" if name == "large" else f"{len(sizes)} files of {SMALL} B"
    others = {client: cost for client, cost in costs.items() if not client.startswith("ours")}
    best = min(others, key=lambda client: others[client].seconds)
    rows = []
    for mine in ("ours, HUGGING_FACE", "ours, HTTP"):
        rate = amount / costs[mine].seconds
        kind = mine.partition(", ")[2]
        rows.append(more_is_better(f"{what}, {kind}", unit, rate, amount / others[best].seconds, best, 0.9))
        rows += [
            more_is_better(f"  beside {client}", unit, rate, amount / cost.seconds, client)
            for client, cost in others.items()
            if client != best
        ]
        like = HUB if kind == "HUGGING_FACE" else "rclone"
        rows.append(less_is_better("  CPU", "s", costs[mine].cpu, costs[like].cpu, like))
        rows.append(less_is_better("  memory", "MiB", costs[mine].peak / 2**20, costs[like].peak / 2**20, like))
        rows.append(at_most("  memory, bound", "MiB", costs[mine].peak / 2**20, MEMORY / 2**20))
    return rows


def killed(server: Nginx, target: Path) -> list[Row]:
    """Killed at half and run again: what the server sends twice, the median of as many turns."""
    sent = statistics.median(sent_with_a_kill(server, target) for _ in range(ROUNDS))
    return [
        at_most("fetched twice after a kill at half", "%", max(0.0, 100 * (sent - TOTAL) / TOTAL), 1.0),
        plain("  sent by the server in all", "MiB", sent / 2**20),
    ]


def sent_with_a_kill(server: Nginx, target: Path) -> int:
    """Bytes that left the server, those that the kill left unread in the connections included."""
    command = ours(target, "HUGGING_FACE", "huggingface://org/large", endpoint=server.url)
    empty(target)
    before = server.sent()
    process = subprocess.Popen(command, env=environment(target, server.url), stdout=subprocess.DEVNULL)
    until(lambda: process.poll() is not None or held(target) >= TOTAL // 2, "half of it", 600)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run(command, env=environment(target, server.url), stdout=subprocess.DEVNULL, check=True)
    sent = server.sent() - before
    empty(target)
    return sent


def ours(target: Path, kind: str, uri: str, **options: str) -> list[str]:
    """The loader's command line."""
    chosen = [f"--options={key}={value}" for key, value in options.items()]
    ids = [f"--mount-uid={os.getuid()}", f"--mount-gid={os.getgid()}"]
    place = ["--mount-path=/data", f"--mount-root={target}", "--mount-secrets=/nonexistent"]
    return [sys.executable, "-m", "modelyard.cli", "load", kind, uri, *chosen, *place, *ids]


def environment(target: Path, url: str) -> dict[str, str]:
    """For any of the clients: nothing but loopback, nothing kept elsewhere."""
    return {
        **os.environ,
        "PYTHONPATH": PATHS,
        "HF_ENDPOINT": url,
        "HF_HOME": str(target.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HOME": str(target.parent),
        "no_proxy": "*",
    }


def run(command: Sequence[str], target: Path, url: str, total: int) -> Cost:
    """One client into an empty folder, until the bytes are on the disk."""
    empty(target)
    peak, look = 0, 0
    began = time.monotonic()
    with open(target.parent / "output", "w+b") as output:
        process = subprocess.Popen(command, env=environment(target, url), stdout=output, stderr=subprocess.STDOUT)
        while True:
            if not look % MEMORY_EACH:
                peak = max(peak, memory(process.pid))
            look += 1
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(0.02)
        sync(target)
        took = time.monotonic() - began
        output.seek(0)
        text = output.read().decode(errors="replace")
    assert os.waitstatus_to_exitcode(status) == 0, f"{command[0]} failed: {text[-2000:]}"
    assert held(target) >= total, f"{command[0]} left {held(target)} of {total} bytes"
    empty(target)
    return Cost(took, usage.ru_utime + usage.ru_stime, peak)


def empty(target: Path) -> None:
    """An empty folder, and nothing of an earlier run that is still to be written.

    Many files are only put aside: where as many inodes have just been freed, ext4 needs several times as long for new
    ones.
    """
    aside = target.parent / "aside"
    aside.mkdir(exist_ok=True)
    for folder in (target, target.parent / "hf"):
        if sum(len(names) for _, _, names in os.walk(folder)) > MANY_FILES:
            folder.rename(aside / str(len(list(aside.iterdir()))))
        shutil.rmtree(folder, ignore_errors=True)
    target.mkdir()
    sync(target)


if __name__ == "__main__":
    main()
