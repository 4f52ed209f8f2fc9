"""Who one is, by the kubeconfig: its context's namespace, its server, and a token if it has one.

Reading it, token files and programs that make tokens are the `kubernetes` package's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes import client, config

from modelyard.kubectl.source import SourceError


@dataclass(frozen=True, slots=True)
class Login:
    """A way into a cluster. `token` gives a token that is good now; None: the kubeconfig has none."""

    configuration: Any
    namespace: str
    token: Callable[[], str] | None


def login(kubeconfig: str | None, context: str | None) -> Login:
    """By a kubeconfig (None: KUBECONFIG or ~/.kube/config). Raises SourceError."""
    configuration = client.Configuration()
    try:
        config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
        contexts, active = config.list_kube_config_contexts(config_file=kubeconfig)
    except (config.ConfigException, OSError, TypeError, KeyError):
        raise SourceError(
            "There is no usable kubeconfig: set KUBECONFIG, or --kubeconfig, to a file whose context can log in."
        ) from None
    chosen = next((c for c in contexts if c["name"] == context), active)

    def token() -> str:
        """Asks the program that makes tokens again where the last one has expired."""
        return str(configuration.get_api_key_with_prefix("BearerToken") or "").removeprefix("Bearer ").strip()

    return Login(configuration, chosen["context"].get("namespace") or "default", token if token() else None)
