"""The demo's hub in the cluster: a Deployment, its Service, and the token that it wants."""

from __future__ import annotations

import json
from typing import Any

from deploy.release import Cluster

LABELS = {"app.kubernetes.io/name": "hub"}


def objects(namespace: str, image: str) -> list[dict[str, Any]]:
    """The manifests; the hub takes its token from the same Secret that the ModelSource names."""
    container = {
        "name": "hub",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "HUB_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub-token", "key": "token"}}}],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    metadata = {"name": "hub", "namespace": namespace, "labels": LABELS}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": LABELS, "ports": [{"port": 8080}]},
        },
    ]


def install(cluster: Cluster, namespace: str, image: str) -> None:
    """Apply the hub and wait until it answers."""
    for obj in objects(namespace, image):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(obj))
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/hub", "--timeout", "300s")
