"""The termination message: at most 4,096 bytes of JSON that survive the pod, trimmed so that what matters stays.

What goes first when there is no room: the oldest last lines, the long lists and maps of the summary (the complete
metadata is a file of the output volume), the end of the sentence. The result, the step, the checkpoint and the
identity of what was made always fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checkpoints import Checkpoint
from .codes import Verdict

LIMIT = 4096
_SUMMARY = [
    "path",
    "kind",
    "bytes",
    "files",
    "digest",
    "weights",
    "recipe",
    "algorithm",
    "determinism",
    "target",
    "trainSamples",
    "testSamples",
    "trainingSeconds",
    "metrics",
    "params",
    "classes",
    "features",
]
_LISTS = {"features": 64, "classes": 32}
_FIRST_OUT = ("features", "classes", "params", "metrics", "target", "algorithm", "weights")
_SHORT = 64


def build(
    verdict: Verdict,
    step: int | None,
    resumed_from: int | None,
    last: Checkpoint | None,
    output: Path,
    summary: Mapping[str, Any],
    lines: list[str],
) -> bytes:
    """The message, UTF-8. `summary` is used for a run that is done, `lines` for one that failed."""
    message: dict[str, Any] = {
        "result": verdict.result,
        "reason": verdict.reason,
        "message": verdict.message,
        "step": step,
        "resumedFrom": resumed_from,
    }
    if last:
        message["checkpoint"] = {"step": last.step, "path": last.path.relative_to(output).as_posix()}
    if verdict.result == "done" and summary:
        message["summary"] = _known(summary)
    if verdict.result == "failed" and lines:
        message["lastLines"] = list(lines)
    return _fit(message)


def write(path: Path, content: bytes) -> bool:
    """Writes the message in place: the kubelet has mounted that very file. False: it could not be written."""
    try:
        with path.open("wb") as file:
            file.write(content)
    except OSError:
        return False
    return True


def _known(summary: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: summary[name] for name in _SUMMARY if summary.get(name) is not None}
    for name, most in _LISTS.items():
        if isinstance(known.get(name), list):
            known[name] = known[name][:most]
    return known


def _encode(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode("utf-8", "replace")


def _fit(message: dict[str, Any]) -> bytes:
    lines = message.get("lastLines", [])
    while lines and len(_encode(message)) > LIMIT:
        lines.pop(0)
    if not lines:
        message.pop("lastLines", None)
    summary = message.get("summary", {})
    while len(_encode(message)) > LIMIT and (left := [name for name in _FIRST_OUT if name in summary]):
        _halve(summary, max(left, key=lambda name: len(_encode({"": summary[name]}))))
    while len(_encode(message)) > LIMIT and (texts := [(h, n) for h in (summary, message) for n in h if _long(h[n])]):
        holder, name = max(texts, key=lambda place: len(str(place[0][place[1]])))
        text = str(holder[name])
        holder[name] = text[: len(text) // 2]
    return _encode(message)


def _long(value: Any) -> bool:
    return not isinstance(value, dict) and len(str(value)) > _SHORT


def _halve(summary: dict[str, Any], name: str) -> None:
    value = summary[name]
    if isinstance(value, dict) and len(value) > 1:
        summary[name] = dict(list(value.items())[: len(value) // 2])
    elif isinstance(value, (list, str)) and len(value) > 1:
        summary[name] = value[: len(value) // 2]
    else:
        del summary[name]
