"""The command line: what to fetch, where it goes, who may read it. Nothing is touched here."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from modelyard.loader.failure import bad_input

STATE_FOLDER = ".modelyard"
_OPTION = re.compile(r"(\w+)=(.*)", re.DOTALL)
_MODE = re.compile(r"[0-7]{3,4}")


@dataclass(frozen=True)
class Request:
    """One download.

    `target` is the folder's path in the volume, without a leading slash; empty means the volume's root itself.
    `mode` is the mode of folders; files get it without the `x` bits. `patience` is how many seconds a server may stay
    out of reach before the run ends with exit code 75.
    """

    type: str
    uri: str
    options: Mapping[str, str]
    root: Path
    target: str
    mode: int
    uid: int
    gid: int
    secrets: Path
    patience: float

    @property
    def key(self) -> str:
        """Names the content asked for: the same request finds what an interrupted run of it left."""
        told = json.dumps([self.type, self.uri, sorted(self.options.items())], ensure_ascii=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    @property
    def state(self) -> Path:
        """The loader's own folder in the volume."""
        return self.root / STATE_FOLDER

    @property
    def staging(self) -> Path:
        """The folder in the volume that this download grows in, and an interrupted one of the same request grew in."""
        return self.state / f"staging-{self.key}"

    @property
    def work(self) -> Path:
        """Where a source may keep what it needs until the download is done; it goes with the staging folder."""
        return self.staging / "work"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        del message  # it quotes the arguments, and a URI may hold what must not be repeated
        raise bad_input(f"The command line is not understood. {self.format_usage().strip()}")


def parse(argv: Sequence[str]) -> Request:
    """Reads the command line.

    Raises:
        LoadError: BadInput, naming what is wrong.
    """
    parser = _Parser(prog="modelyard load", add_help=True, allow_abbrev=False)
    parser.add_argument("type", metavar="TYPE", help="HUGGING_FACE, HTTP, PVC, …")
    parser.add_argument("uri", help="huggingface://org/repo, https://host/path, pvc://claim")
    parser.add_argument(
        "--options", action="append", default=[], metavar="K=V", help="an option of the type; repeatable"
    )
    parser.add_argument(
        "--mount-path", required=True, help="folder in the volume that the content becomes; / is its root"
    )
    parser.add_argument("--mount-mode", default="0755", help="mode of folders; files get it without x")
    parser.add_argument("--mount-uid", default="1000")
    parser.add_argument("--mount-gid", default="1000")
    parser.add_argument("--mount-root", default=".", help="where the volume is mounted")
    parser.add_argument("--mount-secrets", default="/run/dataset/secrets", help="folder with one file per credential")
    parser.add_argument("--retry-seconds", default="300", help="how long an unreachable server is tried again")
    args = parser.parse_args(list(argv))
    return Request(
        type=args.type,
        uri=args.uri,
        options=_options(args.options),
        root=Path(args.mount_root),
        target=_target(args.mount_path),
        mode=_mode(args.mount_mode),
        uid=_number(args.mount_uid, "--mount-uid"),
        gid=_number(args.mount_gid, "--mount-gid"),
        secrets=Path(args.mount_secrets),
        patience=float(_number(args.retry_seconds, "--retry-seconds")),
    )


def _options(given: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in given:
        match = _OPTION.fullmatch(option)
        if match is None:
            raise bad_input("An option must read key=value, with letters, digits and _ in the key.")
        if match[1] in options:
            raise bad_input(f"Option {match[1]} is given twice.")
        options[match[1]] = match[2]
    return options


def _target(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts) or "\0" in path:
        raise bad_input("--mount-path must stay within the volume: no . or .. in it.")
    if parts and parts[0] == STATE_FOLDER:
        raise bad_input(f"--mount-path must not be {STATE_FOLDER}: the loader keeps its own records there.")
    return "/".join(parts)


def _mode(text: str) -> int:
    if _MODE.fullmatch(text) is None:
        raise bad_input("--mount-mode must be three or four octal digits, such as 0755.")
    mode = int(text, 8)
    if mode & 0o700 != 0o700 or mode > 0o777:
        raise bad_input("--mount-mode must give the owner 7 and set no special bits, such as 0755.")
    return mode


def _number(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise bad_input(f"{flag} must be a whole number, 0 or more.")
    return int(text)


def allow(request: Request, allowed: Sequence[str]) -> None:
    """Refuses an option that the type does not know.

    Raises:
        LoadError: BadInput, with the list of allowed ones.
    """
    unknown = sorted(set(request.options) - set(allowed))
    if unknown:
        raise bad_input(
            f"Type {request.type} has no option {', '.join(unknown)}. Allowed: {', '.join(sorted(allowed)) or 'none'}."
        )
