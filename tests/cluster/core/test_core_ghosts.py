"""What is deleted while the watch is broken must not stay in the cache: kopf never reports it, our re-list does."""

from __future__ import annotations

import signal
from collections.abc import Callable

from localcluster import ControlPlane
from modelyard.resources.meta import CONFIGMAP
from support.cluster import Kube, wait_for
from support.copier import STATE
from support.operator import OperatorProcess

CACHED = 'modelyard_cache_objects{kind="configmaps"}'
AFTER_A_STREAM = 'modelyard_relist_total{cause="stream"}'


def test_what_went_while_the_api_server_was_away_goes_from_the_cache(
    kube: Kube, namespace: str, copier: Callable[..., OperatorProcess], control_plane: ControlPlane
) -> None:
    lease = {"durationSeconds": 900, "renewDeadlineSeconds": 800, "retrySeconds": 1}
    operator = copier(lease=lease, resyncSeconds=3600)
    operator.wait_until_leading()
    for name in ("a", "b", "c"):
        labels = {"copier": "root", "copied": "yes"}
        root = {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": {"children": "1"}}
        kube.create(root, CONFIGMAP)
    wait_for(lambda: operator.metric(CACHED) == 6, "three roots and their children to be cached")
    operator.signal(signal.SIGSTOP)
    # The first restart ends the streams, the second one forgets what happened between them.
    control_plane.stop_apiserver()
    control_plane.start_apiserver()
    kube.delete(CONFIGMAP, namespace, "b")
    wait_for(lambda: kube.find(CONFIGMAP, namespace, "b-0") is None, "the garbage collector")
    control_plane.stop_apiserver()
    control_plane.start_apiserver()
    operator.signal(signal.SIGCONT)
    wait_for(lambda: operator.metric(CACHED) == 4, "the ghosts to go")
    assert operator.metric(AFTER_A_STREAM) >= 1
    kube.merge(CONFIGMAP, namespace, "a", {"data": {"children": "2"}})
    wait_for(
        lambda: kube.get(CONFIGMAP, namespace, "a")["metadata"]["annotations"][STATE] == "Ready:2",
        "the watch to work again",
    )
    assert operator.process.poll() is None
