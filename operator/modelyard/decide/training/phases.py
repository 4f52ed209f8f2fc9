"""What the conditions say in each stage of a run. Pure.

kstatus reads `Reconciling` and `Stalled`: a run that waits for data is in progress, one that was handed over (queued,
running, paused) is current, one that failed or can't be understood is failed. There is no `Ready`.
"""

from __future__ import annotations

from modelyard.decide.training.draft import Draft


def invalid(draft: Draft, reason: str, message: str) -> None:
    """The spec can't be run as it is; an edit, or what it names, mends it."""
    draft.enter("Validating", reason, message)
    draft.conditions.set("Validated", "False", reason, message)
    draft.conditions.set("DataReady", "Unknown", "NotValidated", "The spec is not valid yet.")
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=False, stalled=True)


def checking(draft: Draft, reason: str, message: str) -> None:
    """Something that the spec names has not been looked at yet."""
    draft.enter("Pending", reason, message)
    draft.conditions.set("Validated", "Unknown", reason, message)
    draft.conditions.set("DataReady", "Unknown", "NotValidated", "The spec is being checked.")
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=True, stalled=False)


def preparing(draft: Draft, reason: str, message: str, *, failed: bool) -> None:
    """The spec is right, and what it reads is not there yet; `failed`: it does not come by itself."""
    draft.enter("Preparing", reason, message)
    validated(draft)
    draft.conditions.set("DataReady", "False", reason, message)
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=not failed, stalled=failed)


def unfit(draft: Draft, reason: str, message: str) -> None:
    """What the run reads is there, and the run can't work on it as it is; an edit mends it."""
    draft.enter("Validating", reason, message)
    data_ready(draft)
    draft.conditions.set("Validated", "False", reason, message)
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=False, stalled=True)


def analyzing(draft: Draft, reason: str, message: str, *, stalled: bool = False) -> None:
    """What the run reads is looked at before anything is paid for."""
    draft.enter("Analyzing", reason, message)
    data_ready(draft)
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=not stalled, stalled=stalled)


def awaiting(draft: Draft, message: str) -> None:
    """A person is asked; nothing is held, and nothing happens until they answer."""
    draft.enter("AwaitingApproval", "AwaitingApproval", message)
    data_ready(draft)
    _not_running(draft, "NotStarted", "The run has not started.")
    _tools(draft, reconciling=False, stalled=False)


def committed(draft: Draft, phase: str, reason: str, message: str, *, handed_over: bool, stalled: bool = False) -> None:
    """An attempt is being made, waits, or runs."""
    draft.enter(phase, reason, message)
    data_ready(draft)
    if phase == "Running":
        draft.conditions.set("Running", "True", reason, message)
    else:
        draft.conditions.set("Running", "False", reason, message)
    draft.conditions.set("Succeeded", "Unknown", "InProgress", "The run is not over.")
    draft.conditions.set("Suspended", "False", "NotSuspended", "The run is not suspended.")
    _tools(draft, reconciling=not handed_over and not stalled, stalled=stalled)


def suspended(draft: Draft, reason: str, message: str) -> None:
    """Nothing is held, and nothing happens until the pause ends."""
    draft.enter("Suspended", reason, message)
    _not_running(draft, reason, message)
    draft.conditions.set("Suspended", "True", reason, message)
    _tools(draft, reconciling=False, stalled=False)


def succeeded(draft: Draft, reason: str, message: str) -> None:
    """The run is over, and its result is on the output volume."""
    draft.enter("Succeeded", reason, message)
    _ended(draft, "True", reason, message)
    _tools(draft, reconciling=False, stalled=False)


def failed(draft: Draft, reason: str, message: str) -> None:
    """The run is over, and there is no result."""
    draft.enter("Failed", reason, message)
    _ended(draft, "False", reason, message)
    _tools(draft, reconciling=False, stalled=True)


def data_ready(draft: Draft) -> None:
    """The spec is right, and all that the run reads is there."""
    validated(draft)
    draft.conditions.set("DataReady", "True", "DataReady", "All that the run reads is there.")


def refused_later(draft: Draft, message: str) -> None:
    """An edit of the committed run asks for something that can't be done; the run goes on without it."""
    draft.conditions.set("Validated", "False", "NotSupported", message)


def terminal(draft: Draft) -> None:
    """A run that is over stays what it was."""
    _tools(draft, reconciling=False, stalled=draft.phase == "Failed")


def validated(draft: Draft) -> None:
    """The spec is right."""
    draft.conditions.set("Validated", "True", "Valid", "The spec can be run.")


def _not_running(draft: Draft, reason: str, message: str) -> None:
    draft.conditions.set("Running", "False", reason, message)
    draft.conditions.set("Succeeded", "Unknown", "InProgress", "The run is not over.")
    draft.conditions.set("Suspended", "False", "NotSuspended", "The run is not suspended.")


def _ended(draft: Draft, succeeded: str, reason: str, message: str) -> None:
    validated(draft)
    draft.conditions.set("Running", "False", reason, message)
    draft.conditions.flag("Succeeded", succeeded == "True", reason, message)
    draft.conditions.set("Suspended", "False", "NotSuspended", "The run is over.")


def _tools(draft: Draft, *, reconciling: bool, stalled: bool) -> None:
    reason, message = str(draft.status["reason"]), str(draft.status["message"])
    draft.conditions.flag("Reconciling", reconciling, reason, message if reconciling else "")
    draft.conditions.flag("Stalled", stalled, reason, message if stalled else "")
