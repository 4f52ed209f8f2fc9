"""Curves: from reports into the store, out of it for the status API alone, whether or not the store is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.collector_world import OPERATOR, SYSTEM, Answer, Running, World
from support.collector_world import until as wait_for
from support.postgres import Postgres, postgres


def wait(condition: Any) -> Any:
    return wait_for("the awaited state", condition)


@pytest.fixture
def run(world: World) -> Running:
    return world.training()


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture
def restarted(world: World) -> Iterator[World]:
    """A collector that a test may start with other settings."""
    yield world
    world.stop()
    world.store = {}
    world.start()


def values(answer: Answer, metric: str = "loss") -> list[tuple[int, float]]:
    assert answer.status == 200, answer.body
    return [(point["step"], point["value"]) for point in answer.body["series"].get(metric, [])]


def test_reports_become_curves(world: World, run: Running) -> None:
    token = run.token()
    rows = [{"seq": n, "step": n * 10, "epoch": n / 10, "metrics": {"loss": 1 / n, "lr": 0.1}} for n in range(1, 21)]
    rows[9]["epochRow"] = {"epoch": 1, "metrics": {"accuracy": 0.75}}
    assert run.post(token, *rows[:12]).status == 200
    # A resend, as after an answer that was lost.
    assert run.post(token, *rows[8:]).status == 200
    body = world.series(run.uid).body
    assert body["attempts"] == [1]
    assert [point["step"] for point in body["series"]["loss"]] == [n * 10 for n in range(1, 21)]
    assert body["series"]["loss"][1] == {
        "value": 0.5,
        "step": 20,
        "time": "2026-11-21T10:00:00Z",
        "attempt": 1,
        "epoch": 0.2,
    }
    assert body["epochs"] == [
        {"epoch": 1, "step": 100, "time": "2026-11-21T10:00:00Z", "attempt": 1, "metrics": {"accuracy": 0.75}}
    ]
    few = world.series(run.uid, "maxPoints=6&metric=loss").body["series"]
    assert list(few) == ["loss"]
    assert len(few["loss"]) <= 6
    assert (few["loss"][0]["step"], few["loss"][-1]["step"]) == (10, 200)
    assert [step for step, _ in values(world.series(run.uid, "fromStep=45&toStep=60"))] == [50, 60]
    assert world.series(run.uid, "since=2027-01-01T00:00:00Z").body["series"] == {}
    assert world.series("no-such-uid").body == {"attempts": [], "series": {}, "epochs": []}


def test_a_resumed_attempt_replaces_what_it_computes_again(world: World, run: Running) -> None:
    first = run.token()
    rows = [{"seq": n, "step": n, "metrics": {"loss": 1.0}} for n in range(1, 11)]
    run.post(first, *rows)
    run.attempt(2)
    rows = [{"seq": n, "step": n + 6, "metrics": {"loss": 2.0}} for n in range(1, 6)]
    assert run.post(run.token(), *rows).status == 200
    together = values(world.series(run.uid))
    assert together == [(step, 1.0 if step < 7 else 2.0) for step in range(1, 12)]
    assert len(values(world.series(run.uid, "attempt=1"))) == 10
    assert world.series(run.uid).body["attempts"] == [1, 2]


def test_only_the_status_api_may_read(world: World, run: Running) -> None:
    path = f"/v1/series/{run.uid}"
    assert world.ask("GET", path, None).body["code"] == "Unauthenticated"
    assert world.ask("GET", path, run.token()).body["code"] == "Unauthenticated"
    operator = world.token("modelyard.dev/collector", namespace=SYSTEM, account=OPERATOR.rpartition(":")[2])
    assert world.ask("GET", path, operator).body["code"] == "NotTheStatusApi"
    plain = world.token("https://kubernetes.default.svc", namespace=SYSTEM, account="modelyard-api")
    assert world.ask("GET", path, plain).status == 401
    api = world.token("modelyard.dev/collector", namespace=SYSTEM, account="modelyard-api")
    assert world.ask("GET", "/v1/downloads", api).body["code"] == "NotTheOperator"
    for query in ("maxPoints=0", "maxPoints=5001", "attempt=x", "fromStep=-1", "since=yesterday"):
        assert world.series(run.uid, query).body["code"] == "BadQuery", query


def test_curves_outlive_the_collector_and_go_with_their_training(restarted: World) -> None:
    world, run = restarted, restarted.training()
    kept = world.training()
    for one in (run, kept):
        assert one.post(one.token(), {"seq": 1, "step": 1, "metrics": {"loss": 0.5}}).status == 200
    assert world.stop() == 0
    world.store = {"sweepSeconds": 0.5}
    world.start()
    wait(lambda: world.series(run.uid).status == 200)  # until its store is open it says when to ask again
    assert values(world.series(run.uid)) == [(1, 0.5)]
    world.kubectl("-n", "team-a", "delete", "training", run.name)
    wait(lambda: not values(world.series(run.uid)))
    assert values(world.series(kept.uid)) == [(1, 0.5)]


def test_without_a_store_status_goes_on_and_curves_catch_up(restarted: World) -> None:
    world, run = restarted, restarted.training()
    world.stop()
    blocked = world.folder / "later"
    blocked.write_text("a file where a folder should be")
    world.store = {"path": str(blocked / "curves.db")}
    world.start()
    token = run.token()
    assert run.post(token, {"seq": 1, "step": 1, "metrics": {"loss": 0.5}}).status == 200
    assert wait(lambda: run.status().get("progress", {}).get("step")) == 1
    assert world.series(run.uid).body["code"] == "StoreUnavailable"
    assert "modelyard_collector_store_up 0.0" in world.plain("/metrics")[1]
    blocked.unlink()
    wait(lambda: world.series(run.uid).status == 200)
    wait(lambda: values(world.series(run.uid)) == [(1, 0.5)])
    assert "can't be made" in world.logs[-1].read_text()


def test_the_same_on_postgresql_with_a_url_that_no_log_has(restarted: World, server: Postgres) -> None:
    world, run = restarted, restarted.training()
    world.stop()
    secret = world.folder / "url"
    secret.write_text(server.url() + "\n")
    world.store = {"urlFile": str(secret)}
    world.start()
    token = run.token()
    rows = [{"seq": n, "step": n, "metrics": {"loss": 1 / n}} for n in range(1, 11)]
    wait(lambda: world.series(run.uid).status == 200)
    assert run.post(token, *rows).status == 200
    assert len(values(world.series(run.uid))) == 10
    server.stop()
    assert run.post(token, {"seq": 11, "step": 11, "metrics": {"loss": 0.01}, "final": True}).status == 200
    wait(lambda: run.status()["progress"]["step"] == 11)
    server.start()
    wait(lambda: world.series(run.uid).status == 200 and len(values(world.series(run.uid))) == 11)
    said = world.logs[-1].read_text() + world.plain("/metrics")[1] + json.dumps(world.series(run.uid).body)
    assert server.password not in said
    assert "Traceback" not in said
