"""Running other programs in the foreground."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from localcluster.errors import LauncherError


def attempt(*argv: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program and return how it went; a program that is not there gives 127, as in a shell."""
    words = [str(a) for a in argv]
    try:
        return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))


def run(*argv: str | Path, stdin: str | None = None) -> str:
    """Run a program that must succeed; its output. A failure says what the program said."""
    result = attempt(*argv, stdin=stdin)
    if result.returncode:
        words = " ".join(str(a) for a in argv)
        raise LauncherError(f"{words}: exit status {result.returncode}\n{(result.stderr or result.stdout)[-4000:]}")
    return result.stdout


def shown(*argv: str | Path) -> None:
    """Run a program whose own output the user should see, on stderr."""
    words: Sequence[str] = [str(a) for a in argv]
    # Its stdout goes to our stderr: ours is for answers that scripts read.
    status = subprocess.run(words, stdout=2, check=False).returncode
    if status:
        raise LauncherError(f"{' '.join(words)}: exit status {status}")
