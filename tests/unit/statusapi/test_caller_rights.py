"""Tokens and rights: kept for a while, never too long, asked once for many, refused when nobody can say."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.cluster import errors
from modelyard.resources.meta import MODEL
from modelyard.statusapi import access, auth, sse
from modelyard.statusapi.access import Access, Question, Seen
from modelyard.statusapi.auth import Identity, Tokens
from modelyard.statusapi.limits import Bucket, Slots
from modelyard.statusapi.main import PULSE_SECONDS
from modelyard.statusapi.middleware import is_loopback
from modelyard.statusapi.problems import Problem


class Cluster:
    """What the API server would say, as this test chooses; nothing of it is asked over a network."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.away = False
        self.answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda spec: {}

    async def create(self, kind: Any, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body["spec"])
        await asyncio.sleep(0)
        if self.away:
            raise errors.UnavailableError("create", 0)
        return {"status": self.answer(body["spec"])}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def jwt(claims: Any) -> str:
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"x.{part}.x"


def accepted(spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "authenticated": True,
        "audiences": spec.get("audiences", []),
        "user": {"username": "jane", "groups": ["g"]},
    }


def tokens(cluster: Any, clock: Clock, *audiences: str) -> Tokens:
    return Tokens(cluster, audiences, clock, clock, lambda _: None)


async def test_a_token_is_reviewed_once_for_many_and_again_after_a_while() -> None:
    cluster, clock = Cluster(), Clock()
    cluster.answer = accepted
    subject = tokens(cluster, clock)
    callers = await asyncio.gather(*(subject.caller("t") for _ in range(5)))
    assert {c.identity.username for c in callers} == {"jane"}
    assert len(cluster.asked) == 1
    clock.now += auth.KEPT_SECONDS + 1
    cluster.answer = lambda spec: {"authenticated": False}
    with pytest.raises(Problem) as refused:
        await subject.caller("t")
    assert refused.value.status == 401


async def test_while_nobody_can_say_a_known_caller_stays_for_less_than_a_minute() -> None:
    cluster, clock = Cluster(), Clock()
    cluster.answer = accepted
    subject = tokens(cluster, clock)
    await subject.caller("t")
    cluster.away = True
    clock.now += auth.KEPT_SECONDS + 1
    assert (await subject.caller("t")).identity.username == "jane"
    clock.now = 1000 + auth.LONGEST_SECONDS + 1
    for token in ("t", "other"):
        with pytest.raises(Problem) as refused:
            await subject.caller(token)
        assert refused.value.status == 503


def test_a_right_ends_within_a_minute_in_open_streams_too_even_if_the_cluster_hangs() -> None:
    """Believed for as long as possible, looked at as late as possible, and each review waits in vain."""
    for module in (auth, access):
        longest = module.LONGEST_SECONDS + sse.RECHECK_SECONDS + PULSE_SECONDS
        assert longest + auth.REVIEW_SECONDS + access.REVIEW_SECONDS < 60


async def test_a_token_that_was_good_is_no_strangers() -> None:
    """So whoever sends bad ones from behind the same proxy shuts nobody out whom the cluster has accepted."""
    cluster, clock = Cluster(), Clock()
    cluster.answer = lambda spec: accepted(spec) if spec["token"] == "good" else {"authenticated": False}
    subject = tokens(cluster, clock)
    assert not subject.known("good")
    await subject.caller("good")
    with pytest.raises(Problem):
        await subject.caller("bad")
    assert subject.known("good")
    assert subject.known("bad")
    clock.now += auth.KEPT_SECONDS + 1
    assert subject.known("good")
    assert not subject.known("bad")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_only_names_that_nobody_can_claim_mean_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


