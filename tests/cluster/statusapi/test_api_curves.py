"""Curves over the API: from the collector's store, for whoever may get the training; and without the collector."""

from __future__ import annotations

from support.cluster import Kube, wait_for
from support.collector_world import NAMESPACE, Running, World
from support.statusapi import ApiProcess, Caller, account, grant, rule, service_account


def test_curves_of_the_store_for_those_who_may_see_the_training(
    reporting: Running, collector: World, api: ApiProcess, admin_token: str, kube: Kube
) -> None:
    caller, base = api.caller(admin_token), f"/namespaces/{NAMESPACE}/trainings/{reporting.name}"
    rows = [{"seq": n, "step": n, "epoch": n / 4, "metrics": {"loss": 1 / n, "lr": 0.1}} for n in range(1, 41)]
    for n in range(1, 11):
        rows[4 * n - 1]["epochRow"] = {"epoch": n, "metrics": {"accuracy": n / 10}}
    assert reporting.post(reporting.token(), *rows).status == 200
    wait_for(lambda: caller.get(base).status_code == 200, "the object")
    found = caller.json(f"{base}/metrics")
    assert found["available"] is True
    assert found["attempts"] == [1]
    assert [point["step"] for point in found["series"]["loss"]] == list(range(1, 41))
    point = {"value": 0.5, "step": 2, "epoch": 0.5, "time": "2026-11-21T10:00:00Z", "attempt": 1}
    assert found["series"]["loss"][1] == point
    assert [row["value"] for row in found["epochs"]["accuracy"]] == [n / 10 for n in range(1, 11)]
    few = caller.json(f"{base}/metrics", metric=["loss"], maxPoints=10, fromStep=11, toStep=30)
    assert list(few["series"]) == ["loss"]
    steps = [point["step"] for point in few["series"]["loss"]]
    assert (steps[0], steps[-1]) == (11, 30)
    assert len(steps) <= 10
    assert caller.json(f"{base}/metrics", attempt=2)["series"] == {}
    assert caller.json(f"{base}/metrics", since="2027-01-01T00:00:00Z")["series"] == {}
    again = caller.http.get(f"{base}/metrics", headers={"If-None-Match": caller.get(f"{base}/metrics").headers["ETag"]})
    assert again.status_code == 304
    for name, value in {"maxPoints": 0, "attempt": "x", "since": "yesterday", "fromStep": -1}.items():
        assert caller.get(f"{base}/metrics", **{name: value}).json()["code"] == "InvalidRequest"
    lists_only = account(kube, NAMESPACE, "lists-only")
    grant(kube, "lists-only", service_account(NAMESPACE, "lists-only"), [rule(["list"], ["trainings"])], NAMESPACE)
    assert api.caller(lists_only).get(f"{base}/metrics").status_code == 403
    assert api.caller(lists_only).get(f"/namespaces/{NAMESPACE}/trainings/none/metrics").status_code == 403


def test_without_the_collector_there_are_the_last_epochs(
    reporting: Running, collector: World, api: ApiProcess, admin_token: str
) -> None:
    caller, base = api.caller(admin_token), f"/namespaces/{NAMESPACE}/trainings/{reporting.name}"
    reporting.post(
        reporting.token(),
        {"seq": 1, "step": 1, "metrics": {"loss": 0.5}, "epochRow": {"epoch": 1, "metrics": {"accuracy": 0.5}}},
    )
    wait_for(lambda: caller.json(f"{base}/metrics")["latest"] == {"loss": 0.5}, "the report")
    collector.stop()
    _epochs_alone(caller, base)
    collector.start()
    wait_for(lambda: caller.json(f"{base}/metrics")["available"], "the collector")
    assert caller.json(f"{base}/metrics")["series"]["loss"][0]["value"] == 0.5


def _epochs_alone(caller: Caller, base: str) -> None:
    found = caller.json(f"{base}/metrics")
    assert (found["available"], found["series"]) == (False, {})
    assert [row["value"] for row in found["epochs"]["accuracy"]] == [0.5]
