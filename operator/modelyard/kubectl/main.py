"""The command line: `kubectl modelyard get|watch|top|logs`.

Exit status: 0; 1 if what was asked cannot be had, with the reason on stderr; 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from modelyard.kubectl import completion
from modelyard.kubectl.direct import Direct
from modelyard.kubectl.live import Curves, view
from modelyard.kubectl.login import Login, login
from modelyard.kubectl.logs import MOST, OVER, followed
from modelyard.kubectl.remote import Remote
from modelyard.kubectl.source import MissingError, Scope, Source, SourceError
from modelyard.kubectl.tables import table, totals, troubles
from modelyard.statusapi.export import SPECS
from modelyard.statusapi.kinds import BY_PLURAL

_API_ENV: Final = "MODELYARD_API"
_ALIASES: Final = {
    "model": "models",
    "mdl": "models",
    "modelsource": "modelsources",
    "msrc": "modelsources",
    "source": "modelsources",
    "sources": "modelsources",
    "training": "trainings",
    "trn": "trainings",
    "pod": "pods",
    "dataset": "datasets",
    "error": "errors",
    "stats": "statistics",
}
EXPORTED: Final = tuple(sorted(kind.plural for kind in SPECS))
_LOG_SECONDS: Final = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["__complete"]:
        return _complete(words[1:])
    arguments = _parser().parse_args(words)
    try:
        if arguments.command == "completion":
            print(completion.script(arguments.shell), end="")
            return 0
        entry = login(arguments.kubeconfig, arguments.context)
        scope = Scope(None if arguments.all_namespaces else arguments.namespace or entry.namespace)
        _COMMANDS[arguments.command](arguments, source_of(arguments, entry), scope, entry.namespace)
    except SourceError as error:
        print(f"kubectl modelyard: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0


def source_of(arguments: argparse.Namespace, entry: Login) -> Source:
    """The status API if its address is known and there is a token for it, else the cluster."""
    url = arguments.api or os.environ.get(_API_ENV)
    if url and entry.token:
        if not url.startswith(("http://", "https://")):
            raise SourceError(f"--api and {_API_ENV} take an address such as https://modelyard.example.com.")
        return Remote(url, entry.token, arguments.api_ca)
    if arguments.api:
        print("The kubeconfig has no token: asking the cluster instead of the status API.", file=sys.stderr)
    return Direct(entry)


def _get(arguments: argparse.Namespace, source: Source, scope: Scope, home: str) -> None:
    plural, name = _what(arguments)
    now = datetime.now(UTC)
    if plural == "statistics":
        found = source.statistics(scope)
        return print(_dump(found) if arguments.output == "json" else totals(found))
    if arguments.output == "yaml":
        if not name or plural not in EXPORTED:
            raise SourceError(f"--output yaml needs the name of one object, of {', '.join(EXPORTED)}.")
        return print(source.export(plural, scope.namespace or home, name), end="")
    if plural == "errors":
        rows = source.errors(scope)
        if arguments.output == "table" and rows:
            return print(troubles(rows, now))
    elif name and arguments.output == "json":
        return print(_dump(source.detail(plural, scope.namespace or home, name)))
    else:
        rows = source.rows(plural, scope, arguments.selector, name)
        if name and not rows:
            where = f" in namespace {scope.namespace}" if scope.namespace else ""
            raise MissingError(f"There is no {BY_PLURAL[plural].word} {name}{where}.")
    if arguments.output == "json":
        return print(_dump({"items": rows}))
    if arguments.output == "name":
        return print("".join(f"{plural}/{row['name']}\n" for row in rows if "name" in row), end="")
    print(table(plural, rows, now, scope.namespace is None) if rows else _nothing(plural, scope))


def _watch(arguments: argparse.Namespace, source: Source, scope: Scope, home: str) -> None:
    plural, name = _what(arguments)
    if plural not in completion.KINDS[:5]:
        raise SourceError("Only kinds of objects can be watched: models, modelsources, trainings, pods, datasets.")
    curves = Curves()
    if plural == "trainings" and name:
        try:
            curves.take_series(source.series(scope.namespace or home, name))
        except MissingError:
            raise MissingError(f"There is no training {name} in namespace {scope.namespace or home}.") from None
    for rows in source.follow(plural, scope, name):
        if arguments.output == "json":
            print(_dump({"items": rows}), flush=True)
        elif plural == "trainings" and name and rows:
            curves.take(rows[0])
            width = shutil.get_terminal_size().columns
            _show(view(rows[0], curves, datetime.now(UTC), width, arguments.metric))
        else:
            _show(table(plural, rows, datetime.now(UTC), scope.namespace is None) if rows else _nothing(plural, scope))
        if arguments.until_over and rows and all(row["phase"] in OVER for row in rows):
            return


def _top(arguments: argparse.Namespace, source: Source, scope: Scope, home: str) -> None:
    rows = [row for row in source.rows("trainings", scope) if row["phase"] not in OVER]
    rows.sort(key=lambda row: (-(row.get("gpus") or 0), row["namespace"], row["name"]))
    found = source.statistics(scope)
    if arguments.output == "json":
        return print(_dump({"items": rows, "statistics": found}))
    print(table("top", rows, datetime.now(UTC), scope.namespace is None) if rows else "Nothing is in progress.")
    print("\n" + totals(found))


def _logs(arguments: argparse.Namespace, source: Source, scope: Scope, home: str) -> None:
    namespace, training = scope.namespace or home, arguments.training
    if not arguments.follow:
        for _, text in source.logs(namespace, training, arguments.tail).lines:
            print(text)
        return
    for note, text in followed(source, namespace, training, arguments.tail, lambda: time.sleep(_LOG_SECONDS)):
        print(text, flush=True, file=sys.stderr if note else sys.stdout)


_COMMANDS: Final = {"get": _get, "watch": _watch, "top": _top, "logs": _logs}


def _what(arguments: argparse.Namespace) -> tuple[str, str]:
    kind, _, name = arguments.what.partition("/")
    plural = _ALIASES.get(kind, kind)
    if plural not in completion.KINDS:
        raise SourceError(f"There is no kind of that name: choose out of {', '.join(completion.KINDS)}.")
    return plural, arguments.name or name


def _show(text: str) -> None:
    """In place of what was shown before, on a terminal."""
    print(f"\x1b[H\x1b[2J{text}" if sys.stdout.isatty() else f"{text}\n", flush=True)


def _nothing(plural: str, scope: Scope) -> str:
    return f"No {plural} found{f' in namespace {scope.namespace}' if scope.namespace else ''}."


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _complete(words: list[str]) -> int:
    source, namespace = None, "default"
    try:
        entry = login(None, None)
        namespace = entry.namespace
        source = source_of(argparse.Namespace(api=None, api_ca=None), entry)
    except SourceError:
        pass
    print("\n".join(completion.candidates(words or [""], source, namespace)))
    return 0


def _lines(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to {MOST}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-n", "--namespace", help="namespace (default: the context's)")
    common.add_argument("-A", "--all-namespaces", action="store_true", help="all namespaces that you may see")
    common.add_argument("--kubeconfig", help="kubeconfig file (default: KUBECONFIG, ~/.kube/config)")
    common.add_argument("--context", help="context of the kubeconfig")
    common.add_argument(
        "--api", metavar="URL", help=f"address of the status API (default: ${_API_ENV}; else the cluster)"
    )
    common.add_argument("--api-ca", metavar="FILE", help="certificate of the CA that signed the status API's")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", choices=["table", "json", "yaml", "name"], default="table")
    what = argparse.ArgumentParser(add_help=False)
    what.add_argument("what", metavar="KIND[/NAME]", help=f"{', '.join(completion.KINDS)}, or their short names")
    what.add_argument("name", nargs="?", default="", metavar="NAME")
    parser = argparse.ArgumentParser(prog="kubectl modelyard", description="Models, trainings, and what they cost.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    get = commands.add_parser("get", parents=[common, output, what], help="show objects, errors or statistics")
    get.add_argument("-l", "--selector", default="", help="label selector")
    watch = commands.add_parser("watch", parents=[common, output, what], help="show objects as they change")
    watch.add_argument("--metric", default="", help="metric whose curve is drawn (default: the loss)")
    watch.add_argument("--until-over", action="store_true", help="end when all that is watched is over")
    commands.add_parser("top", parents=[common, output], help="what is in progress, and what it costs")
    logs = commands.add_parser("logs", parents=[common], help="the end of a training's log")
    logs.add_argument("training", metavar="TRAINING")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    logs.add_argument("--tail", type=_lines, default=200, metavar="LINES", help=f"at most {MOST} (default: 200)")
    shells = commands.add_parser("completion", help="print a script for the shell")
    shells.add_argument("shell", choices=completion.SHELLS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
