"""Shell completion: small scripts that ask the program itself, so that names of objects complete too."""

from __future__ import annotations

import contextlib
from typing import Final

from modelyard.kubectl.source import Scope, Source, SourceError

KINDS: Final = ("models", "modelsources", "trainings", "pods", "datasets", "errors", "statistics")
COMMANDS: Final = ("get", "watch", "top", "logs", "completion")
SHELLS: Final = ("bash", "zsh", "fish", "kubectl")

_VALUES: Final = (
    *("-n", "--namespace", "-o", "--output", "-l", "--selector", "--metric", "--tail"),
    *("--kubeconfig", "--context", "--api", "--api-ca"),
)
"""Options that a value follows."""
_FLAGS: Final = {
    "all": ("--namespace", "--all-namespaces", "--kubeconfig", "--context", "--api", "--api-ca"),
    "get": ("--output", "--selector"),
    "watch": ("--output", "--metric", "--until-over"),
    "top": ("--output",),
    "logs": ("--follow", "--tail"),
}

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
kubectl-modelyard __complete "$@"
echo :4  # no names of files besides
""",
}


def script(shell: str) -> str:
    """What to put into the shell's start-up file, or for `kubectl` into a program of its own."""
    return _SCRIPTS[shell]


def candidates(words: list[str], source: Source | None, namespace: str) -> list[str]:
    """What may stand at the place of the last word."""
    before, current = words[:-1], words[-1]
    named, values = _parsed(before)
    if before and before[-1] in _VALUES:
        return _values(before[-1], source)
    if current.startswith("-"):
        return [*_FLAGS["all"], *_FLAGS.get(named[0], ())] if named else []
    home = values.get("-n") or values.get("--namespace") or namespace
    match named:
        case []:
            return list(COMMANDS)
        case ["completion"]:
            return list(SHELLS)
        case ["get" | "watch"]:
            kind, slash, _ = current.partition("/")
            if slash and kind in KINDS[:5]:
                return [f"{kind}/{name}" for name in _names(source, kind, home)]
            return list(KINDS if named == ["get"] else KINDS[:5])
        case ["get" | "watch", kind] if kind in KINDS[:5]:
            return _names(source, kind, home)
        case ["logs"]:
            return _names(source, "trainings", home)
        case _:
            return []


def _parsed(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """Words that name things, and the values of options."""
    named: list[str] = []
    values: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in _VALUES:
            values[option] = value if equals else next(rest, "")
        elif not word.startswith("-"):
            named.append(word)
    return named, values


def _values(option: str, source: Source | None) -> list[str]:
    if option in ("-o", "--output"):
        return ["table", "json", "yaml", "name"]
    if option in ("-n", "--namespace") and source is not None:
        with contextlib.suppress(SourceError):
            return source.namespaces()
    return []


def _names(source: Source | None, kind: str, namespace: str) -> list[str]:
    if source is None:
        return []
    try:
        return [row["name"] for row in source.rows(kind, Scope(namespace))]
    except SourceError:
        return []
