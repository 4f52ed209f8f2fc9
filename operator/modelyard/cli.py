"""The command `modelyard`: one subcommand a process. Each imports only what it needs, so that a loader stays small.

Exit status 2: the command line or the settings cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

_COMMANDS = """commands:
  operator   reconcile ModelSources, Models and Trainings
  collector  take progress from running pods
  api        serve the status API
  load       fetch a version into a volume (the program of a download Job)
  get, watch, top, logs, completion
             what there is and how it stands; also as `kubectl modelyard`
  version    print the version
"""
_PLUGIN = ("get", "watch", "top", "logs", "completion")
_CHOICES = ("operator", "collector", "api", "load", "version", *_PLUGIN)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the subcommand; returns the process's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="modelyard", epilog=_COMMANDS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=_CHOICES, metavar="COMMAND")
    # Everything behind the command is the command's own: the loader's line must reach it untouched.
    command = parser.parse_args(arguments[:1]).command
    rest = arguments[1:]
    match command:
        case "operator":
            return _operator(rest)
        case "collector":
            from modelyard.collector.main import main as collector

            return collector(rest)
        case "api":
            from modelyard.statusapi.main import main as api

            return api(rest)
        case _ if command in _PLUGIN:
            from modelyard.kubectl.main import main as plugin

            return plugin(arguments)
        case "load":
            from modelyard.loader.main import main as load

            return load(rest)
        case _:
            from modelyard import __version__

            print(__version__)
            return 0


def _operator(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="modelyard operator")
    parser.add_argument("--settings", type=Path, help="settings file (default: $MODELYARD_SETTINGS)")
    path = parser.parse_args(argv).settings

    from modelyard.controllers.operator import main as operator
    from modelyard.settings import SettingsError, load_settings

    try:
        settings = load_settings(path)
    except SettingsError as error:
        print(f"modelyard operator: {error}", file=sys.stderr)
        return 2
    return operator(settings)


if __name__ == "__main__":
    raise SystemExit(main())
