"""Operators that start at once: forked from a process that has imported everything, each with settings of its own.

`kill` is SIGKILL. Each start takes a lease of its own name, as if the one of the process before had run out.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import modelyard.controllers.operator  # the process that is forked has it
import modelyard.controllers.registry  # noqa: F401
from modelyard.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class ForkedOperator:
    """The operator of one namespace, started again as often as it takes."""

    def __init__(self, kubeconfig: Path, folder: Path, namespace: str, settings: Mapping[str, Any], *more: str) -> None:
        self._kubeconfig = kubeconfig
        self._folder = folder
        self._namespace = namespace
        self._settings = settings
        self._namespaces = [namespace, *more]
        self._process: Any = None
        self.starts = 0
        self.log = folder / f"{namespace}.log"

    def start(self) -> None:
        """A new process."""
        self.starts += 1
        lease = {
            "name": f"operator-{self.starts}",
            "durationSeconds": 60,
            "renewDeadlineSeconds": 50,
            "retrySeconds": 9,
        }
        own = {"namespace": self._namespace, "watchNamespaces": self._namespaces, "metricsPort": 0, "lease": lease}
        file = self._folder / f"{self._namespace}-{self.starts}.yaml"
        file.write_text(yaml.safe_dump({"logLevel": "DEBUG", **self._settings, **own}))
        self._process = _CONTEXT.Process(target=_run, args=(str(self._kubeconfig), str(file), str(self.log)))
        self._process.start()

    def kill(self) -> None:
        """SIGKILL; does not wait."""
        self._process.kill()

    def running(self) -> bool:
        """Whether it runs."""
        return bool(self._process.is_alive())

    def end(self) -> None:
        """SIGKILL, and gone."""
        self._process.kill()
        self._process.join()

    def tail(self, lines: int = 12) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _run(kubeconfig: str, settings: str, log: str) -> None:
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["KUBECONFIG"] = kubeconfig
    sys.exit(main(["operator", "--settings", settings]))
