"""The ledger: LRU from the end of each prompt, shared prefixes once, nothing in use evicted, and learned corrections."""

import itertools
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentic_serving.errors import InvalidInput
from agentic_serving.program.ledger import Ledger


def ledger(*capacities: int, max_sessions: int = 1000) -> Ledger:
    made = Ledger(max_sessions=max_sessions)
    for i, capacity in enumerate(capacities):
        made.replica(f"r{i}", capacity)
    return made


def turn(
    led: Ledger,
    session: str,
    replica: str,
    prompt: int,
    answer: int = 0,
    cached: int | None = None,
    expected: int | None = None,
) -> None:
    led.begin(session, replica, prompt, 0.0)
    led.end(session, replica, prompt + answer, 0.0, cached=cached, expected=expected)
    led.check()


def test_a_session_is_warm_with_prompt_and_answer_where_it_was() -> None:
    led = ledger(1000, 1000)
    turn(led, "a", "r0", 100, 20)
    assert (led.warm("a", "r0"), led.warm("a", "r1")) == (120, 0)
    turn(led, "a", "r1", 300)
    assert list(led.where("a").items()) == [("r1", 300), ("r0", 120)]


def test_the_least_recently_used_goes_first_from_its_end() -> None:
    led = ledger(1000)
    for session in ("a", "b", "c"):
        turn(led, session, "r0", 300)
    turn(led, "a", "r0", 300)
    led.begin("d", "r0", 250, 0.0)
    led.check()
    assert [led.warm(s, "r0") for s in "abcd"] == [300, 150, 300, 250]
    assert (led.busy("r0"), led.idle("r0")) == (250, 750)


def test_what_is_in_use_is_not_evicted() -> None:
    led = ledger(1000)
    led.begin("a", "r0", 600, 0.0)
    turn(led, "b", "r0", 300)
    led.begin("c", "r0", 700, 0.0)
    led.check()
    assert (led.warm("a", "r0"), led.warm("b", "r0"), led.busy("r0")) == (600, 0, 1300)


def test_a_cancelled_turn_leaves_what_was_there_before() -> None:
    led = ledger(1000)
    turn(led, "a", "r0", 200)
    for session in ("a", "b"):
        led.begin(session, "r0", 400, 0.0)
        led.cancel(session, "r0", 0.0)
        led.check()
    assert (led.warm("a", "r0"), dict(led.where("b")), led.busy("r0"), led.idle("r0")) == (200, {}, 0, 200)


def test_turns_of_one_session_at_once_count_as_the_largest() -> None:
    led = ledger(1000)
    led.begin("a", "r0", 200, 0.0)
    led.begin("a", "r0", 500, 0.0)
    led.begin("a", "r0", 100, 0.0)
    assert led.busy("r0") == 500
    led.end("a", "r0", 510, 0.0)
    led.cancel("a", "r0", 0.0)
    assert (led.busy("r0"), led.idle("r0")) == (510, 0)
    led.cancel("a", "r0", 0.0)
    led.check()
    assert (led.busy("r0"), led.warm("a", "r0")) == (0, 510)


def test_siblings_share_their_prefix_once() -> None:
    led = ledger(2000)
    turn(led, "parent", "r0", 500)
    for child in ("c1", "c2", "c3"):
        led.begin(child, "r0", 600, 0.0, shared=("parent", 400))
        led.check()
    assert led.busy("r0") == 400 + 3 * 200
    assert led.warm("parent", "r0") == 500
    for child in ("c1", "c2", "c3"):
        led.end(child, "r0", 650, 0.0)
        led.check()
    assert led.idle("r0") == 500 + 3 * 250
    led.begin("big", "r0", 1400, 0.0)
    led.check()
    # of 1,250 idle tokens 600 stay: the shared prefix, and the end of what was used last
    assert [led.warm(s, "r0") for s in ("parent", "c1", "c2", "c3")] == [400, 400, 400, 600]


def test_a_prefix_is_warm_for_a_session_whose_own_part_is_gone() -> None:
    led = ledger(1000)
    turn(led, "parent", "r0", 400)
    led.begin("child", "r0", 500, 0.0, shared=("parent", 400))
    led.end("child", "r0", 500, 0.0)
    turn(led, "parent", "r0", 400)
    turn(led, "other", "r0", 600)
    assert led.warm("child", "r0") == 400
    turn(led, "other", "r0", 1000)
    assert dict(led.where("child")) == {}
    assert dict(led.where("parent")) == {}


def test_what_a_compaction_leaves_behind_keeps_its_place_and_is_warm_for_nobody() -> None:
    led = ledger(1000)
    turn(led, "a", "r0", 500)
    turn(led, "b", "r0", 300)
    led.begin("a", "r0", 200, 0.0, shared=("a", 100))
    led.end("a", "r0", 200, 0.0)
    led.check()
    assert (led.warm("a", "r0"), led.idle("r0")) == (200, 900)
    turn(led, "c", "r0", 400)
    assert [led.warm(s, "r0") for s in "abc"] == [200, 300, 400]


