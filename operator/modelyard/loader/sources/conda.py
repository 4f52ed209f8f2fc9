"""CONDA: an environment, solved and installed by rattler (the library under pixi), then filled by pip where asked for.

Packages come whole and checked into a cache beside the staging tree, so a killed run fetches none of them again. The
environment is made for the folder where its readers will see it, `<condaPrefixDir>/<name>`: paths that packages bake in
say so. It is the one content with programs and links in it; a link that leads out of the environment is refused, and no
package's own install script runs. pip runs the environment's Python, which is as much trust as using it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from modelyard.loader import disk
from modelyard.loader.console import files as counted
from modelyard.loader.console import say
from modelyard.loader.content import Snapshot
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.progress import Progress
from modelyard.loader.request import Request, allow

if TYPE_CHECKING:
    from rattler import RepoDataRecord

_TEXTS = ("condaEnvironmentYml", "pipRequirementsTxt")
_OPTIONS = (
    *_TEXTS,
    *(f"{text}Path" for text in _TEXTS),  # the Dataset controller moves the texts into files
    *("condaPrefixDir", "gpuType", "name", "pipExtraIndexUrl", "pipIndexUrl", "pythonVersion"),
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_WORD = re.compile(r"[0-9][0-9A-Za-z.*]{0,30}")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}")
_FOLDER = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9._-]*)+")
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
_MAX_TEXT_BYTES = 1 << 20
_PREFIX = b"#!"


class Conda:
    """One environment."""

    def __init__(self, request: Request) -> None:
        allow(request, _OPTIONS)
        if not request.target:
            raise bad_input("An environment needs a folder of its own: --mount-path must not be /.")
        options = request.options
        parts = urlsplit(request.uri)
        self.name = options.get("name") or (parts.netloc if parts.scheme == "conda" else "")
        if _NAME.fullmatch(self.name) is None:
            raise bad_input("The environment's name must be one word of letters, digits, '.', '_' and '-'.")
        folder = options.get("condaPrefixDir") or "/opt/conda/envs"
        if _FOLDER.fullmatch(folder) is None or ".." in folder:
            raise bad_input("Option condaPrefixDir must be an absolute path.")
        self._prefix = f"{folder}/{self.name}"
        self._pip = self._text(request, "pipRequirementsTxt")
        self._index = [self._url(options, "pipIndexUrl", "--index-url")]
        self._index += [self._url(options, "pipExtraIndexUrl", "--extra-index-url")]
        self._channels, self._specs = self._read(self._text(request, "condaEnvironmentYml"))
        if options.get("pythonVersion"):
            if _WORD.fullmatch(options["pythonVersion"]) is None:
                raise bad_input("Option pythonVersion must be a version, such as 3.12.")
            self._specs.append(f"python={options['pythonVersion']}")
        if self._pip and not any(re.match(r"pip\b", spec) for spec in self._specs):
            self._specs.append("pip")
        if not self._specs:
            raise bad_input("Nothing is asked for: give pythonVersion, condaEnvironmentYml or pipRequirementsTxt.")
        self._work = request.work
        self._records: list[RepoDataRecord] = []

    def pinned(self) -> str | None:
        """None: channels change, and even a pinned package may need others."""
        return None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Solves, and names the outcome: the packages chosen and what pip is given."""
        self._records = self._run(self._solve())
        chosen = sorted(f"{record.url}#{(record.sha256 or b'').hex()}" for record in self._records)
        told = json.dumps([chosen, self._pip, self._index, self._prefix])
        revision = f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"
        return Snapshot(origin=f"conda://{self.name}", revision=revision)

    def build(self, tree: Path, progress: Progress) -> None:
        """Makes the environment below `tree`."""
        sizes = [record.size for record in self._records]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        progress.expect(total, len(self._records))
        say(f"The environment has {counted(len(self._records)).replace('file', 'package')}.")
        disk.require(tree, 3 * (total or 0))  # packages, and their content, are larger unpacked
        place = tree / self.name
        with disk.writing(tree, None):
            self._run(self._install(place, progress))
        if self._pip:
            self._run_pip(place)
        self._tidy(place)

    async def _solve(self) -> list[RepoDataRecord]:
        from rattler import Gateway, VirtualPackage, solve

        virtual: Sequence[Any] = VirtualPackage.detect()
        gateway = Gateway(cache_dir=self._work / "repodata", max_concurrent_requests=8)
        return await solve(self._channels, self._specs, gateway=gateway, virtual_packages=virtual)

    async def _install(self, place: Path, progress: Progress) -> None:
        from rattler import install

        seen: dict[int, int] = {}
        await install(
            self._records,
            place,
            cache_dir=self._work / "packages",
            installed_packages=[],
            execute_link_scripts=False,
            show_progress=False,
            reporter=_reporter(progress, seen),
            alternative_target_prefix=self._prefix,
        )
        progress.kept(sum(record.size or 0 for record in self._records) - sum(seen.values()))

    def _run(self, work: Any) -> Any:
        """Runs a part of rattler and turns its errors into ours."""
        from rattler import exceptions as errors

        self._work.mkdir(parents=True, exist_ok=True)
        try:
            return asyncio.run(work)
        except errors.SolverError:
            raise LoadError("NotFound", "No set of packages in the channels satisfies what is asked for.") from None
        except (errors.InvalidMatchSpecError, errors.InvalidChannelError, errors.InvalidUrlError):
            raise bad_input("A package or channel of the environment is not written as conda writes them.") from None
        except errors.DetectVirtualPackageError:
            raise LoadError("Unexpected", "This machine's properties can't be told to the solver.") from None
        except (errors.GatewayError, errors.FetchRepoDataError) as error:
            raise self._unreachable(str(error)) from None
        except (errors.InstallerError, errors.LinkError, errors.TransactionError, errors.IoError) as error:
            text = str(error).lower()
            if "no space left" in text or "quota" in text:
                raise disk.full(self._work, None) from None
            if "hash mismatch" in text or "sha256" in text:
                raise LoadError("HashMismatch", "A package is not what its channel announces.") from None
            raise self._unreachable(text) from None

    @staticmethod
    def _unreachable(text: str) -> LoadError:
        """Our words; `text` only tells which."""
        if match := re.search(r"\b(401|403|404)\b", text):
            reason = {"401": "Unauthorized", "403": "Forbidden", "404": "NotFound"}[match[1]]
            message = f"A channel answers {match[1]}: check the channels of the environment."
            return LoadError(reason, message)  # type: ignore[arg-type]  # a key of the table
        message = "The channels of the environment can't be reached, or don't answer as channels do."
        return LoadError("Unreachable", message, retryable=True)

    def _run_pip(self, place: Path) -> None:
        python = place / "bin" / "python"
        if not python.exists():
            raise bad_input("pip needs Python in the environment: give pythonVersion, or python among the packages.")
        wanted = self._work / "requirements.txt"
        wanted.write_text(self._pip)
        command = [str(python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        command += ["--cache-dir", str(self._work / "pip"), "--requirement", str(wanted)]
        command += [argument for pair in self._index for argument in pair]
        passed = ("PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
        environment = {name: os.environ[name] for name in (*passed, "SSL_CERT_FILE") if name in os.environ}
        environment |= {"HOME": str(self._work), "TMPDIR": str(self._work), "PIP_CONFIG_FILE": os.devnull}
        if "SSL_CERT_FILE" in environment:
            environment["PIP_CERT"] = environment["SSL_CERT_FILE"]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
        text = done.stderr.decode("utf-8", "replace").lower()
        if done.returncode == 0:
            return
        if "no space left" in text:
            raise disk.full(place, None)
        if "no matching distribution" in text or "resolutionimpossible" in text:
            raise LoadError("NotFound", "pip finds no set of packages that satisfies pipRequirementsTxt.")
        if "hashes" in text and "match" in text:
            raise LoadError("HashMismatch", "A package that pip fetched has not the hash of pipRequirementsTxt.")
        if "no module named pip" in text:
            raise bad_input("The environment's Python has no pip.")
        raise LoadError("Unreachable", "pip could not install what pipRequirementsTxt asks for.", retryable=True)

    def _tidy(self, place: Path) -> None:
        """Programs that pip wrote begin with the staging path; links stay within."""
        old = f"{place}/".encode()
        new = f"{self._prefix}/".encode()
        for folder, folders, names in os.walk(place):
            for name in (*folders, *names):
                path = Path(folder, name)
                if path.is_symlink():
                    self._check_link(path, place)
        for program in (place / "bin").glob("*"):
            if program.is_symlink() or not program.is_file():
                continue
            with open(program, "rb") as file:
                begins = file.read(2) == _PREFIX
            if begins and old in (data := program.read_bytes()):
                mode = program.stat().st_mode
                program.unlink()  # it may share its bytes with the cache
                program.write_bytes(data.replace(old, new))
                program.chmod(mode)
        shutil.rmtree(place / "conda-meta" / "locks", ignore_errors=True)

    @staticmethod
    def _check_link(path: Path, place: Path) -> None:
        to = os.readlink(path)
        inside = os.path.normpath(os.path.join(path.parent, to))
        if os.path.isabs(to) or not f"{inside}/".startswith(f"{place}/"):
            raise bad_input(f"The environment has a link that leads out of it: {path.relative_to(place)}.")

    @staticmethod
    def _text(request: Request, key: str) -> str:
        if text := request.options.get(key):
            return text
        if path := request.options.get(f"{key}Path"):
            try:
                with open(path, "rb") as file:
                    return file.read(_MAX_TEXT_BYTES).decode()
            except (OSError, UnicodeDecodeError):
                raise bad_input(f"The file of option {key}Path can't be read as text.") from None
        return ""

    @staticmethod
    def _url(options: Any, key: str, flag: str) -> tuple[str, ...]:
        url = options.get(key, "")
        if not url:
            return ()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise bad_input(f"Option {key} must be an http or https URL without credentials.")
        return (flag, url)

    def _read(self, text: str) -> tuple[list[str], list[str]]:
        """Channels and packages of an environment file; its pip part is added to what pip is given."""
        if not text:
            return ["conda-forge"], []
        wrong = bad_input(
            "condaEnvironmentYml must be an environment file: channels, dependencies, and pip below those."
        )
        try:
            told = yaml.safe_load(text)
        except yaml.YAMLError:
            raise wrong from None
        if not isinstance(told, dict):
            raise wrong
        channels: list[str] = []
        for channel in told.get("channels") or ["conda-forge"]:
            if not isinstance(channel, str):
                raise wrong
            channels += _DEFAULTS if channel == "defaults" else [self._channel(channel)]
        specs: list[str] = []
        for item in told.get("dependencies") or []:
            if isinstance(item, str):
                specs.append(item)
            elif isinstance(item, dict) and set(item) == {"pip"} and isinstance(item["pip"], list):
                self._pip = "\n".join([*filter(None, [self._pip.rstrip()]), *map(str, item["pip"]), ""])
            else:
                raise wrong
        return channels, specs

    @staticmethod
    def _channel(channel: str) -> str:
        parts = urlsplit(channel)
        if parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc:
            return channel
        if "://" in channel or channel == "nodefaults" or _CHANNEL.fullmatch(channel) is None or ".." in channel:
            raise bad_input("A channel must be a name, or an http or https URL without credentials.")
        return channel


def _reporter(counters: Progress, seen: dict[int, int]) -> Any:
    """Counts packages and their bytes as they come; `seen` are the bytes of each download."""
    from rattler import InstallerReporter

    class Reporter(InstallerReporter):
        def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
            counters.fetched(progress - seen.get(download_idx, 0))
            seen[download_idx] = progress

        def on_link_complete(self, index: int) -> None:
            counters.whole()

    return Reporter()  # type: ignore[abstract]  # its methods do nothing by themselves
