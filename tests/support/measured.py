"""`python -m support.measured FILE ARGS…` is `modelyard load ARGS…`; its largest resident set goes to FILE.

With KILL_AT_CHANGE=n it kills itself just before the n-th change that it makes to the file system.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any, NoReturn

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


def _note() -> None:
    with open("/proc/self/status") as status:  # getrusage would count what the parent held before the exec
        (kib,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    with open(sys.argv[1], "w") as file:
        file.write(str(int(kib) * 1024))


def _exit(status: int) -> NoReturn:
    _note()
    _really(status)


_really = os._exit
os._exit = _exit
if _at:
    sys.addaudithook(_count)
code = main(sys.argv[2:])
_note()
sys.exit(code)