def test_a_dropped_session_holds_its_memory_until_it_is_evicted() -> None:
    led = ledger(1000)
    turn(led, "a", "r0", 500)
    led.drop("a")
    led.check()
    assert (led.warm("a", "r0"), led.idle("r0")) == (0, 500)
    turn(led, "b", "r0", 1000)
    assert led.idle("r0") == 1000


def test_a_replica_that_is_gone_holds_nothing_and_late_ends_do_no_harm() -> None:
    led = ledger(1000, 500)
    led.begin("a", "r0", 100, 0.0)
    turn(led, "a", "r1", 100)
    led.gone("r0")
    led.end("a", "r0", 120, 0.0)
    led.check()
    assert (dict(led.where("a")), led.total_capacity, led.capacity("r0")) == ({"r1": 100}, 500, 0)
    with pytest.raises(InvalidInput, match="replica"):
        led.begin("a", "r0", 100, 0.0)


def test_a_smaller_capacity_evicts() -> None:
    led = ledger(1000)
    turn(led, "a", "r0", 500)
    turn(led, "b", "r0", 500)
    led.replica("r0", 600)
    assert (led.warm("a", "r0"), led.warm("b", "r0"), led.total_capacity) == (100, 500, 600)


def test_sessions_beyond_the_bound_are_forgotten() -> None:
    led = ledger(10_000, max_sessions=10)
    for i in range(50):
        turn(led, f"s{i}", "r0", 1)
    assert sum(bool(led.where(f"s{i}")) for i in range(50)) == 10


def test_unexplained_losses_shrink_the_belief_in_a_full_replica_and_hits_restore_it() -> None:
    led = ledger(1000)
    for i in range(400):
        name = f"s{i % 2}"
        expected = led.warm(name, "r0")
        turn(led, name, "r0", 400, cached=0, expected=expected)
    assert 500 <= led.capacity("r0") < 900
    shrunk = led.capacity("r0")
    for _ in range(600):
        expected = led.warm("s0", "r0")
        turn(led, "s0", "r0", 400, cached=expected, expected=expected)
    assert led.capacity("r0") > shrunk + 100


def test_a_client_that_edits_its_prompts_does_not_shrink_an_empty_replica() -> None:
    led = ledger(100_000)
    for _ in range(200):
        turn(led, "a", "r0", 400, cached=0, expected=led.warm("a", "r0"))
    assert led.capacity("r0") == 100_000
    assert led.error > 0.9


def test_what_is_evicted_goes_to_the_host_and_comes_back() -> None:
    led = Ledger()
    led.replica("r0", 500, host_tokens=600)
    turn(led, "a", "r0", 400)
    turn(led, "b", "r0", 300)
    turn(led, "c", "r0", 400)
    assert [(led.warm(s, "r0"), led.warm_host(s, "r0")) for s in "abc"] == [(0, 400), (100, 200), (400, 0)]
    turn(led, "d", "r0", 500)
    # 1,100 tokens are over, 600 stay: of what came first the end went first
    assert [(led.warm(s, "r0"), led.warm_host(s, "r0")) for s in "abcd"] == [
        (0, 0),
        (0, 200),
        (0, 400),
        (500, 0),
    ]
    assert dict(led.where("a")) == {}
    led.begin("b", "r0", 300, 0.0)
    led.cancel("b", "r0", 0.0)
    led.check()
    led.begin("c", "r0", 450, 0.0)
    led.check()
    assert (led.warm("c", "r0"), led.warm_host("c", "r0"), led.busy("r0")) == (450, 0, 450)


def test_a_shared_prefix_comes_back_from_the_host_once() -> None:
    led = Ledger()
    led.replica("r0", 1000, host_tokens=1000)
    turn(led, "parent", "r0", 500)
    led.begin("child", "r0", 600, 0.0, shared=("parent", 400))
    led.end("child", "r0", 600, 0.0)
    turn(led, "other", "r0", 1000)
    assert [led.warm_host(s, "r0") for s in ("parent", "child")] == [500, 600]
    led.begin("child", "r0", 600, 0.0)
    led.begin("parent", "r0", 500, 0.0)
    led.check()
    assert led.busy("r0") == 700


