"""The description: every operation has an example of the right shape, a summary, and the problems it can answer."""

from __future__ import annotations

from typing import Any

import yaml
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from modelyard.settings import Settings
from modelyard.statusapi.app import build
from modelyard.statusapi.examples import by_operation
from modelyard.statusapi.kinds import ALL
from modelyard.statusapi.main import service_of
from modelyard.statusapi.metrics import Metrics


def described() -> tuple[Any, list[APIRoute]]:
    service = service_of(Settings(namespace="x"), None, Metrics("0"), ALL)  # type: ignore[arg-type]
    app = build(service)
    routes: list[APIRoute] = []
    pending = list(app.routes)
    while pending:
        route = pending.pop()
        if isinstance(route, APIRoute):
            routes.append(route)
        pending += getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", [])
    return app.openapi(), routes


def test_every_operation_has_an_example_that_its_type_takes() -> None:
    schema, routes = described()
    types = {route.operation_id: route.response_model for route in routes if route.operation_id}
    assert len(types) >= 20
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert {operation["operationId"] for operation in operations} == set(types) == set(by_operation())
    for operation in operations:
        name, contents = operation["operationId"], operation["responses"]["200"]["content"]
        assert contents, name
        for media, content in contents.items():
            example = content["example"]
            if types[name] is not None:
                TypeAdapter(types[name]).validate_python(example)
            elif media == "application/yaml":
                assert yaml.safe_load(example) == contents["application/json"]["example"]
    assert schema["openapi"].startswith("3.1")


def test_every_operation_says_what_it_is_and_how_it_refuses() -> None:
    schema, _ = described()
    for path in schema["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert {"200", "401", "403", "422", "429", "503", "504"} <= set(operation["responses"]), operation
            for code, answer in operation["responses"].items():
                if int(code) >= 400:
                    assert set(answer["content"]) == {"application/problem+json"}
