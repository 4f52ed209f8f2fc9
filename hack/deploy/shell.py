"""Run other programs: quietly when they succeed, with all that they said when they don't."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class CommandError(Exception):
    """A program failed; the text is the command and what it printed."""


def run(
    command: Sequence[str | Path], *, stdin: str | None = None, env: dict[str, str] | None = None, watched: bool = False
) -> str:
    """What the program printed on stdout. Raises CommandError if it exits with anything but 0.

    `watched`: what it says on stderr is for the person who watches.
    """
    words = [str(word) for word in command]
    everything = {**os.environ, **(env or {})}
    said = None if watched else subprocess.PIPE
    done = subprocess.run(
        words, input=stdin, env=everything, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=said, check=False
    )
    if done.returncode != 0:
        raise CommandError(f"{' '.join(words[:6])} … failed with {done.returncode}:\n{done.stdout}{done.stderr or ''}")
    return done.stdout


def show(command: Sequence[str | Path], *, env: dict[str, str] | None = None) -> None:
    """Run a program whose output is for the person who watches. Raises CommandError if it fails."""
    words = [str(word) for word in command]
    sys.stdout.flush()
    done = subprocess.run(words, env={**os.environ, **(env or {})}, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise CommandError(f"{' '.join(words[:6])} … failed with {done.returncode}")


def launcher(*words: str | Path) -> list[str | Path]:
    """The command line of our own cluster launcher."""
    return [sys.executable, "-m", "localcluster", *words]
