"""What is applied is read as YAML by the API server: every text must arrive as it was."""

from __future__ import annotations

import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelyard.cluster.client import as_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


@given(st.dictionaries(TEXT, TEXT | st.integers() | st.booleans() | st.none() | st.lists(TEXT, max_size=3), max_size=5))
def test_any_text_arrives_as_it_was(body: dict[str, object]) -> None:
    assert yaml.safe_load(as_yaml(body)) == body


def test_the_awkward_ones() -> None:
    body = {"message": 'é 漢 😀 \u202e \x7f \x85 \u2028 \ufeff \\ud83d \\ " \t \n'}
    assert yaml.safe_load(as_yaml(body)) == body
    assert b"\\ud83d\\ude00" not in as_yaml(body)
