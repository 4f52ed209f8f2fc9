"""One of several processes under torchrun: runs our training core and leaves its exit code in a file.

torchrun exits 1 whatever its processes did, and only the first of them reports how a run ended; the agents of the other
nodes know by this file whether theirs stopped after a checkpoint, refused the input, or broke.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

CORE = "modelyard_training.core"
FOLDER = "MODELYARD_RANKS"


def main() -> int:
    """Runs the core as `python -m` does; returns its exit code."""
    code = 1
    try:
        runpy.run_module(CORE, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        if folder := os.environ.get(FOLDER):
            Path(folder, os.environ.get("LOCAL_RANK", "0")).write_text(str(code))
    return code


def codes(folder: Path) -> Iterable[int]:
    """The exit codes of this node's processes that ended by themselves."""
    try:
        texts = [file.read_text() for file in folder.iterdir()]
    except OSError:
        return []
    return [int(text) for text in texts if text.isdigit()]


if __name__ == "__main__":
    sys.exit(main())
