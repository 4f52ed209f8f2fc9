"""The stream: what a follower ends with is what a fresh list shows, whatever happens in between."""

from __future__ import annotations

import time
from pathlib import Path

from modelyard.resources.meta import MODEL, TRAINING
from support.cluster import Kube, new_namespace, wait_for
from support.statusapi import (
    SPECS,
    ApiProcess,
    Follower,
    account,
    api_process,
    equal,
    grant,
    listed,
    make,
    revoke,
    rule,
    service_account,
)

VIEW = ["get", "list", "watch"]


def test_a_snapshot_then_changes_then_a_resume_without_loss(
    api: ApiProcess, kube: Kube, admin_token: str, filled: str
) -> None:
    caller = api.caller(admin_token)
    first = Follower(api.url, admin_token, namespace=filled)
    assert first.synced.wait(120)
    assert first.events[0] == ("reset", {"reason": "Start"})
    equal(first, lambda: listed(caller, filled))
    kube.merge(TRAINING, filled, "one", {"status": {"phase": "Running", "progress": {"percent": 7}}}, "status")
    make(kube, MODEL, filled, "two", SPECS["models"])
    kube.delete(MODEL, filled, "one")
    equal(first, lambda: listed(caller, filled))
    assert first.seen("change")[-1]["object"]["namespace"] == filled
    first.close()

    make(kube, MODEL, filled, "three", SPECS["models"])
    kube.delete(MODEL, filled, "two")
    wait_for(lambda: ("Model", filled, "three") in listed(caller, filled), "the API to see the change")
    second = Follower(api.url, admin_token, first.last_event_id, namespace=filled)
    second.objects = first.state()
    assert second.synced.wait(120)
    equal(second, lambda: listed(caller, filled))
    assert second.seen("reset") == []
    assert {change["object"]["name"] for change in second.seen("change")} == {"two", "three"}
    second.close()


def test_a_list_says_where_the_stream_goes_on(api: ApiProcess, kube: Kube, admin_token: str, filled: str) -> None:
    caller = api.caller(admin_token)
    wait_for(lambda: len(listed(caller, filled)) == 3, "the API to see the objects")
    answer = caller.get("/models", namespace=filled)
    make(kube, MODEL, filled, "later", SPECS["models"])
    follower = Follower(api.url, admin_token, answer.headers["Modelyard-Position"], namespace=filled, kind="models")
    wait_for(lambda: ("Model", filled, "later") in follower.state(), "the change")
    assert follower.seen("reset") == []
    follower.close()


def test_after_a_restart_the_stream_begins_anew_and_says_so(
    api_kubeconfig: Path, kube: Kube, admin_token: str, filled: str, tmp_path: Path
) -> None:
    with api_process(tmp_path, api_kubeconfig) as api:
        first = Follower(api.url, admin_token, namespace=filled)
        assert first.synced.wait(120)
        assert api.stop() == 0
        assert first.over.wait(120)
        kube.delete(MODEL, filled, "one")
        api.start()
        second = Follower(api.url, admin_token, first.last_event_id, namespace=filled)
        second.objects = first.state()
        assert second.synced.wait(120)
        assert second.seen("reset") == [{"reason": "NotResumable"}]
        equal(second, lambda: listed(api.caller(admin_token), filled))
        assert ("Model", filled, "one") not in second.state()
        for odd in ("x", "0:0", f"{second.last_event_id}9", ":"):
            third = Follower(api.url, admin_token, odd, namespace=filled)
            assert third.synced.wait(120)
            assert third.seen("reset") == [{"reason": "NotResumable"}]
            third.close()
        second.close()


def test_what_is_taken_away_ends_within_a_minute(api: ApiProcess, kube: Kube, filled: str) -> None:
    """A right, a part of the rights, and the account itself: streams and lists alike."""
    other = new_namespace(kube, "other")
    make(kube, MODEL, other, "one", SPECS["models"])
    tokens = {}
    for name in ("loses-all", "loses-half", "is-deleted"):
        tokens[name] = account(kube, filled, name)
        for namespace in (filled, other):
            grant(kube, f"{name}-{namespace}", service_account(filled, name), [rule(VIEW, ["*"])], namespace)
    streams = {name: Follower(api.url, token) for name, token in tokens.items()}
    asked = Follower(api.url, tokens["loses-all"], namespace=filled)
    for stream in (*streams.values(), asked):
        assert stream.synced.wait(120)
        wait_for(lambda s=stream: ("Model", filled, "one") in s.state(), "the snapshot")  # type: ignore[misc]
    began = time.monotonic()
    for namespace in (filled, other):
        revoke(kube, f"loses-all-{namespace}", namespace)
    revoke(kube, f"loses-half-{other}", other)
    kube.request("DELETE", f"/api/v1/namespaces/{filled}/serviceaccounts/is-deleted")
    wait_for(lambda: streams["is-deleted"].over.is_set(), "the deleted account's stream to end")
    wait_for(lambda: not streams["loses-all"].state(), "the snapshot to be empty")
    wait_for(lambda: asked.over.is_set(), "the stream of that namespace to end")
    wait_for(lambda: {key[1] for key in streams["loses-half"].state()} == {filled}, "the half to remain")
    print(f"all ended after {time.monotonic() - began:.1f} s")
    assert streams["is-deleted"].seen("end")[0]["code"] == "Unauthenticated"
    assert asked.seen("end")[0]["code"] == "Forbidden"
    assert {"reason": "AccessChanged"} in streams["loses-half"].seen("reset")
    assert api.caller(tokens["is-deleted"]).get("/models").status_code == 401
    assert api.caller(tokens["loses-all"]).get("/models", namespace=filled).status_code == 403
    assert api.caller(tokens["loses-half"]).get("/models", namespace=other).status_code == 403
    for stream in streams.values():
        stream.close()


def test_many_followers_some_stalled_end_with_the_same_state(
    api: ApiProcess, kube: Kube, admin_token: str, filled: str
) -> None:
    """The bench's thousand, in small: changes while some reconnect and some do not read."""
    caller = api.caller(admin_token)
    for number in range(40):
        make(kube, MODEL, filled, f"m{number}", SPECS["models"])
    stalled = [api.caller(admin_token).http.stream("GET", "/events").__enter__() for _ in range(5)]
    followers = [Follower(api.url, admin_token, namespace=filled) for _ in range(15)]
    for change in range(120):
        kube.merge(MODEL, filled, f"m{change % 40}", {"metadata": {"labels": {"round": str(change)}}})
        if change % 40 == 20:
            old = followers.pop(0)
            old.close()
            new = Follower(api.url, admin_token, old.last_event_id, namespace=filled)
            new.objects.update(old.state())
            followers.append(new)
    kube.delete(MODEL, filled, "m0")
    wait_for(lambda: ("Model", filled, "m0") not in listed(caller, filled), "the last change")
    for follower in followers:
        equal(follower, lambda: listed(caller, filled))
        follower.close()
    for answer in stalled:
        answer.close()
