"""The manifests of `examples/` on a real API server, as `kubectl apply` sends them, under a running operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from modelyard.plan import Kind
from modelyard.resources.meta import MODEL, MODELSOURCE, PVC, SECRET, TRAINING
from support.build import make_claim, make_secret
from support.cluster import path_of, wait_for
from support.volumes import provide

World = Any
Obj = dict[str, Any]
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
KINDS = {kind.kind: kind for kind in (MODELSOURCE, MODEL, TRAINING)}
KEYS: dict[str, dict[str, str]] = {
    "hugging-face": {"token": "x"},
    "bucket": {"access-key": "x", "secret-key": "x"},
    "files": {"username": "x", "password": "x"},
    "git": {"ssh-privatekey": "x"},
    "kaggle": {"username": "x", "key": "x"},
}
"""The Secrets of `sources.yaml`, with the keys that its comments name."""


def manifests(*files: Path) -> Iterator[tuple[Kind, Obj]]:
    """Objects of our kinds."""
    for file in files:
        for obj in yaml.safe_load_all(file.read_text()):
            if obj["kind"] in KINDS:
                yield KINDS[obj["kind"]], obj


def apply(world: World, kind: Kind, obj: Obj, more: str = "") -> None:
    """Server-side apply that refuses what the schema does not know."""
    body = {**obj, "metadata": {**obj["metadata"], "namespace": world.namespace}}
    path = path_of(kind, world.namespace, obj["metadata"]["name"])
    query = f"?fieldManager=kubectl&fieldValidation=Strict{more}"
    world.kube.request("PATCH", path + query, body, "application/apply-patch+yaml")


def test_every_example_passes_a_strict_dry_run(world: World) -> None:
    found = list(manifests(*sorted(EXAMPLES.glob("*.yaml"))))
    assert {kind.kind for kind, _ in found} == set(KINDS)
    for kind, obj in found:
        apply(world, kind, obj, "&dryRun=All")


def test_every_source_is_judged_and_every_version_taken_up(world: World) -> None:
    for name, keys in KEYS.items():
        world.create(make_secret(name, keys), SECRET)
    objects = list(manifests(EXAMPLES / "sources.yaml"))
    for kind, obj in objects:
        apply(world, kind, obj)
    sources = [o["metadata"]["name"] for kind, o in objects if kind == MODELSOURCE]
    assert len(sources) == 10
    world.source_reason("Ready", "ClaimNotFound", "claim")
    claim = make_claim("team-models")
    del claim["status"]
    world.create(claim, PVC)
    provide(world.kube, world.namespace, "team-models", ["ReadWriteOnce"])
    for name in sources:
        world.source_reason("Ready", "Ready", name)

    def begun() -> bool:
        phases = {
            o["metadata"]["name"]: world.entry(o["spec"]["versions"][0]["name"], o["metadata"]["name"]).get("phase")
            for kind, o in objects
            if kind == MODEL
        }
        in_place = {"in-a-claim": "Ready", "on-nfs": "Ready", "of-another-team": "Pending"}
        return all(phase == in_place.get(name, "Processing") for name, phase in phases.items())

    def said() -> str:
        return str(
            [(o["metadata"]["name"], world.status(o["metadata"]["name"])) for kind, o in objects if kind == MODEL]
        )

    wait_for(begun, "every version to be taken up", said=said)
    assert "NotShared" in str(world.status("of-another-team")), "it waits, and says for what"
    for name in sources:
        wait_for(
            lambda name=name: len(world.status(name, MODELSOURCE).get("referencedBy") or ()) == 1, f"{name}'s user"
        )
