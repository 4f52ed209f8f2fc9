"""`python -m support.killable ARGS…` is `modelyard load ARGS…`.

With KILL_AT_CHANGE=n each of its processes is killed just before the n-th change that it makes to the file system.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from modelyard.loader.main import main

_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "shutil.rmtree"}
_at = int(os.environ.get("KILL_AT_CHANGE", "0"))
_seen = 0
_lock = threading.Lock()


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    global _seen
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if event in _CHANGES or writes:
        with _lock:
            _seen += 1
            if _seen == _at:
                os.kill(os.getpid(), signal.SIGKILL)


if _at:
    sys.addaudithook(_count)
sys.exit(main(sys.argv[1:]))
