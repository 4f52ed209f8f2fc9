"""What is answered when a request is refused: RFC 9457 problem documents with fixed codes and our own words.

Nothing of a request is ever repeated in an answer or a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Problem:
    """One way to refuse: the HTTP status, a fixed code, a sentence."""

    status: int
    code: str
    title: str


UNAUTHENTICATED: Final = Problem(401, "Unauthenticated", "Send the projected token of this pod as a bearer token.")
POD_NOT_ALLOWED: Final = Problem(403, "PodNotAllowed", "The token's pod does not belong to what the path names.")
NOT_THE_OPERATOR: Final = Problem(403, "NotTheOperator", "Only the operator may read this.")
NOT_THE_API: Final = Problem(403, "NotTheStatusApi", "Only the status API may read this.")
NOT_FOUND: Final = Problem(404, "NotFound", "There is nothing here.")
BAD_QUERY: Final = Problem(400, "BadQuery", "The query is not what is documented for this path.")
METHOD: Final = Problem(405, "MethodNotAllowed", "This path does not take this method.")
TIMEOUT: Final = Problem(408, "Timeout", "The body took too long.")
OLD_ATTEMPT: Final = Problem(409, "OldAttempt", "The reports are of an attempt that is over.")
REPLACED: Final = Problem(409, "TrainingReplaced", "The Training was deleted and made again since the pod started.")
TOO_LARGE: Final = Problem(413, "TooLarge", "The body is larger than what is accepted here.")
BAD_BODY: Final = Problem(422, "BadBody", "The body is not the JSON that is documented for this path.")
TOO_MANY: Final = Problem(429, "TooManyRequests", "Wait before the next request.")
UNEXPECTED: Final = Problem(500, "Unexpected", "The collector failed; its log has the kind of failure.")
NO_STORE: Final = Problem(503, "StoreUnavailable", "The store of curves cannot be read now; ask again later.")
NOT_READY: Final = Problem(503, "ApiServerUnavailable", "The API server could not be asked; send this again later.")


class RefusedError(Exception):
    """A request is refused. `retry_after`: seconds after which it may succeed."""

    def __init__(self, problem: Problem, retry_after: int | None = None) -> None:
        super().__init__(problem.code)
        self.problem = problem
        self.retry_after = retry_after


def answer(problem: Problem, retry_after: int | None = None) -> web.Response:
    """The response for a problem."""
    body = {
        "type": f"urn:modelyard:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
    }
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.Response(
        text=json.dumps(body), status=problem.status, content_type="application/problem+json", headers=headers
    )
