"""Every answer that is no success: RFC 9457 problem details with a stable code, in our own words.

What must stay true: a problem never repeats what the caller sent, nor what the API server or a library said.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"


class WrongPart(BaseModel):
    """One wrong part of a request."""

    path: str = Field(description="Which part: a parameter, a header or a field of the body.")
    message: str = Field(description="What is wrong with it, and what to do.")


class ProblemDetails(BaseModel):
    """RFC 9457 problem details."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Forbidden",
                    "status": 403,
                    "code": "Forbidden",
                    "detail": "You may not list trainings in namespace team-a: ask for the verb list on trainings.",
                }
            ]
        }
    )

    type: str = Field(default="about:blank", description="Always about:blank: `code` tells problems apart.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="Stable CamelCase word for programs.")
    detail: str = Field(description="What is wrong and what to do, for people.")
    errors: list[WrongPart] = Field(default=[], description="The wrong parts of the request, where there are several.")
    stale_since: str | None = Field(
        default=None, alias="staleSince", description="Since when the cluster's API server has not been reached."
    )


_TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class Problem(Exception):  # noqa: N818 - it is an answer, and not always an error
    """An answer other than success. `retry_after`: seconds until it makes sense to ask again."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after: int | None = None,
        errors: Iterable[tuple[str, str]] = (),
        stale_since: str | None = None,
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after = retry_after
        self.errors = tuple(errors)
        self.stale_since = stale_since

    def body(self) -> bytes:
        """The problem as JSON."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": _TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.errors:
            content["errors"] = [{"path": path, "message": message} for path, message in self.errors]
        if self.stale_since:
            content["staleSince"] = self.stale_since
        return json.dumps(content, separators=(",", ":")).encode()

    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        headers = {"Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers

    def response(self) -> Response:
        """The answer."""
        return Response(self.body(), self.status, self.headers(), MEDIA_TYPE)


def unauthenticated() -> Problem:
    """No token, or one that the cluster does not accept for this API."""
    return Problem(
        401, "Unauthenticated", "Send a bearer token that the cluster accepts: `Authorization: Bearer <token>`."
    )


def forbidden(verb: str, resource: str, namespace: str | None) -> Problem:
    """The caller's rights do not allow it; said alike whether or not the object is there."""
    place = f"in namespace {namespace}" if namespace else "in any namespace"
    return Problem(403, "Forbidden", f"You may not {verb} {resource} {place}: ask for the verb {verb} on {resource}.")


def not_found(what: str) -> Problem:
    """`what` is a kind in words."""
    return Problem(404, "NotFound", f"There is no {what} of that name in that namespace.")


def invalid(path: str, message: str) -> Problem:
    """One part of the request cannot be used."""
    return Problem(400, "InvalidRequest", f"{path}: {message}", errors=[(path, message)])


def unavailable(stale_since: str | None = None) -> Problem:
    """The cluster's API server cannot be asked whether the caller may see this."""
    return Problem(
        503,
        "ClusterUnavailable",
        "The cluster's API server cannot be asked who you are and what you may see; try again.",
        retry_after=5,
        stale_since=stale_since,
    )


def documented(*codes: int, tagged: bool = True) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries for these problems and for those that any request can meet. `tagged`: it has an entity tag."""
    always = (400, 401, 403, 422, 429, 503, 504)
    schema = {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
    entries: dict[int | str, dict[str, Any]] = {}
    if tagged:
        entries[304] = {"description": "What `If-None-Match` names is still what there is"}
    for code in sorted({*always, *codes}):
        entries[code] = {"description": _TITLES[code], "content": {MEDIA_TYPE: schema}}
    return entries
