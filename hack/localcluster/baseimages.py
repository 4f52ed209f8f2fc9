"""The two images that are made here and not built from a Dockerfile, kept in the cache by what makes them.

- the node's: a pause program and a static busybox; sandboxes and the volume provisioner's helper pods run it;
- the base: Debian with Python, on which the repository's Dockerfiles build where no registry can be reached.
"""

from __future__ import annotations

import hashlib
import inspect
import re
import shutil
import tempfile
from pathlib import Path

from localcluster.errors import LauncherError
from localcluster.host import install_packages
from localcluster.locks import locked
from localcluster.oci import write_archive
from localcluster.paths import HACK, images_root
from localcluster.progress import say, step
from localcluster.shell import run
from localcluster.tools import go_build

_RELEASE = "bookworm"
# unzip, git and compilers are the Dockerfiles' business: this is what `python:3.12-slim` stands for.
_PACKAGES = ("python3", "python3-venv", "ca-certificates", "busybox")
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _key(*sources: str) -> str:
    """Twelve hex digits over what an image is made from, the code that makes it included."""
    digest = hashlib.sha256(inspect.getsource(write_archive).encode())
    for source in sources:
        digest.update(source.encode())
    return digest.hexdigest()[:12]


def node_image() -> str:
    pause = (HACK / "images" / "pause" / "main.go").read_text()
    return f"localhost/modelyard-node:{_key(inspect.getsource(_make_node), pause)}"


def base_image() -> str:
    return f"localhost/modelyard-base:{_key(inspect.getsource(_make_base), _RELEASE, *_PACKAGES)}"


def archive_of(reference: str) -> Path:
    """The archive of one of the two images in the cache, made if it is not there."""
    name = reference.rpartition("/")[2].replace(":", "-")
    archive = images_root() / f"{name}.tar"
    with locked(f"image-{name}"):
        if not archive.exists():
            make = _make_node if reference == node_image() else _make_base
            images_root().mkdir(parents=True, exist_ok=True)
            # What a killed run left is large, and the lock says that nobody works in it.
            for stale in images_root().glob(f".{name}-*"):
                shutil.rmtree(stale)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=images_root()) as folder:
                make(reference, Path(folder), Path(folder) / "archive")
                (Path(folder) / "archive").replace(archive)
            # One that was made from something else is of no more use.
            for other in images_root().glob(f"{name.rpartition('-')[0]}-*.tar"):
                if other != archive:
                    other.unlink()
    return archive


def _make_node(reference: str, folder: Path, archive: Path) -> None:
    with step(f"made the image {reference}"):
        tree = folder / "tree"
        (tree / "bin").mkdir(parents=True)
        go_build(HACK / "images" / "pause", ["."], tree / "pause", "-s -w")
        # Unpacked, not installed: the package would replace the machine's own busybox.
        packages = folder / "packages"
        packages.mkdir()
        # apt's own user must be able to write here.
        folder.chmod(0o755)
        packages.chmod(0o777)
        run("sh", "-c", 'cd "$1" && apt-get -qq download busybox-static', "sh", packages)
        run("dpkg-deb", "--extract", *packages.glob("*.deb"), folder / "busybox")
        busybox = next(p for p in (folder / "busybox").rglob("busybox") if p.is_file() and p.parent.name == "bin")
        shutil.copy2(busybox, tree / "bin" / "busybox")
        for applet in run(tree / "bin" / "busybox", "--list").split():
            if applet != "busybox":
                (tree / "bin" / applet).symlink_to("busybox")
        (tree / "tmp").mkdir()
        (tree / "tmp").chmod(0o1777)
        (tree / "etc").mkdir()
        (tree / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        tree.chmod(0o755)
        write_archive(archive, reference, tree, {"Entrypoint": ["/pause"], "Env": ["PATH=/bin"]})


def _mirror() -> str:
    """The Debian mirror that this machine itself uses for the release."""
    etc = Path("/etc/apt")
    for path in sorted([etc / "sources.list", *(etc / "sources.list.d").glob("*")]):
        if not path.is_file():
            continue
        text = path.read_text()
        for stanza in text.split("\n\n"):
            address = re.search(r"^URIs:\s*(\S+)", stanza, re.MULTILINE)
            if address and re.search(r"^Suites:.*\b(bookworm|trixie|stable)\b", stanza, re.MULTILINE):
                return address[1]
        line = re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+)\s+\S+\s+main\b", text, re.MULTILINE)
        if line:
            return line[1]
    raise LauncherError("the base image is made from Debian packages, and this machine's apt names no Debian mirror")


def _make_base(reference: str, folder: Path, archive: Path) -> None:
    install_packages({"debootstrap": "debootstrap"})
    tree = folder / "tree"
    say("making the base image from Debian packages (once; about a minute)")
    with step(f"made the image {reference}"):
        packages = ",".join(_PACKAGES)
        run("debootstrap", "--variant=minbase", f"--include={packages}", _RELEASE, tree, _mirror())
        for rubbish in ("var/cache/apt/archives", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(tree / rubbish, ignore_errors=True)
        for kept in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt"):
            (tree / kept).mkdir(parents=True)
        # Debian names it python3 only; the images that this one stands for have both names.
        (tree / "usr" / "local" / "bin" / "python").symlink_to("/usr/bin/python3")
        # The machine's own names must not end up in an image.
        for own in ("etc/hostname", "etc/resolv.conf"):
            (tree / own).unlink(missing_ok=True)
        tree.chmod(0o755)
        write_archive(archive, reference, tree, {"Cmd": ["python3"], "Env": [_PATH, "LANG=C.UTF-8"]})
