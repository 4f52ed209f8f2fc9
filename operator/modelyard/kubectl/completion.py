"""Shell completion: small scripts that ask the program itself, so that names of objects complete too."""

from __future__ import annotations

from typing import Final

from modelyard.kubectl.source import Scope, Source, SourceError

KINDS: Final = ("models", "modelsources", "trainings", "pods", "datasets", "errors", "statistics")
COMMANDS: Final = ("get", "watch", "top", "logs", "completion")
SHELLS: Final = ("bash", "zsh", "fish", "kubectl")

_SCRIPTS: Final = {
    "bash": """_kubectl_modelyard() {
  COMPREPLY=($(compgen -W "$(kubectl-modelyard __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" \\
    -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _kubectl_modelyard kubectl-modelyard
""",
    "zsh": """#compdef kubectl-modelyard
_kubectl_modelyard() { compadd -- $(kubectl-modelyard __complete "${(@)words[2,$CURRENT]}" 2>/dev/null) }
compdef _kubectl_modelyard kubectl-modelyard
""",
    "fish": """complete -c kubectl-modelyard -f \\
  -a "(kubectl-modelyard __complete (commandline -opc)[2..] (commandline -ct))"
""",
    # kubectl runs a program of this name when it completes words of the plugin.
    "kubectl": """#!/bin/sh
# Save as kubectl_complete-modelyard in a folder of PATH, and make it executable.
exec kubectl-modelyard __complete "$@"
""",
}


def script(shell: str) -> str:
    """What to put into the shell's start-up file, or for `kubectl` into a program of its own."""
    return _SCRIPTS[shell]


def candidates(words: list[str], source: Source | None, namespace: str) -> list[str]:
    """What may stand at the place of the last word."""
    before = [word for word in words[:-1] if not word.startswith("-")]
    match before:
        case []:
            return list(COMMANDS)
        case ["completion"]:
            return list(SHELLS)
        case ["get" | "watch"]:
            return list(KINDS)
        case ["get" | "watch", kind] if kind in KINDS[:5]:
            return _names(source, kind, namespace)
        case ["logs"]:
            return _names(source, "trainings", namespace)
        case _:
            return []


def _names(source: Source | None, kind: str, namespace: str) -> list[str]:
    if source is None:
        return []
    try:
        return [row["name"] for row in source.rows(kind, Scope(namespace))]
    except SourceError:
        return []
