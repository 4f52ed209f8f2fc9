from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.cluster.facts import TAKEN_FOR, Facts
from modelyard.cluster.reads import Interests, secret_fact
from modelyard.observed import DownloadFact
from modelyard.plan import Ref
from modelyard.resources.meta import CONFIGMAP, SECRET

NOW = datetime(2026, 11, 21, tzinfo=UTC)
TOKEN = Ref(SECRET, "ns", "token")
OTHER = Ref(SECRET, "ns", "other")


def secret(**data: str) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"metadata": {"name": "token", "namespace": "ns", "uid": "u", "resourceVersion": "4"}, "data": encoded}


def test_of_a_secret_only_the_names_of_its_keys_are_kept() -> None:
    fact = secret_fact(secret(token="hf_canary", blank=" \n", none=""), NOW)
    assert fact.present == {"token"}
    assert fact.empty == {"blank", "none"}
    assert fact.resource_version == "4"
    assert "canary" not in repr(fact)


def test_a_missing_and_a_forbidden_secret_are_told_apart() -> None:
    assert not secret_fact(None, NOW).exists
    assert secret_fact(None, NOW, forbidden=True).forbidden


def test_only_news_are_news() -> None:
    facts = Facts(lambda: NOW)
    assert facts.learn(TOKEN, secret_fact(secret(a="x"), NOW))
    assert not facts.learn(TOKEN, secret_fact(secret(a="x"), NOW + timedelta(seconds=30)))
    fact = facts.secret(TOKEN)
    assert fact is not None
    assert fact.checked_at == NOW + timedelta(seconds=30)
    assert facts.learn(TOKEN, secret_fact(None, NOW))


def test_a_taken_name_is_remembered_for_a_while() -> None:
    now = NOW
    facts = Facts(lambda: now)
    ref = Ref(CONFIGMAP, "ns", "a")
    facts.learn_taken(ref, {"metadata": {"name": "a"}})
    assert facts.taken(ref) is not None
    now += TAKEN_FOR
    assert facts.taken(ref) is None


def test_downloads_that_changed_came_or_went_are_told() -> None:
    facts = Facts(lambda: NOW)
    one = DownloadFact("p", 1, 10, None, None, None, None, NOW)
    assert facts.learn_downloads({("ns", "v"): one, ("ns", "w"): one}) == {("ns", "v"), ("ns", "w")}
    assert facts.learn_downloads({("ns", "v"): replace(one, bytes=2), ("ns", "w"): one}) == {("ns", "v")}
    assert facts.learn_downloads({}) == {("ns", "v"), ("ns", "w")}
    assert facts.download("ns", "v") is None


def test_a_read_is_shared_and_ends_with_the_last_who_asks() -> None:
    interests: Interests[str] = Interests()
    assert interests.want("one", [TOKEN]) == []
    assert interests.want("two", [TOKEN, OTHER]) == []
    assert interests.roots(TOKEN) == {"one", "two"}
    assert interests.want("one", []) == []
    assert set(interests.want("two", [OTHER])) == {TOKEN}
    assert len(interests) == 1


def test_reads_come_due_oldest_first_and_not_for_nobody() -> None:
    interests: Interests[str] = Interests()
    interests.want("one", [TOKEN, OTHER])
    interests.schedule(TOKEN, 20.0)
    interests.schedule(OTHER, 10.0)
    assert interests.due(5.0) is None
    assert interests.due(30.0) == OTHER
    interests.want("one", [OTHER])
    assert interests.due(30.0) is None
    interests.schedule(TOKEN, 1.0)
    assert interests.due(30.0) is None
