"""The core when its process is killed, frozen or replaced: no other operator looks at these namespaces."""

from __future__ import annotations

import signal
from collections.abc import Callable

from localcluster import ControlPlane
from modelyard.resources.meta import CONFIGMAP, LEASE
from support.audit import Audit
from support.cluster import Kube, wait_for
from support.copied import root, state_of, wait_for_state
from support.operator import FAST_LEASE, OperatorProcess

StartCopier = Callable[..., OperatorProcess]


def test_killed_and_started_again_it_writes_nothing_that_is_there(
    kube: Kube, namespace: str, copier: StartCopier, control_plane: ControlPlane
) -> None:
    assert control_plane.audit_log
    operator = copier()
    operator.wait_until_leading()
    names = [f"f{n}" for n in range(20)]
    for name in names[:10]:
        kube.create(root(namespace, name, children="1"), CONFIGMAP)
    operator.kill()
    for name in names[10:]:
        kube.create(root(namespace, name, children="1"), CONFIGMAP)
    operator.start()
    operator.wait_until_leading()
    audit = Audit(control_plane.audit_log)
    for name in names:
        wait_for_state(kube, namespace, name, "Ready:1")
    audit.wait_for_rest(namespace)
    operator.kill()
    again = Audit(control_plane.audit_log)
    operator.start()
    operator.wait_until_leading()
    wait_for(
        lambda: operator.metric('modelyard_reconcile_total{controller="ConfigMap",result="success"}') >= len(names),
        "every root to be looked at",
    )
    again.wait_for_renewals()
    assert not again.written(namespace=namespace)


def test_the_lease_passes_on_at_once_at_a_clean_stop_and_by_time_after_a_kill(
    kube: Kube, namespace: str, copier: StartCopier
) -> None:
    first, second = copier("first", lease=FAST_LEASE), copier("second", lease=FAST_LEASE)
    leader, standby = wait_for(
        lambda: next(((a, b) for a, b in ((first, second), (second, first)) if a.ready() == "leading"), None),
        "one to lead",
    )
    wait_for(lambda: standby.ready() == "standby", "the other to stand by")
    assert leader.terminate() == 0
    standby.wait_until_leading()
    assert kube.get(LEASE, namespace, "modelyard-operator")["spec"]["leaseTransitions"] >= 1
    leader.start()
    wait_for(lambda: leader.ready() == "standby", "the first to stand by")
    standby.kill()
    leader.wait_until_leading()
    kube.create(root(namespace, "g", children="1"), CONFIGMAP)
    wait_for_state(kube, namespace, "g", "Ready:1")


def test_a_leader_that_was_frozen_past_its_lease_ends_without_a_write(
    kube: Kube, namespace: str, copier: StartCopier
) -> None:
    first = copier("first", lease=FAST_LEASE)
    first.wait_until_leading()
    first.signal(signal.SIGSTOP)
    second = copier("second", lease=FAST_LEASE)
    second.wait_until_leading()
    kube.create(root(namespace, "h", children="3"), CONFIGMAP)
    wait_for_state(kube, namespace, "h", "Ready:3")
    first.signal(signal.SIGCONT)
    assert first.process.wait(90) == 1
    assert "Leadership was lost" in first.log.read_text()
    assert state_of(kube, namespace, "h") == "Ready:3"
