"""The process: signals, one line a second, the termination message, the exit code.

The download runs in a thread of its own; the main thread only waits and tells. So a SIGTERM is answered at once,
whatever the download is waiting for, and needs no clean-up: the staging folder is good after a kill at any moment.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from modelyard.loader.console import say
from modelyard.loader.content import Builder, Source
from modelyard.loader.credentials import Credentials
from modelyard.loader.crew import Crew
from modelyard.loader.failure import EXIT_DONE, LoadError, unexpected
from modelyard.loader.load import Outcome, load
from modelyard.loader.progress import Progress, Reading
from modelyard.loader.report import Reporter
from modelyard.loader.request import Request, parse
from modelyard.loader.sources import AS_ONE, NOTHING_TO_COPY, make

_MESSAGE_CHARACTERS = 512
_COLLECT_EACH = 50_000
"""Objects. A long list of files is many of them, none of which is garbage, and each search for some reads them all."""


def main(argv: Sequence[str]) -> int:
    """Runs `modelyard load` with these arguments and gives the exit code.

    0 done; 64 when another run can't help; 75 when it can; 1 for what nobody foresaw.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _leave(LoadError("Interrupted", "The download was stopped.", retryable=True)))
    os.umask(0o022)
    gc.set_threshold(_COLLECT_EACH)
    progress = Progress()
    try:
        request = parse(argv)
        source = None if request.type in NOTHING_TO_COPY else make(request, Credentials(request.secrets))
        crew = _crew(request, source)
        reporter = Reporter(os.environ)
        outcome = _watch(lambda: load(request, source, crew, progress), progress, reporter)
    except LoadError as error:
        _leave(error)
    reporter.offer(progress.read())
    reporter.close()
    _terminate(
        {
            "result": "done",
            "resolvedRevision": outcome.revision[:256],
            "bytes": outcome.bytes,
            "files": outcome.files,
            "digest": outcome.digest,
        }
    )
    return EXIT_DONE


def _crew(request: Request, source: Source | Builder | None) -> Crew | None:
    if source is None or isinstance(source, Builder) or request.type in AS_ONE:
        return None
    return Crew(source, request)


def _watch(download: Callable[[], Outcome], progress: Progress, reporter: Reporter) -> Outcome:
    """Starts the download and tells how far it is until it ends."""
    ended: list[Outcome | LoadError] = []

    def run() -> None:
        try:
            ended.append(download())
        except LoadError as error:
            ended.append(error)
        except BaseException as error:
            ended.append(unexpected(error))

    thread = threading.Thread(target=run, name="load", daemon=True)
    thread.start()
    last: Reading | None = None
    due = time.monotonic() + 1
    while True:
        thread.join(max(0.0, due - time.monotonic()))
        if not thread.is_alive():
            break
        due += 1
        reading = progress.read()
        reporter.offer(reading)
        if last is None or (reading.bytes, reading.files, reading.total_files) != (
            last.bytes,
            last.files,
            last.total_files,
        ):
            say(reading.line())
        last = reading
    result = ended[0]
    if isinstance(result, LoadError):
        raise result
    return result


def _leave(error: LoadError) -> Any:
    """Ends the process at once with a failure: threads that still wait on a server are not waited for."""
    say(f"{error.reason}: {error.message}")
    _terminate(
        {
            "result": "failed",
            "reason": error.reason,
            "message": error.message[:_MESSAGE_CHARACTERS],
            "retryable": error.retryable,
        }
    )
    os._exit(error.exit_code)


def _terminate(message: dict[str, Any]) -> None:
    """Writes the termination message, where the kubelet mounted a file for it."""
    path = os.environ.get("MODELYARD_TERMINATION_LOG", "/dev/termination-log")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
    except OSError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(json.dumps(message, ensure_ascii=False).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
