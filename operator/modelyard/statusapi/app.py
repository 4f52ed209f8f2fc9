"""The application: routes behind the guard, every error a problem, the description of it all.

No path writes, no page is served, no cookie is set. The description needs a token like everything else.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from modelyard import __version__
from modelyard.statusapi import examples
from modelyard.statusapi.export import to_yaml
from modelyard.statusapi.middleware import Guard
from modelyard.statusapi.problems import Problem, ProblemDetails
from modelyard.statusapi.routes import objects, overview, parts, secrets, stream
from modelyard.statusapi.service import Service

_DESCRIPTION = """What exists in Modelyard, how it stands, what it costs, live. Read-only.

Send a bearer token of the cluster. You see exactly what your own rights show. Every answer says how fresh it is
(`Modelyard-Observed-At`, `Modelyard-Stale`) and where the stream of changes stood (`Modelyard-Position`, usable as
`Last-Event-ID` of `/api/v1/events`). Errors are RFC 9457 problems with a stable `code`."""


def build(service: Service) -> FastAPI:
    """The routes, without what guards them: `guarded` is what is served."""
    app = FastAPI(
        title="Modelyard status API",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=True,
    )
    app.state.service = service
    for router in (*objects.routers(), parts.router, overview.router, secrets.router, stream.router):
        app.include_router(router, prefix="/api/v1")
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)
    _describe(app)
    return app


def guarded(service: Service) -> ASGIApp:
    """What is served."""
    app: ASGIApp = GZipMiddleware(build(service), minimum_size=1024, compresslevel=4)
    app = Guard(app, service)
    if service.settings.allowed_origins:
        app = CORSMiddleware(
            app,
            allow_origins=service.settings.allowed_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Retry-After", "Modelyard-Observed-At", "Modelyard-Stale", "Modelyard-Position"],
        )
    return app


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    if problem.status == 503 and problem.stale_since is None:
        problem.stale_since = request.app.state.service.freshness.stale_since()
    return problem.response()


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            problem = Problem(
                404, "NoSuchPath", "There is nothing at this path; /api/v1/openapi.json names what there is."
            )
        case 405:
            problem = Problem(405, "MethodNotAllowed", "This API is read-only: use GET or HEAD.")
        case code:
            problem = Problem(code, "Refused", "The request cannot be served.")
    answer = problem.response()
    if error.status_code == 405 and error.headers and "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


async def _unexpected(_: Request, __: Exception) -> Response:
    """The guard, which sees the exception next, logs where it came from."""
    words = "Something went wrong here; the log of the API says where. Try again."
    return Problem(500, "InternalError", words).response()


async def _validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [(".".join(str(part) for part in item["loc"][1:]) or "body", _words(item)) for item in error.errors()]
    first = f"{wrong[0][0]}: {wrong[0][1]}" if wrong else "It is not what the description says."
    return Problem(422, "InvalidRequest", first, errors=wrong[:20]).response()


def _words(item: Any) -> str:
    """pydantic's words where they cannot repeat what was sent."""
    kind = str(item["type"])
    if kind in ("missing", "extra_forbidden"):
        return {"missing": "is required", "extra_forbidden": "there is no such field"}[kind]
    if kind == "json_invalid":
        return "is not valid JSON"
    if kind == "literal_error":
        return f"must be one of {item['ctx']['expected']}"
    return f"is not as the description says ({kind.replace('_', ' ')})"


def _give_examples(described: dict[str, Any]) -> None:
    answers = examples.by_operation()
    for path in described["paths"].values():
        for operation in path.values():
            example = answers[operation["operationId"]]
            for media, content in operation["responses"]["200"]["content"].items():
                content["example"] = to_yaml(example) if media == "application/yaml" else example


def _describe(app: FastAPI) -> None:
    """Adds the problem type, examples, and the token to the description."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        described = make()
        schemas = described.setdefault("components", {}).setdefault("schemas", {})
        schemas["ProblemDetails"] = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(schemas["ProblemDetails"].pop("$defs", {}))
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        _give_examples(described)
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        return described

    app.openapi = openapi  # type: ignore[method-assign]
