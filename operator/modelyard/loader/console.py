"""Lines for people on standard output. Unbuffered and safe in a signal handler."""

from __future__ import annotations

import os


def say(line: str) -> None:
    """Writes one line; control characters, which a file's name may hold, are shown as `?`."""
    clean = "".join(character if character.isprintable() else "?" for character in line)
    data = (clean + "\n").encode("utf-8", "replace")
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return  # nobody reads: that is no reason to stop a download


def size(count: float) -> str:
    """Bytes in binary units, such as `86.7 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return "1 file" if count == 1 else f"{count} files"


def span(seconds: float) -> str:
    """A duration, such as `1 h 5 min` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"
