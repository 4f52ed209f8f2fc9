"""A training's log as it is written, over all its attempts, until the training is over.

Asked for again and again from the last second on: so it is the same by the status API and by the cluster, it outlives
broken connections, and what was shown is known by its time and text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from modelyard.kubectl.source import BusyError, LogPart, MissingError, Source

OVER: Final = ("Succeeded", "Failed")
MOST: Final = 2000

Line = tuple[str, str]


def followed(
    source: Source, namespace: str, training: str, lines: int, pause: Callable[[], None]
) -> Iterator[tuple[bool, str]]:
    """Lines as they come, True before those that are not the log's own. Raises SourceError."""
    pod, last, told = "", None, False
    while True:
        # Asked for first: what was written before the training was over is then in what is read next.
        over = _over(source, namespace, training)
        part = _part(source, namespace, training, MOST if last else lines, last)
        if part is not None and part.pod != pod:
            if pod:
                yield True, f"[the next attempt: pod {part.pod}]"
                part = _part(source, namespace, training, MOST, None) or part
            pod, last = part.pod, None
        if part is not None:
            fresh = _after(part.lines, last)
            if part.cut and last is not None and len(fresh) == len(part.lines):
                yield True, "[lines are left out: they come faster than they can be read]"
            for _, text in fresh:
                yield False, text
            last = fresh[-1] if fresh else last
            over = over and not (fresh and part.cut)
        elif over and not pod:
            raise MissingError("There is no pod of that training any more.")
        elif not told and not pod:
            told = True
            yield True, "[waiting for the training's pod]"
        if over:
            return
        pause()


def _part(source: Source, namespace: str, training: str, lines: int, last: Line | None) -> LogPart | None:
    """None while there is no pod, no log, or nobody who could be asked."""
    try:
        return source.logs(namespace, training, lines, f"{last[0][:19]}Z" if last and _is_utc(last[0]) else "")
    except (MissingError, BusyError):
        return None


def _over(source: Source, namespace: str, training: str) -> bool:
    try:
        status = source.detail("trainings", namespace, training).get("status") or {}
    except BusyError:
        return False
    return status.get("phase") in OVER


def _after(lines: list[Line], last: Line | None) -> list[Line]:
    """What comes behind the line that was shown last; all of them if it is not there."""
    places = [at for at, line in enumerate(lines) if line == last]
    return lines[places[-1] + 1 :] if places else lines


def _is_utc(time: str) -> bool:
    return time.endswith("Z") and len(time) >= 20
