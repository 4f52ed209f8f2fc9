"""The console script `modelyard-train`: what a person types goes to `cli`, everything else is the pod's agent.

In a pod it is process 1 and must start at once, so nothing is imported before it is known to be needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_FOR_PEOPLE = ("run", "convert", "recipes", "help", "-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit code. In a pod, without one of ours: the agent's."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not _in_a_pod() or (given and (given[0] in _FOR_PEOPLE or _is_recipe(given[0]))):
        from modelyard_training.cli import commands

        return commands.main(given or ["--help"])
    from modelyard_training.agent.__main__ import main as agent

    return agent(given)


def _in_a_pod() -> bool:
    """Whether somebody told the agent what to do: a word that is mistyped on a laptop is no program to start."""
    return any(name.startswith("MODELYARD_") for name in os.environ)


def _is_recipe(word: str) -> bool:
    if word.startswith("-"):
        return False
    from modelyard_training.params import RECIPES

    return word in RECIPES


if __name__ == "__main__":
    sys.exit(main())
