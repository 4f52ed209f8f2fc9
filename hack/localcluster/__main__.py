"""Command line of the launcher: `PYTHONPATH=hack python -m localcluster --help`.

Progress goes to stderr; stdout carries only answers (paths, JSON), so that scripts can read them.
"""

from __future__ import annotations

import argparse
import sys

from localcluster.controlplane import remove_control_plane, start_control_plane
from localcluster.errors import LauncherError
from localcluster.paths import DEFAULT_NAME, ClusterDir
from localcluster.tools import DEFAULT, build_tools


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument("--name", default=DEFAULT_NAME, help="the cluster's name")
    up = commands.add_parser("up", parents=[named], help="bring a cluster up; print its kubeconfig's path")
    up.add_argument("--control-plane-only", action="store_true", help="no node, no root needed")
    up.add_argument("--audit-log", action="store_true", help="log every request at level Metadata")
    commands.add_parser("down", parents=[named], help="take a cluster down; leave nothing")
    commands.add_parser("kubeconfig", parents=[named], help="print the path of the kubeconfig")
    one = commands.add_parser("bin", help="print the path of a program (kubectl, helm, …); build it if missing")
    one.add_argument("program")
    many = commands.add_parser("build-tools", help="build programs into the cache")
    many.add_argument("programs", nargs="*")
    return parser


def _run(args: argparse.Namespace) -> None:
    if args.command == "up":
        components = start_control_plane(ClusterDir(args.name), audit=args.audit_log)
        print(components.cluster.kubeconfig)
    elif args.command == "down":
        remove_control_plane(ClusterDir(args.name))
    elif args.command == "kubeconfig":
        print(ClusterDir(args.name).kubeconfig)
    elif args.command == "bin":
        print(build_tools([args.program])[args.program])
    elif args.command == "build-tools":
        build_tools(args.programs or DEFAULT)


def main() -> int:
    try:
        _run(_parser().parse_args())
    except LauncherError as error:
        print(f"localcluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
