"""What can go wrong with a request to the API server, in the few ways that callers tell apart.

None of these carries a response's body or message: the API server repeats what it was sent, and that may be secret.
What they say is the verb, the object, the HTTP status and Kubernetes' own one-word reason; what was refused says why
in our words (`why`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelyard.resources.refusals import Refusal, explain

_REASON = re.compile(r"^[A-Z][A-Za-z]{0,63}$")


class ApiError(Exception):
    """A request that was refused. `code` is the HTTP status, `reason` Kubernetes' word for it (may be empty)."""

    def __init__(self, what: str, code: int, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{what}: {code}{' ' + reason if reason else ''}")
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """404: the object, its namespace or its kind is not there."""


class AlreadyExistsError(ApiError):
    """409 on a create: the name is taken."""


class ConflictError(ApiError):
    """409: uid or resourceVersion have moved on."""


class RefusedError(ApiError):
    """What was sent is not taken. `why`: in our words."""

    why: Refusal = explain("")


class InvalidError(RefusedError):
    """422 (or 400): the API server does not accept the object."""


class ForbiddenError(RefusedError):
    """403: the operator's account may not do this, or a quota or a policy says no."""


class ExpiredError(ApiError):
    """410: a list's continuation is too old."""


class UnavailableError(ApiError):
    """No answer, 429 or 5xx: worth a retry. `code` is 0 without an answer."""


def from_status(what: str, code: int, body: Any, headers: Mapping[str, str]) -> ApiError:
    """The error for a response that is no success; of the body only the reason is kept."""
    reason = body.get("reason") if isinstance(body, Mapping) else None
    reason = reason if isinstance(reason, str) and _REASON.match(reason) else ""
    if code == 409 and reason == "AlreadyExists":
        return AlreadyExistsError(what, code, reason)
    if code == 429 or code >= 500:
        return UnavailableError(what, code, reason, _retry_after(headers))
    kinds: dict[int, type[ApiError]] = {
        400: InvalidError,
        403: ForbiddenError,
        404: NotFoundError,
        409: ConflictError,
        410: ExpiredError,
        422: InvalidError,
    }
    error = kinds.get(code, ApiError)(what, code, reason)
    if isinstance(error, RefusedError):
        error.why = explain(body.get("message") if isinstance(body, Mapping) else None)
    return error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        return min(300.0, max(0.0, float(headers.get("Retry-After", ""))))
    except ValueError:
        return None