async def test_a_token_for_somebody_else_or_out_of_time_is_refused() -> None:
    cluster, clock = Cluster(), Clock()
    cluster.answer = accepted
    assert (await tokens(cluster, clock, "ours").caller("t")).identity.groups == ("g",)
    cluster.answer = lambda spec: {**accepted(spec), "audiences": ["https://kubernetes"]}
    with pytest.raises(Problem):
        await tokens(cluster, clock, "ours").caller("t")
    cluster.answer = accepted
    subject = tokens(cluster, clock)
    token = jwt({"exp": clock.now + 5})
    assert (await subject.caller(token)).expires == 1005
    clock.now += 6
    with pytest.raises(Problem):
        await subject.caller(token)


@pytest.mark.parametrize("text", ["x", "a.b", "a.é.c", jwt([]), jwt({"exp": "soon"}), jwt({}), "a.!!.c"])
def test_an_odd_token_has_no_expiry(text: str) -> None:
    assert auth.expiry(text) is None


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic x", "Bearer é", "Bearer " + "x" * 20_000])
def test_no_token_is_401(header: str | None) -> None:
    with pytest.raises(Problem) as refused:
        auth.bearer(header)
    assert refused.value.status == 401


def rights(cluster: Any, clock: Clock) -> Access:
    return Access(cluster, clock, lambda _: None)


def allow(*namespaces: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda spec: {"allowed": spec["resourceAttributes"].get("namespace", "") in namespaces}


JANE = Identity.of({"username": "jane", "groups": ["g"], "extra": {"scopes": ["a"]}})


async def test_everywhere_first_then_namespace_by_namespace() -> None:
    cluster = Cluster()
    cluster.answer = allow("")
    assert await access.seen(rights(cluster, Clock()), JANE, MODEL, ["a", "b"]) == Seen(True)
    assert len(cluster.asked) == 1
    cluster.answer = allow("a")
    assert await access.seen(rights(cluster, Clock()), JANE, MODEL, ["a", "b"]) == Seen(False, frozenset({"a"}))
    spec = cluster.asked[-1]
    assert (spec["user"], spec["groups"], spec["extra"]) == ("jane", ["g"], {"scopes": ["a"]})
    with pytest.raises(Problem) as refused:
        await access.seen(rights(cluster, Clock()), JANE, MODEL, [], ["a", "b"])
    assert refused.value.status == 403


async def test_a_right_that_is_taken_away_ends_within_a_minute() -> None:
    cluster, clock = Cluster(), Clock()
    cluster.answer = allow("a")
    subject, question = rights(cluster, clock), Question("list", "modelyard.dev", "models", "a")
    assert await subject.allowed(JANE, question)
    cluster.answer = allow()
    assert await subject.allowed(JANE, question)
    clock.now += access.KEPT_SECONDS + 1
    assert not await subject.allowed(JANE, question)
    other = Identity.of({"username": "joe"})
    cluster.answer = allow("a")
    assert await subject.allowed(other, question), "kept by identity"
    cluster.away = True
    clock.now += access.LONGEST_SECONDS + 1
    with pytest.raises(Problem) as refused:
        await subject.allowed(JANE, question)
    assert refused.value.status == 503


def test_identities_differ_by_everything_that_a_review_sees() -> None:
    user = {"username": "jane", "uid": "1", "groups": ["a"], "extra": {"k": ["v"]}}
    others = [{**user, key: value} for key, value in (("uid", "2"), ("groups", ["a", "b"]), ("extra", {"k": ["w"]}))]
    assert len({Identity.of(one).digest for one in [user, *others]}) == 4


def test_buckets_and_slots() -> None:
    bucket = Bucket(rate=2, burst=3)
    assert [bucket.take("a", 0) for _ in range(4)] == [None, None, None, 1]
    assert bucket.take("b", 0) is None
    assert bucket.wait("a", 0) == 1
    assert bucket.take("a", 0.5) is None
    slots = Slots(each=1, total=2)
    with slots.hold("a") as first, slots.hold("a") as second, slots.hold("b") as third, slots.hold("c") as fourth:
        assert (first, second, third, fourth) == (True, False, True, False)
        assert len(slots) == 2
    assert len(slots) == 0
