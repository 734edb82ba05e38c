"""controller.queue: one key at a time, urgent ahead of bulk but not for ever, back-off, and no key lost."""

import asyncio
from random import Random

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agentic_serving.clock import ManualClock, SystemClock
from agentic_serving.controller.keys import Key
from agentic_serving.controller.queue import Backoff, Lane, WorkQueue

A, B, C = (Key("AgenticServingStack", "ns", n) for n in "abc")
EXACT = Backoff(jitter=0.0)


def queue() -> tuple[WorkQueue, ManualClock]:
    clock = ManualClock()
    return WorkQueue(clock, Random(0), EXACT), clock


def test_a_key_waits_once_however_often_it_is_added() -> None:
    q, _ = queue()
    for _ in range(3):
        q.add(A)
    assert (q.take(), q.take()) == (A, None)


def test_a_key_is_never_worked_on_twice_at_once() -> None:
    q, _ = queue()
    q.add(A)
    q.take()
    q.add(A)
    assert q.take() is None
    q.done(A)
    assert q.take() == A


def test_first_due_first_out() -> None:
    q, clock = queue()
    q.add(A, after_s=2)
    q.add(B, after_s=1)
    q.add(C)
    clock.advance(3)
    assert [q.take() for _ in range(3)] == [C, B, A]


def test_an_earlier_time_wins_and_a_later_one_does_not_delay() -> None:
    q, clock = queue()
    q.add(A, after_s=10)
    q.add(A, after_s=1)
    q.add(A, after_s=20)
    clock.advance(1)
    assert q.take() == A


def test_an_edit_goes_ahead_of_a_storm() -> None:
    q, _ = queue()
    for i in range(500):
        q.add(Key("AgenticServingStack", "ns", f"s{i}"))
    q.add(A, lane=Lane.URGENT)
    assert A in (q.take(), q.take())  # every eighth turn belongs to the storm


def test_edits_without_end_do_not_starve_the_rest() -> None:
    q, _ = queue()
    q.add(B)
    for _ in range(8):
        q.add(A, lane=Lane.URGENT)
        taken = q.take()
        assert taken is not None
        q.done(taken)
        if taken == B:
            return
    pytest.fail("bulk starved")


def test_back_off_doubles_up_to_its_limit_and_success_resets_it() -> None:
    q, _ = queue()
    delays = [q.retry(A) for _ in range(10)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    q.forget(A)
    assert q.retry(A) == 1


def test_the_server_may_ask_for_more() -> None:
    q, _ = queue()
    assert q.retry(A, at_least_s=30) == 30


def test_jitter_stays_within_its_share() -> None:
    delays = [Backoff().delay_s(3, Random(seed)) for seed in range(100)]
    assert min(delays) >= 6.4
    assert max(delays) <= 9.6
    assert len(set(delays)) > 50


def test_events_shorten_a_long_back_off_to_a_bounded_rate_and_edits_end_it() -> None:
    q, clock = queue()
    for _ in range(8):  # the last delay is more than 2 minutes
        q.add(A, lane=Lane.BULK, after_s=0)
        clock.advance(400)
        assert q.take() == A
        q.retry(A)
        q.done(A)
    q.add(A)
    clock.advance(4.9)
    assert q.take() is None
    clock.advance(0.1)
    assert q.take() == A
    q.retry(A)
    q.done(A)
    q.add(A, lane=Lane.URGENT)
    assert q.take() == A


def test_an_edit_during_a_failing_pass_is_not_held_back() -> None:
    q, _ = queue()
    q.add(A)
    q.take()
    q.add(A, lane=Lane.URGENT)
    q.retry(A)
    q.done(A)
    assert q.take() == A


def test_depth_and_age_count_what_is_due() -> None:
    q, clock = queue()
    q.add(A)
    q.add(B, after_s=5)
    clock.advance(3)
    assert (q.depth(), q.oldest_s()) == (1, 3)
    clock.advance(4)
    assert (q.depth(), q.oldest_s()) == (2, 7)
    q.take()
    assert (q.depth(), q.running()) == (1, 1)


async def test_get_waits_for_an_add() -> None:
    q = WorkQueue(SystemClock(), Random(0))
    waiting = asyncio.create_task(q.get())
    await asyncio.sleep(0)
    q.add(A)
    assert await waiting == A


async def test_get_waits_for_a_key_to_become_due() -> None:
    q = WorkQueue(SystemClock(), Random(0))
    q.add(A, after_s=0.01)
    q.add(B, after_s=60)
    assert await q.get() == A


class NoKeyIsLost(RuleBasedStateMachine):
    """Whatever is added is handed out later, once, and never while it is being worked on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.queue = WorkQueue(self.clock, Random(0))
        self.asked: set[Key] = set()
        self.running: set[Key] = set()

    keys = st.sampled_from([A, B, C])

    @rule(key=keys, lane=st.sampled_from(list(Lane)), after_s=st.floats(0, 100))
    def add(self, key: Key, lane: Lane, after_s: float) -> None:
        self.queue.add(key, lane=lane, after_s=after_s)
        self.asked.add(key)

    @rule()
    def take(self) -> None:
        key = self.queue.take()
        if key is not None:
            assert key in self.asked
            assert key not in self.running
            self.asked.discard(key)
            self.running.add(key)

    @rule(key=keys, fails=st.booleans())
    def finish(self, key: Key, fails: bool) -> None:
        if key not in self.running:
            return
        if fails:
            self.queue.retry(key)
            self.asked.add(key)
        else:
            self.queue.forget(key)
        self.queue.done(key)
        self.running.discard(key)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def everything_asked_for_comes(self) -> None:
        """Checked by what is held: due times are finite, so turning the clock would hand it out."""
        held = set(self.queue._waiting) | set(self.queue._again)
        assert held == self.asked
        assert self.queue.running() == len(self.running)

    def teardown(self) -> None:
        for key in list(self.running):
            self.finish(key, fails=False)
        self.clock.advance(1000)
        taken = set()
        while (key := self.queue.take()) is not None:
            taken.add(key)
        assert taken == self.asked


TestNoKeyIsLost = NoKeyIsLost.TestCase
TestNoKeyIsLost.settings = hypothesis_settings(max_examples=100, stateful_step_count=30, deadline=None)
