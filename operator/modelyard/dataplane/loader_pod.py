"""The pod of a download Job: the loader's command line, its mounts, and the restricted Pod Security Standard.

The Secret is mounted as files and named nowhere else: no value of it is in arguments or environment. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from modelyard.resources.meta import GROUP
from modelyard.resources.volumes import DATA_PATH, Want
from modelyard.settings import Settings

CONTAINER: Final = "loader"
VOLUME_ROOT: Final = "/modelyard/volume"
SECRETS_PATH: Final = "/run/dataset/secrets"
TOKEN_FOLDER: Final = "/var/run/secrets/modelyard"
TOKEN_SECONDS: Final = 3600


def pod_spec(want: Want, settings: Settings, ca_pem: str | None) -> dict[str, Any]:
    """The pod that fetches into the wanted volume."""
    download = settings.download
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": _pod_security(settings),
        "containers": [
            {
                "name": CONTAINER,
                "image": settings.images.loader,
                "imagePullPolicy": settings.images.pull_policy,
                "command": ["modelyard", "load"],
                "args": arguments(want, settings),
                "env": _environment(want, settings, ca_pem),
                "resources": {
                    "requests": dict(download.resources.requests),
                    "limits": dict(download.resources.limits),
                },
                "terminationMessagePolicy": "File",
                "volumeMounts": _mounts(want, settings),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
            }
        ],
        "volumes": _volumes(want, settings),
    }
    if settings.images.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in settings.images.pull_secrets]
    if download.node_selector:
        spec["nodeSelector"] = dict(download.node_selector)
    if download.tolerations:
        spec["tolerations"] = [dict(t) for t in download.tolerations]
    return spec


def arguments(want: Want, settings: Settings) -> list[str]:
    """The loader's command line, after `modelyard load`."""
    return [
        want.content.type,
        want.content.uri,
        *(f"--options={key}={value}" for key, value in want.content.options),
        f"--mount-path=/{DATA_PATH}",
        f"--mount-root={VOLUME_ROOT}",
        "--mount-mode=0755",
        f"--mount-uid={settings.pod_security.run_as_user}",
        f"--mount-gid={settings.pod_security.run_as_group}",
        # Then the pod ends and its cause is shown; the next Job goes on where this one stopped.
        "--retry-seconds=60",
        *([f"--mount-secrets={SECRETS_PATH}"] if want.secret else []),
    ]


def _environment(want: Want, settings: Settings, ca_pem: str | None) -> list[dict[str, str]]:
    ours = {"HOME": "/tmp"}
    if settings.collector.url:
        ours |= {
            "MODELYARD_COLLECTOR_URL": settings.collector.url,
            "MODELYARD_TOKEN_FILE": f"{TOKEN_FOLDER}/token",
            "MODELYARD_NAMESPACE": want.namespace,
            f"MODELYARD_{want.reporter.kind.upper()}": want.reporter.name,
            "MODELYARD_VERSION": want.reporter.version,
            "MODELYARD_VOLUME": want.name,
        }
        if ca_pem:
            ours["MODELYARD_CA_PEM"] = ca_pem
    return [{"name": name, "value": value} for name, value in ours.items()]


def _volumes(want: Want, settings: Settings) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": "volume", "persistentVolumeClaim": {"claimName": want.name}},
        {"name": "tmp", "emptyDir": {}},
    ]
    if want.secret:
        volumes.append({"name": "secret", "secret": {"secretName": want.secret, "defaultMode": 0o440}})
    if settings.collector.url:
        audience = f"{GROUP}/{want.reporter.kind}/{want.namespace}/{want.reporter.name}"
        token = {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
        volumes.append({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}})
    return volumes


def _mounts(want: Want, settings: Settings) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "volume", "mountPath": VOLUME_ROOT},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    if want.secret:
        mounts.append({"name": "secret", "mountPath": SECRETS_PATH, "readOnly": True})
    if settings.collector.url:
        mounts.append({"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True})
    return mounts


def _pod_security(settings: Settings) -> dict[str, Any]:
    ids = settings.pod_security
    context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if ids.enabled:
        context |= {
            "runAsUser": ids.run_as_user,
            "runAsGroup": ids.run_as_group,
            "fsGroup": ids.fs_group,
            "fsGroupChangePolicy": "OnRootMismatch",
        }
    return context
