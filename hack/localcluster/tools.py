"""The Go programs that a cluster is made of: pinned by `hack/tools/*/go.mod`, built once, kept by version.

Each family is a Go module of its own [their requirements clash]. A binary is built beside its place and moved there
whole, under a lock of its family, so a path that exists is a complete binary.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import LauncherError
from localcluster.locks import locked
from localcluster.paths import HACK, bin_root
from localcluster.progress import say, step


@dataclass(frozen=True)
class Family:
    """Programs of one Go module; `packages` maps each program's name to its package."""

    name: str
    module: str
    packages: Mapping[str, str]
    # The package whose gitVersion, gitMajor and gitMinor say what `--version` prints.
    version_package: str = ""

    @property
    def folder(self) -> Path:
        return HACK / "tools" / self.name

    def version(self) -> str:
        """The pinned version; with a hash of our own sources where the family has any."""
        text = (self.folder / "go.mod").read_text()
        match = re.search(rf"^(?:require)?\s+{re.escape(self.module)} (v\S+)", text, re.MULTILINE)
        if match is None:
            raise LauncherError(f"{self.folder}/go.mod requires no {self.module}")
        sources = b"".join(p.read_bytes() for p in sorted(self.folder.glob("*.go")))
        return match[1] + (f"-{hashlib.sha256(sources).hexdigest()[:8]}" if sources else "")

    def ldflags(self) -> str:
        flags = "-s -w"
        if self.version_package:
            version = self.version()
            major, minor = version.removeprefix("v").split(".")[:2]
            for name, value in (("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)):
                flags += f" -X {self.version_package}.{name}={value}"
        return flags


def _kubernetes(*names: str) -> dict[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


FAMILIES = (
    Family("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Family(
        "kubernetes",
        "k8s.io/kubernetes",
        _kubernetes("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy"),
        version_package="k8s.io/component-base/version",
    ),
    Family("coredns", "github.com/coredns/coredns", {"coredns": "."}),
    Family(
        "local-path",
        "github.com/rancher/local-path-provisioner",
        {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
    ),
    Family(
        "buildkit",
        "github.com/moby/buildkit",
        {n: f"github.com/moby/buildkit/cmd/{n}" for n in ("buildkitd", "buildctl")},
    ),
    Family("helm", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"}),
    Family(
        "kubeconform", "github.com/yannh/kubeconform", {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"}
    ),
    Family("kind", "sigs.k8s.io/kind", {"kind": "sigs.k8s.io/kind"}),
    Family("kueue", "sigs.k8s.io/kueue", {"kueue": "sigs.k8s.io/kueue/cmd/kueue"}),
)

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "kube-proxy", "coredns", "local-path-provisioner")
IMAGES = ("buildkitd", "buildctl")
# kind is left out: it is built only where a Docker engine answers. So is kueue, which only its own tests run.
DEFAULT = (*CONTROL_PLANE, *NODE, *IMAGES, "helm", "kubeconform")


def _family_of(name: str) -> Family:
    for family in FAMILIES:
        if name in family.packages:
            return family
    known = ", ".join(sorted(n for f in FAMILIES for n in f.packages))
    raise LauncherError(f"unknown program {name!r}; known are: {known}")


def path_of(name: str) -> Path:
    """Where the binary lies, or will lie once it is built."""
    return bin_root() / f"{name}-{_family_of(name).version()}" / name


def sources_of(name: str) -> Path:
    """The sources of a program's module, for the manifests that come with it; fetched where they are not here yet."""
    family = _family_of(name)
    result = subprocess.run(
        [go_command(), "mod", "download", "-json", family.module],
        cwd=family.folder,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise LauncherError(f"fetching {family.module} {family.version()} failed:\n{result.stderr[-2000:]}")
    return Path(json.loads(result.stdout)["Dir"])


def go_command() -> str:
    go = shutil.which("go")
    if go is None:
        raise LauncherError("Go 1.26 or newer is needed to build the cluster's programs, and no `go` is on the PATH")
    return go


def go_build(folder: Path, packages: Iterable[str], output: Path, ldflags: str) -> None:
    """Build static binaries, at low priority: it takes minutes, and the machine may be in use."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off"}
    argv = ["nice", go_command(), "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", f"{output}"]
    result = subprocess.run(
        [*argv, *packages], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise LauncherError(f"building {' '.join(packages)} failed:\n{result.stderr[-4000:]}")


def _build(family: Family, names: list[str]) -> None:
    with locked(f"build-{family.name}"):
        names = [n for n in names if not path_of(n).exists()]
        if not names:
            return
        say(f"building {', '.join(names)} {family.version()} (once; this can take minutes)")
        bin_root().mkdir(parents=True, exist_ok=True)
        prefix = f".build-{family.name}-"
        # What a killed run left; the lock says that nobody works in it.
        for stale in bin_root().glob(f"{prefix}*"):
            shutil.rmtree(stale)
        with (
            tempfile.TemporaryDirectory(prefix=prefix, dir=bin_root()) as folder,
            step(f"built {', '.join(names)}"),
        ):
            for name in names:
                built = Path(folder) / name
                go_build(family.folder, [family.packages[name]], built, family.ldflags())
                path_of(name).parent.mkdir(parents=True, exist_ok=True)
                built.replace(path_of(name))


def build_tools(names: Iterable[str]) -> dict[str, Path]:
    """Make sure that these programs are built, and say where they are."""
    wanted = list(dict.fromkeys(names))
    for family in FAMILIES:
        missing = [n for n in wanted if n in family.packages and not path_of(n).exists()]
        if missing:
            _build(family, missing)
    return {n: path_of(n) for n in wanted}
