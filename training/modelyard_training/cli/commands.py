"""The commands and their arguments. Errors are sentences on stderr and exit code 64."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelyard_training.cli import convert, local, manifest
from modelyard_training.cli.manifest import ManifestError
from modelyard_training.params import RECIPES, Params, Recipe

_BAD_INPUT = 64
_WIDTH = 100


def main(argv: Sequence[str]) -> int:
    """Runs one command. Returns 0 (done), 64 (bad input), 75 (stopped after a checkpoint) or what the program gave."""
    given = ["--help"] if argv[0] == "help" and len(argv) == 1 else list(argv)
    if given[0] == "help":
        given = [given[1], "--help"]
    if given[0] in RECIPES:
        print(recipe_help(RECIPES[given[0]]))
        return 0
    told = _parser().parse_args(given)
    try:
        return int(told.do(told))
    except ManifestError as error:
        print(f"modelyard-train: {error}", file=sys.stderr)
        return _BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="modelyard-train",
        description="Trains what a Training manifest says, here and without Kubernetes. Without a command it is the "
        "agent of a training pod.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="train a manifest on this machine",
        description="Trains a manifest on this machine. Run again, it goes on from its last checkpoint.",
    )
    run.add_argument("manifest", type=Path, help="the file with the Training")
    run.add_argument("--name", help="which Training, if the file has several")
    run.add_argument("--model", type=Path, help="folder of the base model, in the place of spec.model.ref")
    run.add_argument("--adapter", type=Path, help="folder of an adapter that spec.model.ref names; --model: its base")
    run.add_argument("--assistant", type=Path, help="folder of the assistant, in the place of spec.model.assistantRef")
    run.add_argument("--dataset", type=Path, help="folder or file of the data set, in the place of spec.dataset")
    run.add_argument("--output", type=Path, help="where everything is written; without it, a folder of the run's name")
    run.add_argument("--processes", type=int, default=1, help="processes that train together, one a GPU (default: 1)")
    run.add_argument("--restart", action="store_true", help="begin at step 0, whatever checkpoints are there")
    run.set_defaults(do=_run)
    told = commands.add_parser(
        "convert",
        help="make a manifest of an axolotl or ai-toolkit config",
        description="Makes a Training manifest of an axolotl or ai-toolkit config, and says what it could not carry "
        "over: on stderr, and as comments in the manifest.",
    )
    told.add_argument("config", type=Path, help="the other tool's YAML file")
    told.add_argument("-o", "--output", type=Path, help="file for the manifest; without it, stdout")
    told.set_defaults(do=_convert)
    recipes = commands.add_parser("recipes", help="list the recipes; `modelyard-train RECIPE --help` shows one")
    recipes.set_defaults(do=_recipes)
    return parser


def _run(told: argparse.Namespace) -> int:
    found = manifest.read(told.manifest, told.name)
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    places = local.Places(
        model=told.model,
        adapter=told.adapter,
        assistant=told.assistant,
        dataset=told.dataset,
        output=told.output or Path(found.name),
        processes=told.processes,
        restart=told.restart,
    )
    return local.run(found, places)


def _convert(told: argparse.Namespace) -> int:
    found = convert.convert(told.config)
    if told.output is None:
        sys.stdout.write(found.text())
    else:
        told.output.write_text(found.text(), encoding="utf-8")
    for line in found.left_out:
        print(f"not carried over: {line}", file=sys.stderr)
    return 0


def _recipes(told: argparse.Namespace) -> int:
    for recipe in RECIPES.values():
        summary = (recipe.params.__doc__ or "").strip().splitlines()[0]
        print(f"{recipe.name:24}{summary}")
    print("\n`modelyard-train RECIPE --help` shows a recipe's parameters.")
    return 0


def recipe_help(recipe: Recipe) -> str:
    """A recipe's parameters: name, kind, range, what unset means and why."""
    lines = [f"{recipe.name}: {(recipe.params.__doc__ or '').strip()}", ""]
    needs = {"Required": "needs", "Optional": "may have", "None": "has no"}
    lines += [f"It {needs[recipe.base_model]} a base model and {needs[recipe.dataset]} a data set.", ""]
    lines += [f"Parameters, below spec.recipe.{recipe.block}:"]
    lines += _fields(recipe.params, "")
    return "\n".join(lines)


def _fields(params: type[Params], indent: str) -> list[str]:
    schema = params.model_json_schema(by_alias=True)
    inner = schema.get("$defs", {})
    lines: list[str] = []
    for name, entry in schema.get("properties", {}).items():
        nested = entry.get("$ref", "").rpartition("/")[2]
        if nested:
            entry = {**inner[nested], "description": entry.get("description", inner[nested].get("description", ""))}
        lines += ["", f"{indent}  {name}  {_kind(entry)}"]
        lines += textwrap.wrap(
            entry.get("description", ""), _WIDTH, initial_indent=f"{indent}      ", subsequent_indent=f"{indent}      "
        )
        for key, value in entry.get("properties", {}).items() if nested else ():
            lines += [f"{indent}      {key}  {_kind(value)}"]
            lines += textwrap.wrap(
                value.get("description", ""), _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10
            )
    return lines


def _kind(entry: dict[str, Any]) -> str:
    if "enum" in entry:
        return " | ".join(str(value) for value in entry["enum"])
    kind = {"integer": "whole number", "object": "", "array": "list", "boolean": "true | false"}.get(
        entry.get("type", ""), entry.get("type", "")
    )
    low = f"from {entry['minimum']:g}" if "minimum" in entry else ""
    low = low or (f"above {entry['exclusiveMinimum']:g}" if "exclusiveMinimum" in entry else "")
    high = f"to {entry['maximum']:g}" if "maximum" in entry else ""
    high = high or (f"below {entry['exclusiveMaximum']:g}" if "exclusiveMaximum" in entry else "")
    return ", ".join(part for part in (kind, " ".join(p for p in (low, high) if p)) if part)
