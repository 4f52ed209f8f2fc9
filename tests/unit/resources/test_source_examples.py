"""The example of every type of source is right, as far as it can be judged without a cluster."""

from __future__ import annotations

from pathlib import Path

import yaml

from modelyard.resources.model import ModelSpec
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.problems import parse
from modelyard.resources.sources import check_config, check_content, check_secret_ref
from modelyard.resources.sourcetypes import SOURCES

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "sources.yaml"


def test_every_type_has_an_example_that_is_right() -> None:
    objects = list(yaml.safe_load_all(EXAMPLES.read_text()))
    sources = {o["metadata"]["name"]: parse(ModelSourceSpec, o["spec"]) for o in objects if o["kind"] == "ModelSource"}
    models = [parse(ModelSpec, o["spec"]) for o in objects if o["kind"] == "Model"]
    assert sorted(source.type for source in sources.values()) == sorted(SOURCES)
    assert {model.source_ref for model in models} == set(sources)
    for source in sources.values():
        assert check_config(source.type, source.config) == []
        assert check_secret_ref(source.type, source.secret_ref) is None
    for model in models:
        source = sources[str(model.source_ref)]
        for version in model.versions:
            found = check_content(
                source.type,
                source.config,
                str(version.repo),
                revision=version.revision,
                include=version.include,
                exclude=version.exclude,
                at=version.name,
            )
            assert found == []
