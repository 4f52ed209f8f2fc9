"""From how the program ended to the agent's exit code, a reason and a sentence. Pure.

Exit code 0 after a stop request means "stopped" unless the program said that it is done: a stock Hugging Face
`Trainer` saves a checkpoint on SIGTERM and exits 0 in the middle of its run. Under torchrun the launcher exits 1
whatever its processes did, so there their own words and exit codes decide: our core says "failed" only of bad input.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import signs
from .child import Exit
from .codes import BAD_INPUT, DONE, ERROR, STOPPED, Reason, Verdict

MAX_MESSAGE = 1024
_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


def judge(
    end: Exit,
    said: Mapping[str, Any],
    done: bool,
    step: int | None,
    out_of_memory: bool,
    launcher: bool,
    grace: float,
    lines: Sequence[str] = (),
    ranks: Iterable[int] = (),
) -> Verdict:
    """The verdict. `said`: the program's last `result`; `done`: it said so; `lines`: the last ones of its stderr.

    `launcher`: `end` is torchrun's, not the program's; `ranks` are the exit codes of its processes that are known.
    """
    result = _of_ranks(said, set(ranks)) if launcher and end.code != DONE else None
    if end.code == DONE and not end.signal:
        if done or not end.asked:
            return Verdict(DONE, "done", Reason.COMPLETED, _message(said) or "The run is finished.")
        return _stopped(said, step)
    if done and result == "done":
        return Verdict(DONE, "done", Reason.COMPLETED, _message(said) or "The run is finished.")
    if end.code == BAD_INPUT or result == "failed":
        message = _message(said) or "The program refused its input: its last lines say why."
        return Verdict(BAD_INPUT, "failed", _reason(said) or Reason.BAD_INPUT, message)
    if end.code == STOPPED or result == "stopped":
        return _stopped(said, step)
    if end.killed:
        message = (
            f"The program did not end within the grace period of {grace:g} s after the stop request: it was killed."
        )
        return Verdict(ERROR, "failed", Reason.GRACE_EXCEEDED, message + _after(step))
    if out_of_memory or signal.SIGKILL in (end.signal, end.code - 128):
        message = (
            "The program was killed by the kernel, most likely out of memory: raise spec.compute.memory or make the "
            "batch smaller."
        )
        return Verdict(ERROR, "failed", Reason.OUT_OF_MEMORY, message + _after(step))
    if end.asked and signal.SIGTERM in (end.signal, end.code - 128):
        message = "The program ended on the stop request without saving: it goes on from its last checkpoint."
        return Verdict(STOPPED, "stopped", Reason.STOPPED, message + _after(step))
    if (sign := signs.of(lines)) is not None:
        return Verdict(ERROR, "failed", sign[0], sign[1] + _after(step))
    ending = f"was ended by signal {_name(end.signal)}" if end.signal else f"ended with exit code {end.code}"
    message = _message(said) or f"The program {ending}.{_after(step)}"
    return Verdict(ERROR, "failed", _reason(said) or Reason.ERROR, message)


def _of_ranks(said: Mapping[str, Any], codes: set[int]) -> str | None:
    """What several processes ended with, as one: bad input of any counts, and a stop only if none broke."""
    result = said.get("result")
    if result == "failed" or BAD_INPUT in codes:
        return "failed"
    if codes - {DONE, STOPPED}:
        return None
    return "stopped" if STOPPED in codes else result


def _stopped(said: Mapping[str, Any], step: int | None) -> Verdict:
    message = _message(said) or f"The program stopped when asked to.{_after(step)}"
    return Verdict(STOPPED, "stopped", Reason.STOPPED, message)


def _after(step: int | None) -> str:
    return "" if step is None else f" It had reached step {step}."


def _message(said: Mapping[str, Any]) -> str:
    message = said.get("message")
    return message.strip()[:MAX_MESSAGE] if isinstance(message, str) else ""


def _reason(said: Mapping[str, Any]) -> str | None:
    reason = said.get("reason")
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
