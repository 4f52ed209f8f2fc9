"""The console script `modelyard-train`: what a person types goes to `cli`, everything else is the pod's agent.

In a pod it is process 1 and must start at once, so nothing is imported before it is known to be needed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_FOR_PEOPLE = ("run", "convert", "recipes", "help", "-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command, and returns its exit code. Without one of ours: the agent's."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and (given[0] in _FOR_PEOPLE or _is_recipe(given[0])):
        from modelyard_training.cli import commands

        return commands.main(given)
    from modelyard_training.agent.__main__ import main as agent

    return agent(given)


def _is_recipe(word: str) -> bool:
    if word.startswith("-"):
        return False
    from modelyard_training.params import RECIPES

    return word in RECIPES


if __name__ == "__main__":
    sys.exit(main())
