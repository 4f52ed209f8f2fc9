"""The core against a real API server, with a controller small enough to see through."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from localcluster import ControlPlane
from modelyard.resources.meta import CONFIGMAP, EVENT, FINALIZER, SECRET
from support.audit import Audit
from support.cluster import Kube, Refused, wait_for
from support.copied import children, root, set_data, wait_for_state
from support.copier import STATE
from support.operator import OperatorProcess

Obj = dict[str, Any]
StartCopier = Callable[..., OperatorProcess]
FAILED = 'modelyard_reconcile_total{controller="ConfigMap",result="error"}'


def test_a_root_gets_what_it_asks_for_and_then_nothing_is_written(
    kube: Kube, namespace: str, shared: OperatorProcess, control_plane: ControlPlane
) -> None:
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    kube.create(root(namespace, "a", children="2"), CONFIGMAP)
    wait_for_state(kube, namespace, "a", "Ready:2")
    assert children(kube, namespace, "a") == ["a-0", "a-1"]
    set_data(kube, namespace, "a", colour="red")
    wait_for(lambda: kube.get(CONFIGMAP, namespace, "a-1")["data"].get("colour") == "red", "the copy to follow")
    set_data(kube, namespace, "a", children="1")
    wait_for_state(kube, namespace, "a", "Ready:1")
    wait_for(lambda: children(kube, namespace, "a") == ["a-0"], "a-1 to go")
    audit.wait_for_rest(namespace)
    before = shared.metric('modelyard_reconcile_total{controller="ConfigMap",result="success"}')
    writes = audit.writes(namespace=namespace)
    assert writes["create", "configmaps"] == 2
    assert writes["delete", "configmaps"] == 1
    silence = Audit(control_plane.audit_log)
    kube.merge(CONFIGMAP, namespace, "a", {"metadata": {"annotations": {"by": "a stranger"}}})
    wait_for(
        lambda: shared.metric('modelyard_reconcile_total{controller="ConfigMap",result="success"}') > before,
        "the root to be looked at again",
    )
    kube.delete(CONFIGMAP, namespace, "a")
    wait_for(lambda: not children(kube, namespace, "a"), "the garbage collector")
    assert not silence.written(namespace=namespace)


def test_a_stranger_with_the_name_is_never_touched(kube: Kube, namespace: str, shared: OperatorProcess) -> None:
    stranger = {"metadata": {"name": "b-0", "namespace": namespace}, "data": {"whose": "mine"}}
    kube.create(stranger, CONFIGMAP)
    kube.create(root(namespace, "b", children="1"), CONFIGMAP)
    wait_for_state(kube, namespace, "b", "NameTaken:b-0")
    found = kube.get(CONFIGMAP, namespace, "b-0")
    assert found["data"] == {"whose": "mine"}
    assert "ownerReferences" not in found["metadata"]


def test_one_bad_object_stops_nobody_and_its_text_is_not_logged(
    kube: Kube, namespace: str, shared: OperatorProcess
) -> None:
    failed = shared.metric(FAILED)
    kube.create(root(namespace, "bad", boom="canary-1234"), CONFIGMAP)
    wait_for(
        lambda: shared.metric(FAILED) >= failed + 2,
        "the bad root to fail twice",
    )
    kube.create(root(namespace, "good", children="1"), CONFIGMAP)
    wait_for_state(kube, namespace, "good", "Ready:1")
    log = shared.log.read_text()
    assert f"ConfigMap {namespace}/bad could not be decided" in log
    assert "ValueError at copier.py" in log
    assert "canary" not in log
    set_data(kube, namespace, "bad", boom=None)
    wait_for_state(kube, namespace, "bad", "Ready:0")


def test_a_secret_that_changes_is_noticed_without_list_or_watch(
    kube: Kube, namespace: str, shared: OperatorProcess, control_plane: ControlPlane
) -> None:
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    kube.create(root(namespace, "c", secret="key"), CONFIGMAP)
    wait_for_state(kube, namespace, "c", "Ready:0:NoSecret")
    kube.create({"metadata": {"name": "key", "namespace": namespace}, "stringData": {"token": "x", "no": ""}}, SECRET)
    wait_for_state(kube, namespace, "c", "Ready:0:token")
    kube.delete(SECRET, namespace, "key")
    wait_for_state(kube, namespace, "c", "Ready:0:NoSecret")
    assert {r.verb for r in audit.requests(namespace=namespace) if r.resource == "secrets"} == {"get"}


def test_a_secret_costs_one_get_a_period_however_many_ask(
    kube: Kube, namespace: str, shared: OperatorProcess, control_plane: ControlPlane
) -> None:
    assert control_plane.audit_log
    names = ("one", "two")
    for name in names:
        kube.create({"metadata": {"name": name, "namespace": namespace}, "stringData": {"token": "x"}}, SECRET)
    for number in range(12):
        kube.create(root(namespace, f"s{number}", secret=names[number % 2]), CONFIGMAP)
    for number in range(12):
        wait_for_state(kube, namespace, f"s{number}", "Ready:0:token")
    audit = Audit(control_plane.audit_log)

    def times() -> dict[str, list[float]] | None:
        asked = [r for r in audit.requests(namespace=namespace) if r.resource == "secrets"]
        found = {name: [r.time for r in asked if r.name == name] for name in names}
        return found if all(len(at) >= 4 for at in found.values()) else None

    for at in wait_for(times, "both to be read several times").values():
        assert all(later - earlier > 0.9 for earlier, later in pairwise(at)), "the period is one second"


def test_events_are_counted_not_multiplied(kube: Kube, namespace: str, shared: OperatorProcess) -> None:
    kube.create(root(namespace, "d"), CONFIGMAP)
    for _ in range(2):
        wait_for_state(kube, namespace, "d", "Ready:0")
        kube.merge(CONFIGMAP, namespace, "d", {"metadata": {"annotations": {STATE: None}}})

    def event() -> Obj | None:
        found = [e for e in kube.list(EVENT, namespace) if e["reason"] == "Copied"]
        return found[0] if len(found) == 1 and found[0]["count"] == 3 else None

    found = wait_for(event, "one Event with count 3")
    assert found["involvedObject"]["name"] == "d"
    assert found["message"] == "Ready:0"


def test_the_guard_comes_and_goes(kube: Kube, namespace: str, shared: OperatorProcess) -> None:
    kube.create(root(namespace, "e", finalizer="yes"), CONFIGMAP)
    wait_for_state(kube, namespace, "e", "Ready:0")
    assert kube.get(CONFIGMAP, namespace, "e")["metadata"]["finalizers"] == [FINALIZER]
    kube.delete(CONFIGMAP, namespace, "e")
    wait_for(lambda: kube.find(CONFIGMAP, namespace, "e") is None, "the guard to let it go")


def test_an_object_that_was_made_anew_is_safe_from_a_delete_of_the_old_one(kube: Kube, namespace: str) -> None:
    """What `Delete` and `Apply` rely on, said by the server itself."""
    old = kube.create(root(namespace, "i"), CONFIGMAP)
    kube.delete(CONFIGMAP, namespace, "i")
    new = kube.create(root(namespace, "i"), CONFIGMAP)
    assert old["metadata"]["uid"] != new["metadata"]["uid"]
    path = f"/api/v1/namespaces/{namespace}/configmaps/i"
    try:
        kube.request("DELETE", path, {"preconditions": {"uid": old["metadata"]["uid"]}})
        refused = 0
    except Refused as error:
        refused = error.code
    assert refused == 409