class Brute:
    """The same in single tokens, each with a number, as an engine has blocks: a queue of those that no turn uses."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.numbers = itertools.count()
        self.idle: dict[int, None] = {}  # the next to be evicted first
        self.users: Counter[int] = Counter()
        self.paths: dict[str, list[int]] = {}
        self.turns: dict[str, int] = {}
        self.kept: dict[str, int] = {}

    def found(self, session: str) -> list[int]:
        path = self.paths.get(session, [])
        return list(itertools.takewhile(lambda token: token in self.idle or self.users[token], path))

    def begin(self, session: str, tokens: int, shared: tuple[str, int] | None) -> None:
        path = self.found(session)
        if not self.turns.get(session):
            if shared is not None and shared[0] == session:
                path = path[: shared[1]]
            elif shared is not None and len(other := self.found(shared[0])[: shared[1]]) > len(path):
                path = other
            path = path[:tokens]
            self.turns[session] = 0
            self.kept[session] = len(path)
            self.use(path)
        self.turns[session] += 1
        self.paths[session] = path
        self.grow(session, tokens)

    def end(self, session: str, tokens: int) -> None:
        self.grow(session, tokens)
        self.kept[session] = max(self.kept[session], tokens)
        self.release(session)

    def cancel(self, session: str) -> None:
        if self.turns[session] == 1:
            path = self.paths[session]
            others = {token for name, other in self.paths.items() if name != session for token in other}
            kept = max(self.kept[session], sum(token in others for token in path))
            for token in path[kept:]:
                self.users[token] -= 1
            del path[kept:]
        self.release(session)

    def use(self, tokens: list[int]) -> None:
        for token in tokens:
            self.users[token] += 1
            self.idle.pop(token, None)

    def grow(self, session: str, tokens: int) -> None:
        more = list(itertools.islice(self.numbers, max(0, tokens - len(self.paths[session]))))
        self.paths[session] += more
        self.use(more)
        self.room()

    def release(self, session: str) -> None:
        self.turns[session] -= 1
        if not self.turns[session]:
            for token in reversed(self.paths[session]):
                self.users[token] -= 1
                if not self.users[token]:
                    self.idle[token] = None
        self.room()

    def busy(self) -> int:
        return sum(count > 0 for count in self.users.values())

    def room(self) -> None:
        while self.idle and len(self.idle) + self.busy() > self.capacity:
            del self.idle[next(iter(self.idle))]


SESSIONS = st.sampled_from("abcde")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "fork", "cut", "end", "cancel"]), SESSIONS, SESSIONS, st.integers(1, 30)
    ),
    max_size=60,
)


@example(
    [
        ("begin", "a", "a", 7),
        ("begin", "b", "a", 2),
        ("fork", "d", "b", 3),
        ("end", "b", "a", 1),
        ("cut", "b", "a", 3),
        ("end", "d", "a", 1),  # of what d shares with b, all but the first token goes
    ],
    10,
)
@given(STEPS, st.integers(10, 90))
@settings(deadline=None)
def test_it_is_lru_as_single_tokens_are(steps: list[tuple[str, str, str, int]], capacity: int) -> None:
    led, brute = ledger(capacity), Brute(capacity)
    for step, session, other, n in steps:
        if step in ("end", "cancel"):
            if not brute.turns.get(session):
                continue
            if step == "cancel":
                led.cancel(session, "r0", 0.0)
                brute.cancel(session)
            else:
                size = len(brute.paths[session]) + n % 5
                led.end(session, "r0", size, 0.0)
                brute.end(session, size)
        else:
            shared = {"begin": None, "fork": (other, n - n % 3), "cut": (session, n // 2)}[step]
            led.begin(session, "r0", n, 0.0, shared)
            brute.begin(session, n, shared)
        led.check()
        assert {s: led.warm(s, "r0") for s in "abcde"} == {s: len(brute.found(s)) for s in "abcde"}
        assert (led.busy("r0"), led.idle("r0")) == (brute.busy(), len(brute.idle))


OPERATIONS = st.sampled_from(["begin", "fork", "end", "report", "cancel", "drop", "restart"])
Call = tuple[str, str, str, str, int]


def carry_out(led: Ledger, call: Call) -> None:
    operation, session, other, replica, n = call
    match operation:
        case "begin":
            led.begin(session, replica, n, 0.0)
        case "fork":
            led.begin(session, replica, n, 0.0, shared=(other, n - n % 3))
        case "end":
            led.end(session, replica, n, 0.0)
        case "report":
            led.end(session, replica, n, 0.0, cached=n // 3, expected=n // 2)
        case "cancel":
            led.cancel(session, replica, 0.0)
        case "drop":
            led.drop(session)
        case _:
            led.gone(replica)
            led.replica(replica, 40 + n, host_tokens=n // 2)


NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
CALLS = st.lists(
    st.tuples(OPERATIONS, NAMES, NAMES, st.sampled_from(["r0", "r1"]), st.integers(0, 60)), max_size=80
)


@given(CALLS)
@settings(deadline=None, max_examples=300)
def test_any_order_of_calls_keeps_the_books(calls: list[Call]) -> None:
    led = ledger(100, 60, max_sessions=4)
    led.replica("r1", 60, host_tokens=40)
    for call in calls:
        carry_out(led, call)
        led.check()
        for name in ("r0", "r1"):
            assert led.idle(name) == 0 or led.busy(name) + led.idle(name) <= led.capacity(name)
            assert all(led.where(s).get(name, 0) == led.warm(s, name) for s in "abcdef")
