"""The generated files: current, small enough, without defaults, bounded, and printed by stable paths."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modelyard.resources import crd, docs
from modelyard.resources.crd import DEFINITIONS, Definition, document

ROOT = Path(__file__).resolve().parents[3]
LIMITS = {"trainings": 120 * 1024}


def schemas(node: dict[str, Any], at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield at, node
    for name, child in node.get("properties", {}).items():
        yield from schemas(child, f"{at}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from schemas(node[key], f"{at}[]")


def root_schema(definition: Definition) -> dict[str, Any]:
    version = document(definition)["spec"]["versions"][0]
    result: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return result


def test_crds_are_current() -> None:
    assert crd.write(ROOT / "crds", crd.files(), check=True) == []


def test_pages_are_current() -> None:
    assert crd.write(ROOT / "docs" / "reference", docs.files(), check=True) == []


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.kind.kind)
def test_sizes(definition: Definition) -> None:
    text = crd.render(document(definition))
    assert len(text.encode()) < LIMITS.get(definition.kind.plural, 60 * 1024)
    assert yaml.safe_load(text) == json.loads(json.dumps(document(definition)))


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.kind.kind)
def test_every_field_is_explained_and_bounded_and_has_no_default(definition: Definition) -> None:
    for at, node in schemas(root_schema(definition), ""):
        named = at.startswith((".spec", ".status")) and not at.endswith("[]")
        assert not named or node.get("description"), at
        assert not {"default", "title", "nullable", "$ref", "oneOf", "allOf"} & set(node), at
        if node.get("type") == "string" and at.startswith((".spec", ".status")):
            assert "maxLength" in node or "enum" in node, at
        if node.get("type") == "array":
            assert "maxItems" in node, at
            assert "x-kubernetes-list-type" in node or ".recipe." in at or ".columns." in at, at
        if "additionalProperties" in node:
            assert "maxProperties" in node, at


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.kind.kind)
def test_columns_do_not_depend_on_an_order(definition: Definition) -> None:
    for column in document(definition)["spec"]["versions"][0]["additionalPrinterColumns"]:
        assert "[" not in column["jsonPath"] or "[?(@.type==" in column["jsonPath"]


def test_check_names_what_is_stale(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text("old")
    wanted = {"a.yaml": "new", "b.yaml": "other"}
    assert crd.run(wanted, "", ["--check", str(tmp_path)]) == 1
    assert (tmp_path / "a.yaml").read_text() == "old"
    assert "a.yaml: not current; run make generate" in capsys.readouterr().out
    assert crd.run(wanted, "", [str(tmp_path)]) == 0
    assert crd.run(wanted, "", ["--check", str(tmp_path)]) == 0
