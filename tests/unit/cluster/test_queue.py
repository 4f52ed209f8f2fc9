from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from modelyard.cluster.queue import BACKOFF_MAX, Schedule, WorkQueue, backoff


def test_a_key_is_handed_out_once_however_often_it_was_added() -> None:
    schedule: Schedule[str] = Schedule()
    assert schedule.add("a", 1.0)
    assert not schedule.add("a", 1.0)
    assert schedule.take(1.0) == ("a", 1.0)
    assert schedule.take(1.0) is None


def test_what_is_added_while_in_hand_comes_again_afterwards() -> None:
    schedule: Schedule[str] = Schedule(coalesce=0.2)
    schedule.add("a", 1.0)
    schedule.take(1.0)
    schedule.add("a", 1.05)
    assert schedule.take(5.0) is None
    assert schedule.next_due() is None
    schedule.done("a", 5.0)
    assert schedule.take(5.0) == ("a", 1.2)


def test_a_key_is_not_handed_out_twice_within_the_coalescing_time() -> None:
    schedule: Schedule[str] = Schedule(coalesce=0.2)
    schedule.add("a", 1.0)
    schedule.take(1.0)
    schedule.done("a", 1.01)
    schedule.add("a", 1.02)
    assert schedule.take(1.19) is None
    assert schedule.next_due() == 1.2
    assert schedule.take(1.2) is not None


def test_an_earlier_time_wins_over_a_later_one() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 30.0)
    schedule.add("a", 2.0)
    schedule.add("a", 60.0)
    assert schedule.take(1.0) is None
    assert schedule.take(2.0) == ("a", 2.0)
    schedule.done("a", 2.0)
    assert schedule.take(100.0) is None


def test_what_settles_waits_for_the_rest_of_its_burst_but_not_for_ever() -> None:
    schedule: Schedule[str] = Schedule()
    assert schedule.settle("a", 1.0, 0.3)
    for now in (1.2, 1.4, 1.6, 1.8, 1.9, 1.95):
        assert schedule.take(now) is None
        assert not schedule.settle("a", now, 0.3)
    assert schedule.take(1.99) is None
    assert schedule.take(2.0) == ("a", 2.0)
    schedule.settle("a", 2.25, 0.25)
    schedule.done("a", 2.4)
    assert schedule.take(2.7) == ("a", 2.5)


def test_what_settles_does_not_put_off_what_is_due_for_another_reason() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.settle("a", 1.0, 0.3)
    schedule.add("a", 1.1)
    schedule.settle("a", 1.05, 0.3)
    assert schedule.take(1.1) == ("a", 1.1)
    schedule.done("a", 1.1)
    schedule.add("a", 60.0)
    schedule.settle("a", 2.0, 0.3)
    assert schedule.take(2.3) == ("a", 2.3)


def test_keys_do_not_hold_each_other_up() -> None:
    schedule: Schedule[str] = Schedule()
    schedule.add("a", 1.0)
    schedule.add("b", 1.0)
    assert schedule.take(1.0) == ("a", 1.0)
    assert schedule.take(1.0) == ("b", 1.0)
    assert schedule.longest_running(3.0) == 2.0


def test_backoff_doubles_to_its_limit_and_jitter_only_shortens() -> None:
    assert [backoff(n, 0) for n in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert backoff(100, 0) == BACKOFF_MAX
    assert backoff(1, 1) == 0.1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "settle", "take", "done"])), max_size=60))
def test_nothing_that_was_added_is_lost_and_no_key_is_in_two_hands(steps: list[tuple[str, str]]) -> None:
    schedule: Schedule[str] = Schedule(coalesce=0.2)
    wanted: set[str] = set()
    in_hand: set[str] = set()
    now = 0.0
    for key, step in steps:
        now += 0.05
        if step == "add":
            schedule.add(key, now)
            wanted.add(key)
        elif step == "settle":
            schedule.settle(key, now, 0.3)
            wanted.add(key)
        elif step == "take":
            if (taken := schedule.take(now)) is not None:
                assert taken[0] not in in_hand
                in_hand.add(taken[0])
                wanted.discard(taken[0])
        elif key in in_hand:
            schedule.done(key, now)
            in_hand.discard(key)
    for key in list(in_hand):
        schedule.done(key, now)
    left = set()
    while (taken := schedule.take(now + 10)) is not None:
        left.add(taken[0])
    assert left == wanted


async def test_workers_wait_for_what_is_due_and_failures_count_up() -> None:
    now = 100.0
    queue: WorkQueue[str] = WorkQueue(lambda: now, lambda: 0.0)
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.add("a")
    assert await waiting == "a"
    assert [queue.fail("a") for _ in range(3)] == [0.2, 0.4, 0.8]
    queue.succeed("a")
    assert queue.fail("a", at_least=7.0) == 7.0
    queue.done("a")
    assert queue.depth() == 0
    now = 107.0
    assert queue.depth() == 1
    assert await queue.get() == "a"
