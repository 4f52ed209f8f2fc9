"""Command line of Modelyard's local cluster. Progress goes to stderr; stdout carries only answers (paths, JSON)."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from localcluster import providers, status
from localcluster.baseimages import archive_of, base_image
from localcluster.cluster import Cluster
from localcluster.controlplane import remove_control_plane, start_control_plane
from localcluster.errors import LauncherError
from localcluster.paths import DEFAULT_NAME, ClusterDir
from localcluster.state import read_state
from localcluster.tools import DEFAULT, build_tools


def _up(args: argparse.Namespace) -> None:
    if args.control_plane_only:
        print(start_control_plane(ClusterDir(args.name), audit=args.audit_log).cluster.kubeconfig)
    else:
        print(Cluster(args.name).up(audit=args.audit_log))


def _down(args: argparse.Namespace) -> None:
    cluster = ClusterDir(args.name)
    state = read_state(cluster)
    if state is not None and state.kind == "control-plane":
        remove_control_plane(cluster)
    elif state is not None or cluster.store.exists():
        Cluster(args.name).down(purge=args.purge)
    elif cluster.kubeconfig.exists():
        providers.kind_down(args.name)
    else:
        Cluster(args.name).down(purge=args.purge)


def _ensure(args: argparse.Namespace) -> None:
    ensured = providers.ensure(args.name)
    print(json.dumps(ensured.as_json()) if args.output == "json" else ensured.kubeconfig)


def _build_image(args: argparse.Namespace) -> None:
    arguments = {}
    for pair in args.build_arg:
        key, separator, value = pair.partition("=")
        if not separator:
            raise LauncherError(f"--build-arg {pair}: write it as NAME=VALUE")
        arguments[key] = value
    providers.build_image(args.name, args.tag, args.file, args.context, arguments, args.dependencies_key)


def _base_image(_: argparse.Namespace) -> None:
    archive_of(base_image())
    print(base_image())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help=f"the cluster's name (default: {DEFAULT_NAME})")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], text: str, *, takes_name: bool = True
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[named] if takes_name else [])
        added.set_defaults(run=run)
        return added

    ensure = command("ensure", _ensure, "have a cluster: by KUBECONFIG and CLUSTER=current, else kind, else our own")
    ensure.add_argument("--output", choices=("path", "json"), default="path")
    up = command("up", _up, "bring our own cluster up; print its kubeconfig's path")
    up.add_argument("--control-plane-only", action="store_true", help="no node, and no root needed")
    up.add_argument("--audit-log", action="store_true", help="log every request at level Metadata")
    down = command("down", _down, "take the cluster down and leave nothing but caches")
    down.add_argument("--purge", action="store_true", help="delete its images and build cache too")
    command("status", lambda _: print("\n".join(status.lines())), "say what runs and what it holds", takes_name=False)
    command("kubeconfig", lambda a: print(ClusterDir(a.name).kubeconfig), "print the path of the kubeconfig")
    build = command("build-image", _build_image, "build a Dockerfile into the cluster's images")
    build.add_argument("--tag", required=True)
    build.add_argument("--file", type=Path, required=True, metavar="DOCKERFILE")
    build.add_argument("--context", type=Path, required=True, metavar="DIR")
    build.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    build.add_argument("--dependencies-key", metavar="KEY", help="make the stage `dependencies` an image of its own")
    load = command("load-image", lambda a: providers.load_image(a.name, a.archive), "bring an image archive into it")
    load.add_argument("archive", type=Path, metavar="FILE")
    command("base-image", _base_image, "make the base image; print its name", takes_name=False)
    program = command(
        "bin",
        lambda a: print(build_tools([a.program])[a.program]),
        "print the path of a program (kubectl, helm, kubeconform, …); build it if it is missing",
        takes_name=False,
    )
    program.add_argument("program")
    tools = command(
        "build-tools", lambda a: print(*build_tools(a.programs or DEFAULT).values(), sep="\n"),
        "build programs into the cache (all by default)", takes_name=False,
    )  # fmt: skip
    tools.add_argument("programs", nargs="*")
    return parser


def main() -> int:
    args = _parser().parse_args()
    try:
        args.run(args)
    except LauncherError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
