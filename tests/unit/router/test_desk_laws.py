"""Laws of the desk, whatever comes in whatever order: one last word a call, no hold beyond the promise, all its counts right."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentic_serving.api.matching import PROGRAM_HEADER
from agentic_serving.router import words
from agentic_serving.router.limits import Limits
from agentic_serving.router.words import Call, Declaration, Usage, WarmUp
from tests.unit.router.desking import Driver, chat, config, pod, text_of

#: Whatever clients may send in place of a request.
HOSTILE = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["messages", "content", "role", "type", "tools", "system", "model", "input"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode()),
    st.sampled_from(
        [b"[" * 3000, b'{"messages":' * 1000 + b"1" + b"}" * 1000, b'{"model": "\\ud83d", "messages": []}']
    ),
)
SESSIONS = st.sampled_from(["", "a", "b", "c", "d", "a b", "x" * 200])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        PROGRAM_HEADER: st.sampled_from(["default", "review", "\n", "p" * 300]),
        "x-session-id": SESSIONS,
        "x-parent-session-id": SESSIONS,
        "x-stainless-retry-count": st.sampled_from(["0", "1", "no"]),
        "x-stainless-timeout": st.sampled_from(["1", "600", "-5", "inf"]),
        "x-dynamo-session-final": st.sampled_from(["true", "false"]),
        "content-encoding": st.sampled_from(["gzip", "identity"]),
        "content-length": st.sampled_from(["10", "-1", "9" * 30, "\u0663"]),
        "x-claude-code-session-id": SESSIONS,
        "x-agent-fork": st.sampled_from(["4", "4096", "0", "9" * 30, "\u0663"]),
        "traceparent": st.text(max_size=300),
    },
)
PATHS = st.sampled_from(
    [
        "/v1/chat/completions",
        "/v1/messages?beta=true",
        "/v1/responses",
        "/v1/models",
        "/v1/messages/count_tokens",
    ]
)
PODS = st.sampled_from(
    [
        [pod("r0"), pod("r1")],
        [pod("r0"), pod("r1", capacity_tokens=500)],
        [pod("r0"), pod("r1", draining=True)],
        [pod("r0", endpoint="10.0.0.7:8000"), pod("r1")],
        [pod("r0"), pod("r1", ready=False), pod("r2", role="Prefill")],
        [pod("r0"), pod("r1", capacity_tokens=None), pod("r2", role="Decode")],
        [pod("r1")],
        [],
    ]
)
#: Few sessions and few texts, so that they meet.
TURNS = st.fixed_dictionaries(
    {
        "session": st.sampled_from(["", "a", "b", "c"]),
        "parent": st.sampled_from(["", "", "a", "z"]),
        "tokens": st.sampled_from([10, 200, 600, 900]),
        "name": st.sampled_from("uvw"),
        "program": st.sampled_from(["default", "review"]),
        "fork": st.sampled_from(["", "", "3", "64"]),
        "fields": st.fixed_dictionaries(
            {}, optional={"max_tokens": st.sampled_from([1, 100]), "stream": st.booleans()}
        ),
    }
)


class Desking(RuleBasedStateMachine):
    """A hold is at most 60 s for `review` and 300 s for `default`; four calls may wait."""

    def __init__(self) -> None:
        super().__init__()
        self.n = 0
        self.open: list[str] = []
        self.sent: list[Call] = []
        self.arrived_s: dict[str, float] = {}
        self.closed: set[str] = set()
        self.warm_ups: list[WarmUp] = []  # under way; a third is refused

    @initialize(mode=st.sampled_from(["Enforce", "Enforce", "Observe"]))
    def begin(self, mode: str) -> None:
        self.d = Driver(config(mode), limits=Limits(max_held=4))
        self.d.desk.warm = self._warm

    def _warm(self, warm_up: WarmUp) -> bool:
        assert json.loads(warm_up.body)["stream"] is False
        assert warm_up.endpoint
        if len(self.warm_ups) < 2:
            self.warm_ups.append(warm_up)
            return True
        return False

    @precondition(lambda self: self.warm_ups)
    @rule(
        status=st.sampled_from([0, 200, 503]),
        prompt=st.none() | st.integers(0, 2_000),
        cached=st.none() | st.integers(0, 2_000),
    )
    def warmed(self, status: int, prompt: int | None, cached: int | None) -> None:
        self._over(status, prompt, cached)

    def _over(self, status: int, prompt: int | None, cached: int | None) -> None:
        told = Usage(
            call_id=self.warm_ups.pop(0).id, status=status, prompt_tokens=prompt, cached_tokens=cached
        )
        self.d.take(self.d.desk.warmed(told, self.d.now_s))

    def _arrive(self, call: Call) -> None:
        self.sent.append(call)
        self.open.append(call.id)
        self.arrived_s[call.id] = self.d.now_s
        self.d.arrive(call)
        assert call.id in self.d.last or call.id in self.d.waits

    def _id(self) -> str:
        self.n += 1
        return f"q{self.n}"

    @rule(headers=HEADERS, path=PATHS, body=HOSTILE, complete=st.booleans())
    def hostile(self, headers: dict[str, str], path: str, body: bytes, complete: bool) -> None:
        self._arrive(
            Call(id=self._id(), method="POST", path=path, headers=headers, body=body, complete=complete)
        )

    @rule(turns=st.lists(TURNS, min_size=1, max_size=4))
    def turns(self, turns: list[dict[str, Any]]) -> None:
        for one in turns:
            text = [("user", text_of(one["tokens"], one["name"]))]
            headers = {
                PROGRAM_HEADER: one["program"],
                "x-parent-session-id": one["parent"],
                "x-agent-fork": one["fork"],
            }
            self._arrive(chat(self._id(), text, session=one["session"], headers=headers, **one["fields"]))

    @precondition(lambda self: self.sent)
    @rule(at=st.integers(0, 3), retry=st.booleans())
    def again(self, at: int, retry: bool) -> None:
        call = self.sent[-1 - at] if at < len(self.sent) else self.sent[-1]
        counted = {"x-stainless-retry-count": "1"} if retry else {}
        self._arrive(replace(call, id=self._id(), headers={**call.headers, **counted}))

    @rule(at=st.integers(0, 5))
    def first_token(self, at: int) -> None:
        self.d.first_token(self._some(at))

    @rule(at=st.integers(0, 5))
    def close(self, at: int) -> None:
        call_id = self._some(at)
        self.closed.add(call_id)
        self.d.closed(call_id)

    @rule(
        at=st.integers(0, 5),
        status=st.sampled_from([0, 200, 500]),
        aborted=st.booleans(),
        prompt=st.none() | st.integers(0, 2_000),
        cached=st.none() | st.integers(0, 2_000),
        where=st.sampled_from(["", "10.0.0.1:8000", "10.0.0.9:8000"]),
    )
    def usage(
        self, at: int, status: int, aborted: bool, prompt: int | None, cached: int | None, where: str
    ) -> None:
        told = Usage(
            call_id=self._some(at),
            endpoint=where,
            status=status,
            aborted=aborted,
            prompt_tokens=prompt,
            cached_tokens=cached,
        )
        self.d.take(self.d.desk.usage(told, self.d.now_s))

    @rule(pods=PODS)
    def pods(self, pods: list[words.Pod]) -> None:
        self.d.pods(*pods)

    @rule(
        session=SESSIONS,
        finished=st.booleans(),
        tool_s=st.none() | st.floats(0, 1e6),
        remaining_s=st.none() | st.floats(0, 1e6),
        join=st.booleans(),
        fork=st.none() | st.integers(1, 4096),
    )
    def declare(self, session: str, **fields: Any) -> None:
        self.d.desk.declare(Declaration(program="default", session=session, **fields), self.d.now_s)

    @rule(
        mode=st.sampled_from(["Observe", "Enforce"]),
        programs=st.booleans(),
        capacity=st.sampled_from([None, 800]),
    )
    def configure(self, mode: str, programs: bool, capacity: int | None) -> None:
        self.d.configure(mode=mode, programs=config().programs if programs else (), capacity_tokens=capacity)

    @rule(seconds=st.sampled_from([0.1, 1.0, 15.0, 100.0, 2000.0]))
    def wait(self, seconds: float) -> None:
        self.d.run_until(self.d.now_s + seconds)

    @precondition(lambda self: self.open)
    @rule(at=st.integers(0, 5))
    def end_run(self, at: int) -> None:
        came = self.d.ear.of(words.Came, self._some(at))
        if came:
            self.d.take(self.d.desk.end_run(came[0].run, self.d.now_s))

    @invariant()
    def whoever_waits_waits_as_promised(self) -> None:
        if not hasattr(self, "d"):
            return
        for call_id, wait in self.d.waits.items():
            assert wait.until_s <= self.arrived_s[call_id] + 300.0
            if self.d.held(call_id) and call_id not in self.closed:
                assert self.d.now_s < wait.until_s + 1e-6

    @invariant()
    def what_is_seen_is_so(self) -> None:
        if not hasattr(self, "d"):
            return
        held = {one.call_id for one in self.d.desk.held(self.d.now_s, 100)}
        assert held == {one for one in self.d.waits if self.d.held(one) and one not in self.closed}
        assert self.d.desk.live(self.d.now_s).held == len(held) <= 4

    def teardown(self) -> None:
        """Every call ends, and has one Came at most and then one Done."""
        if not hasattr(self, "d"):
            return
        self.d.run_until(self.d.now_s + 400.0)
        assert set(self.open) - self.closed <= set(self.d.last)
        for call_id in self.open:
            self.d.closed(call_id)
        self.d.run_until(self.d.now_s + 20.0)
        for call_id in self.open:
            assert len(self.d.ear.of(words.Done, call_id)) == len(self.d.ear.of(words.Came, call_id)) <= 1
        while self.warm_ups:
            self._over(200, 100, 0)
        self.d.run_until(self.d.now_s + 2 * 2000.0)
        assert not len(self.d.desk.scheduler._flights)
        assert not self.d.desk._warming
        live = self.d.desk.live(self.d.now_s)
        assert (live.in_flight, live.held, live.held_bytes, live.sessions, live.runs) == (0, 0, 0, 0, 0)

    def _some(self, at: int) -> str:
        return self.open[-1 - at] if at < len(self.open) else "nobody"


Desking.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestDesking = Desking.TestCase


@pytest.mark.parametrize("order", [("closed", "usage"), ("usage", "closed")], ids="-".join)
def test_a_call_ends_once_in_whichever_order_its_end_is_told(order: tuple[str, str]) -> None:
    d = Driver()
    d.arrive(chat("q", [("user", "hi")], session="a"))
    for event in order:
        d.closed("q") if event == "closed" else d.usage("q", prompt_tokens=10, cached_tokens=0)
    d.run_until(5.0)
    assert d.done("q").outcome == "Answered"
