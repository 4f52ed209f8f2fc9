from __future__ import annotations

from typing import Any

from modelyard.cluster.store import Store
from modelyard.plan import Key
from modelyard.resources.meta import CONFIGMAP, MODEL, POD

Obj = dict[str, Any]


def make(name: str, version: int, *, uid: str = "", namespace: str = "ns", **meta: Any) -> Obj:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            **meta,
        }
    }


def names(store: Store) -> list[str]:
    return [obj["metadata"]["name"] for obj in store.list(MODEL)]


def test_a_newer_state_replaces_an_older_one_and_not_the_other_way() -> None:
    store = Store()
    assert store.observe(MODEL, "ADDED", make("a", 5)) is not None
    assert store.put(MODEL, make("a", 7)) is not None
    assert store.observe(MODEL, "MODIFIED", make("a", 6)) is None
    assert store.observe(MODEL, "MODIFIED", make("a", 7)) is None
    found = store.get(MODEL, "ns", "a")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "7"


def test_versions_are_numbers_not_text() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 9))
    assert store.observe(MODEL, "MODIFIED", make("a", 10)) is not None


def test_a_deletion_counts_only_for_its_own_uid() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 8, uid="new"))
    assert store.observe(MODEL, "DELETED", make("a", 6, uid="old")) is None
    assert names(store) == ["a"]
    change = store.observe(MODEL, "DELETED", make("a", 9, uid="new"))
    assert change is not None
    assert change.new is None
    assert names(store) == []


def test_what_is_gone_does_not_come_back_by_a_late_event() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5))
    store.observe(MODEL, "DELETED", make("a", 8))
    assert store.put(MODEL, make("a", 6)) is None
    assert store.observe(MODEL, "MODIFIED", make("a", 7)) is None
    assert names(store) == []
    assert store.observe(MODEL, "ADDED", make("a", 9, uid="another")) is not None


def test_a_late_deletion_of_what_was_never_seen_is_remembered() -> None:
    store = Store()
    store.observe(MODEL, "DELETED", make("a", 8))
    assert store.put(MODEL, make("a", 7)) is None


def test_the_last_words_of_a_pod_outlive_it() -> None:
    store = Store()
    owned = {"ownerReferences": [{"uid": "job", "controller": True}]}
    store.observe(POD, "ADDED", make("p", 5, **owned))
    store.observe(POD, "DELETED", {**make("p", 8, **owned), "status": {"phase": "Failed"}})
    assert store.get(POD, "ns", "p") is None
    assert [pod["status"]["phase"] for pod in store.departed("job")] == ["Failed"]
    for number in range(2_000):
        alone = {"ownerReferences": [{"uid": f"job-{number}", "controller": True}]}
        store.observe(POD, "ADDED", make(f"p-{number}", 10, **alone))
        store.drop(POD, "ns", f"p-{number}")
    assert store.departed("job") == []
    assert len(store.departed("job-1999")) == 1


def test_an_object_that_leaves_the_selector_and_comes_back_is_seen_again() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5))
    store.observe(MODEL, "DELETED", make("a", 8))
    assert store.observe(MODEL, "ADDED", make("a", 12)) is not None


def test_a_relist_drops_what_was_seen_before_it_and_is_absent() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("ghost", 5))
    store.observe(MODEL, "ADDED", make("alive", 6))
    began = store.now()
    changes = store.replace(MODEL, None, [make("alive", 6), make("new", 7)], 20, began)
    assert names(store) == ["alive", "new"]
    assert {(c.old or c.new or {})["metadata"]["name"] for c in changes} == {"ghost", "new"}


def test_a_relist_keeps_what_the_watch_brought_after_the_list_was_made() -> None:
    store = Store()
    began = store.now()
    store.observe(MODEL, "ADDED", make("overtaker", 25))
    store.replace(MODEL, None, [], 20, began)
    assert names(store) == ["overtaker"]


def test_a_relist_drops_what_came_in_meanwhile_but_is_older_than_the_list() -> None:
    store = Store()
    began = store.now()
    store.observe(MODEL, "ADDED", make("late", 15))
    store.replace(MODEL, None, [], 20, began)
    assert names(store) == []


def test_a_relist_of_one_namespace_leaves_the_others_alone() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5, namespace="one"))
    store.observe(MODEL, "ADDED", make("b", 6, namespace="two"))
    store.replace(MODEL, "one", [], 20, store.now())
    assert names(store) == ["b"]


def test_a_relist_wins_over_what_it_must_be_newer_than() -> None:
    """A cluster restored from a backup counts its versions from further back."""
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 500))
    assert store.replace(MODEL, None, [make("a", 40)], 50, store.now()) == []
    store.replace(MODEL, None, [make("a", 40)], 51, store.now())
    found = store.get(MODEL, "ns", "a")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "40"


def test_a_list_from_the_past_takes_nothing_away() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 30))
    assert store.replace(MODEL, None, [], 20, store.now()) == []
    assert names(store) == ["a"]
    store.replace(MODEL, None, [make("a", 30)], 40, store.now())
    assert store.replace(MODEL, None, [], 20, store.now()) == []
    assert names(store) == ["a"]


def test_what_is_listed_after_its_supposed_end_is_there() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 30))
    for _ in range(2):
        store.replace(MODEL, None, [], 20, store.now())
    assert names(store) == []
    assert store.put(MODEL, make("a", 30)) is None
    store.replace(MODEL, None, [make("a", 30)], 31, store.now())
    assert names(store) == ["a"]


def test_owners_and_indexes_follow_every_change() -> None:
    store = Store()
    store.add_index("colour", MODEL, lambda obj: [obj["metadata"]["labels"]["colour"]])
    owner = [{"uid": "boss"}]
    store.observe(MODEL, "ADDED", make("a", 5, labels={"colour": "red"}, ownerReferences=owner))
    store.observe(CONFIGMAP, "ADDED", make("c", 6, ownerReferences=owner))
    assert len(store.owned("boss")) == 2
    assert len(store.owned("boss", CONFIGMAP)) == 1
    assert [o["metadata"]["name"] for o in store.indexed("colour", "red")] == ["a"]
    store.observe(MODEL, "MODIFIED", make("a", 7, labels={"colour": "blue"}))
    assert len(store.owned("boss")) == 1
    assert store.indexed("colour", "red") == []
    assert len(store.indexed("colour", "blue")) == 1
    store.drop(MODEL, "ns", "a")
    assert store.indexed("colour", "blue") == []


def test_an_index_that_is_added_late_knows_what_is_there() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5))
    store.add_index("name", MODEL, lambda obj: [obj["metadata"]["name"]])
    assert len(store.indexed("name", "a")) == 1


def test_managed_fields_are_not_kept() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5, managedFields=[{"manager": "x"}]))
    found = store.get(MODEL, "ns", "a")
    assert found is not None
    assert "managedFields" not in found["metadata"]


def test_a_live_read_that_finds_nothing_forgets_only_that_uid() -> None:
    store = Store()
    store.observe(MODEL, "ADDED", make("a", 5))
    assert store.drop(MODEL, "ns", "a", uid="another") is None
    assert store.drop(MODEL, "ns", "a", uid="uid-a") is not None
    assert list(store.keys(MODEL)) == []
    assert store.get(MODEL, *Key("ns", "a")) is None
