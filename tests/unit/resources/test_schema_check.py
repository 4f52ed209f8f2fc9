"""The check that tests use on what decisions write finds what a real server finds."""

from __future__ import annotations

import pytest

from modelyard.resources.crd import DEFINITIONS, document
from support.crd_examples import EXAMPLES, Example
from support.schema_check import nodes, refusals

RULES = " ".join(
    rule["message"]
    for definition in DEFINITIONS
    for node in nodes(document(definition)["spec"]["versions"])
    for rule in node.get("x-kubernetes-validations", ())
)


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.server_only], ids=lambda e: e.id)
def test_specs(example: Example) -> None:
    words = example.refused
    by_rule = words is not None and (" " in words or words.startswith("recipe.")) and words in RULES
    found = refusals(example.kind, "spec", example.spec)
    assert bool(found) == (words is not None and not by_rule), found


def test_statuses() -> None:
    assert (
        refusals("Training", "status", {"phase": "Running", "metrics": {"loss": 1}, "effectiveParams": {"a": [1]}})
        == []
    )
    assert refusals(
        "Training",
        "status",
        {"phase": "Gone", "lossy": 1, "metrics": {"loss": "1"}, "history": [{"attempt": 1}, {"attempt": 1}]},
    ) == [
        "status.phase: 'Gone' is not one of ['Pending', 'Validating', 'Preparing', 'Analyzing', 'AwaitingApproval', "
        "'Queued', 'Provisioning', 'Running', 'Suspended', 'Retrying', 'Succeeded', 'Failed']",
        "status.lossy: there is no such field",
        "status.metrics.loss: '1' is no number",
        "status.history: two items have the same key",
    ]
