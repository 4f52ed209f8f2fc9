"""The log of changes, against a plain model of it: whoever follows, with any pauses, ends with what there is."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from modelyard.plan import Key
from modelyard.resources.meta import MODEL, TRAINING
from modelyard.statusapi.access import Seen
from modelyard.statusapi.changelog import ChangeLog, Entry
from modelyard.statusapi.followers import Followers, Lens, slices

KEYS = [Key(namespace, name) for namespace in ("a", "b") for name in ("x", "y", "z")]
ALL = Lens(((MODEL, Seen(True)), (TRAINING, Seen(True))))


def data(entry: Entry) -> dict[str, object]:
    found: dict[str, object] = json.loads(entry.frame.split(b"data: ")[1])
    return found


class Reader:
    """Follows by the rules of the stream."""

    def __init__(self, log: ChangeLog) -> None:
        self.log = log
        self.seq = 0
        self.state: dict[tuple[object, Key], object] = {}

    def catch_up(self, most: int = 10**9) -> None:
        """Takes at most so many events, as a connection does that breaks off in the middle."""
        if 0 < self.seq < self.log.floor:
            self.seq, self.state = 0, {}
        entries = self.log.after(self.seq)
        for entry in entries[:most]:
            self.seq = entry.seq
            if entry.gone:
                self.state.pop((entry.kind, entry.key), None)
            else:
                self.state[entry.kind, entry.key] = data(entry)["object"]
        if len(entries) <= most:
            self.seq = self.log.head


steps = st.lists(
    st.tuples(st.sampled_from(["put", "gone", "read", "part"]), st.sampled_from(KEYS), st.integers(0, 3)), max_size=80
)


@given(steps)
def test_any_follower_ends_with_what_there_is(done: list[tuple[str, Key, int]]) -> None:
    log, truth = ChangeLog("e", marks=2), {}
    readers = [Reader(log), Reader(log)]
    for number, (what, key, which) in enumerate(done):
        if what == "put":
            truth[MODEL, key] = number
            log.put(MODEL, key, str(number).encode())
        elif what == "gone" and truth.pop((MODEL, key), None) is not None:
            log.gone(MODEL, key, b"{}")
        elif what == "read":
            readers[which % 2].catch_up()
        elif what == "part":
            readers[which % 2].catch_up(most=1)
    for reader in readers:
        reader.catch_up()
        assert reader.state == truth


def test_an_id_is_good_only_here_and_within_what_is_remembered() -> None:
    log = ChangeLog("e", marks=1)
    for name in ("x", "y"):
        log.put(MODEL, Key("a", name), b"{}")
        log.gone(MODEL, Key("a", name), b"{}")
    assert log.resume("e:4") == 4
    assert log.floor == 2
    assert [log.resume(text) for text in ("e:1", "e:5", "f:4", "e:", "e:-1", "e:x", "4", "", "e:٣")] == [None] * 9
    assert log.resume("e:" + "9" * 30) is None


def test_the_log_is_bounded_by_objects_and_marks() -> None:
    log = ChangeLog("e", marks=3)
    for number in range(100):
        log.put(MODEL, Key("a", str(number)), b"{}")
        log.gone(MODEL, Key("a", str(number)), b"{}")
    for _ in range(100):
        log.put(MODEL, Key("a", "one"), b"{}")
    assert len(log.after(log.floor)) == 4


def test_a_lens_shows_only_kinds_namespaces_and_the_name() -> None:
    log = ChangeLog("e")
    for kind in (MODEL, TRAINING):
        for key in KEYS:
            log.put(kind, key, b"{}")
    followers = Followers(log, 0.1, 1)
    lens = Lens(((MODEL, Seen(False, frozenset({"a"}))), (TRAINING, Seen(False))), "y")
    entries, head = followers.batch(0, lens)
    assert ([(e.kind, e.key) for e in entries], head) == ([(MODEL, Key("a", "y"))], 12)
    assert len(followers.batch(0, ALL)[0]) == 12
    log.put(MODEL, KEYS[0], b"{}")
    assert followers.batch(12, ALL) == ((), 12), "not before all are woken"


def test_slices_hold_everything_once() -> None:
    entries = [Entry(n, MODEL, Key("a", str(n)), False, b"x" * 30_000) for n in range(7)]
    pieces = slices(entries)
    assert [e.seq for piece in pieces for e in piece] == list(range(7))
    assert max(len(piece) for piece in pieces) == 3
    assert slices([]) == []
