"""Names: legal, short enough, and one for each input."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.resources import names

SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
model = st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda n: SUBDOMAIN.fullmatch(n))
version = st.from_regex(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", fullmatch=True)
short = st.text("ab-1.", min_size=1, max_size=4)
content = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)


def test_plain_names() -> None:
    assert names.version_volume("minilm", "v2") == "mdl-minilm-v2"
    assert names.version_volume("a-b", "2.0.0") == "mdl-a-b-2.0.0"
    assert names.fetch_job("mdl-minilm-v2", 3) == "fetch-mdl-minilm-v2-3"
    assert names.output_volume("run") == "trn-run-output"
    assert names.training_job("run", 2) == "run-2"
    assert names.share("team", "a-b", "v2") == "share-team-a-b-v2"


@pytest.mark.parametrize(
    ("model", "version", "pattern"),
    [
        ("m", "FP16", r"mdl-m-fp16-[0-9a-f]{8}"),
        ("m", "a-b", r"mdl-m-a-b-[0-9a-f]{8}"),
        ("m", "0123abcd", r"mdl-m-0123abcd-[0-9a-f]{8}"),
        ("m" * 40, "v1", r"mdl-m{32}-[0-9a-f]{8}"),
        ("m.x", "Q4_K", r"mdl-m-x-q4-k-[0-9a-f]{8}"),
    ],
)
def test_names_with_a_hash(model: str, version: str, pattern: str) -> None:
    assert re.fullmatch(pattern, names.version_volume(model, version))


@given(model, version, content)
def test_volumes_are_legal(model: str, version: str, content: str) -> None:
    for name in (names.version_volume(model, version), names.version_volume_for(model, version, content)):
        assert len(name) <= names.NAME_MAX
        assert SUBDOMAIN.fullmatch(name)
        assert len(names.fetch_job(name, 99_999)) <= 63
        assert len(f"dataset-{name}-round-999") <= 63


@given(label, model, version, content)
def test_other_names_are_legal(namespace: str, model: str, version: str, content: str) -> None:
    for name in (names.share(namespace, model, version), names.data_volume(model, version, content)):
        assert len(name) <= names.NAME_MAX
        assert SUBDOMAIN.fullmatch(name)


def _injective(one: tuple[str, ...], other: tuple[str, ...], make: Callable[..., str]) -> None:
    assert (one == other) == (make(*one) == make(*other))


@given(st.tuples(short, short), st.tuples(short, short))
def test_two_versions_never_share_a_volume(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    _injective(one, other, names.version_volume)


@given(st.tuples(short, short, short), st.tuples(short, short, short))
def test_two_shares_never_meet(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    _injective(one, other, names.share)
    _injective(one, other, names.version_volume_for)
    _injective(one, other, names.data_volume)


def test_every_short_pair_has_its_own_name() -> None:
    words = ["".join(w) for n in (1, 2, 3) for w in product("aA-.1", repeat=n)]
    pairs = list(product(words, words))
    made = {names.version_volume(m, v) for m, v in pairs}
    made |= {names.version_volume_for(m, v, "0" * 16) for m, v in pairs}
    assert len(made) == 2 * len(pairs)


@given(model, version)
def test_a_plain_name_never_looks_like_one_with_a_hash(model: str, version: str) -> None:
    forged = names.short_hash("mdl", model, version, "version")
    assert names.version_volume(f"{model}-{version}", forged) != names.version_volume(model, version)


def test_a_datasets_job_leads_back_to_it() -> None:
    assert names.dataset_of_job(names.dataset_job("mdl-m-round-1", 12)) == "mdl-m-round-1"
    assert [names.dataset_of_job(job) for job in ("fetch-m-round-1", "dataset-m", "dataset-m-round-x")] == [None] * 3
