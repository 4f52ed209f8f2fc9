"""Whether the kernel killed something in this container for want of memory, from its control group's own counter."""

from __future__ import annotations

from pathlib import Path

COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))


def oom_kills(files: tuple[Path, ...] = COUNTERS) -> int:
    """How many processes of this control group (version 2 or 1) were killed so far; 0 where that can't be read."""
    for file in files:
        try:
            lines = file.read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == "oom_kill" and value.strip().isdigit():
                return int(value)
    return 0
