"""Images from Dockerfiles, built by BuildKit straight into the node's image store: no archive, no push, no import.

BuildKit runs as one more daemon of the node, from the first build on until `down`. Its cache lies beside containerd's
images [it refers to them], and both outlive `down`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcluster import cgroups
from localcluster.baseimages import archive_of, base_image
from localcluster.cluster import Cluster
from localcluster.locks import locked
from localcluster.node import Node
from localcluster.progress import step
from localcluster.shell import attempt, shown
from localcluster.tools import IMAGES, build_tools

_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def ca_bundle() -> Path | None:
    """The machine's certificate authorities; build steps get them as the secret `ca`."""
    candidates = (os.environ.get("SSL_CERT_FILE"), *_BUNDLES)
    return next((Path(c) for c in candidates if c and Path(c).is_file()), None)


def _config(node: Node) -> str:
    text = {
        "root": json.dumps(str(node.cluster.store / "buildkit")),
        "socket": json.dumps(f"unix://{_socket(node)}"),
    }
    return f"""
root = {text["root"]}
insecure-entitlements = ["network.host"]

[grpc]
address = [{text["socket"]}]

[worker.oci]
enabled = false

[worker.containerd]
enabled = true
address = "/run/containerd/containerd.sock"
namespace = "k8s.io"
networkMode = "host"
defaultCgroupParent = "/{cgroups.ROOT}/build"
gc = true
gckeepstorage = "4GB"
"""


def _socket(node: Node) -> Path:
    return node.cluster.node / "buildkitd.sock"


def _start(node: Node, buildkitd: Path, buildctl: Path) -> None:
    process = node.process("buildkitd")
    with locked("buildkitd"):
        if process.pid() is None:
            path = node.cluster.conf / "buildkitd.toml"
            path.write_text(_config(node))
            process.start([*node.inside(), buildkitd, f"--config={path}"])
        address = f"unix://{_socket(node)}"
        process.wait_ready(lambda: attempt(buildctl, f"--addr={address}", "debug", "workers").returncode == 0)


def _wants_base(dockerfile: Path) -> bool:
    return re.search(r"^ARG\s+BASE\b", dockerfile.read_text(), re.MULTILINE | re.IGNORECASE) is not None


def build_image(
    name: str,
    tag: str,
    dockerfile: Path,
    context: Path,
    arguments: Mapping[str, str],
    dependencies_key: str | None = None,
) -> None:
    """Build a Dockerfile into the image `tag` on the node of the cluster `name`.

    A Dockerfile with `ARG BASE` that is given no other value for it is built on the base image made here. With
    `dependencies_key` its stage `dependencies` becomes an image of its own, built once a key, and `ARG DEPENDENCIES`
    names it [the build cache would hold gigabytes a second time, and drops them when it is full].
    """
    node = Cluster(name).running_node()
    tools = build_tools(IMAGES)
    arguments = dict(arguments)
    if "BASE" not in arguments and _wants_base(dockerfile):
        arguments["BASE"] = load_base(node)
    _start(node, tools["buildkitd"], tools["buildctl"])
    build = _Build(node, tools["buildctl"], dockerfile, context)
    if dependencies_key is not None:
        key = hashlib.sha256(f"{dependencies_key} {arguments.get('BASE')}".encode()).hexdigest()[:12]
        arguments["DEPENDENCIES"] = f"{tag.rpartition(':')[0]}-dependencies:{key}"
        if not node.images.has(arguments["DEPENDENCIES"]):
            build.run(arguments["DEPENDENCIES"], {**arguments, "DEPENDENCIES": "dependencies"}, "dependencies")
            build.forget()
        node.images.keep_newest(arguments["DEPENDENCIES"], 1)
    build.run(tag, arguments)
    node.images.keep_newest(tag)


@dataclass(frozen=True)
class _Build:
    """Builds of one Dockerfile with the node's BuildKit."""

    node: Node
    buildctl: Path
    dockerfile: Path
    context: Path

    def _buildctl(self, *words: str) -> list[str | Path]:
        return [self.buildctl, f"--addr=unix://{_socket(self.node)}", *words]

    def run(self, tag: str, arguments: Mapping[str, str], target: str | None = None) -> None:
        """Build a stage, or the last one, into the image `tag`."""
        argv = self._buildctl(
            "build",
            f"--progress={'auto' if sys.stderr.isatty() else 'plain'}",
            "--frontend=dockerfile.v0",
            f"--local=context={self.context.resolve()}",
            f"--local=dockerfile={self.dockerfile.resolve().parent}",
            f"--opt=filename={self.dockerfile.name}",
            "--opt=image-resolve-mode=local",
            "--opt=force-network-mode=host",
            "--allow=network.host",
            # Nothing is sent anywhere, and packing gigabytes of layers takes minutes.
            f"--output=type=image,name={tag},unpack=true,compression=uncompressed",
            *(f"--opt=build-arg:{key}={value}" for key, value in arguments.items()),
        )
        if target is not None:
            argv.append(f"--opt=target={target}")
        bundle = ca_bundle()
        if bundle is not None:
            argv.append(f"--secret=id=ca,src={bundle}")
        with step(f"built the image {tag}"):
            shown(*argv)

    def forget(self) -> None:
        """Drop the build cache: what it holds is an image now."""
        attempt(*self._buildctl("prune", "--all"))


def load_base(node: Node) -> str:
    """The base image's name, once it is on the node."""
    reference = base_image()
    if not node.images.has(reference):
        with step(f"put {reference} on the node"):
            node.images.load(archive_of(reference))
        node.images.keep_newest(reference, 1)
    return reference
