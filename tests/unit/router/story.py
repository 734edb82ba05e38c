"""Notes as a desk would tell them, written as a story: one call a turn, with a clock that the story moves."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.identity import TurnKind
from agentic_serving.router import words
from agentic_serving.router.config import Config, Program
from agentic_serving.router.views import HeldCall, Live, Replica

__all__ = ["CONFIG", "Desk", "Story", "Turn", "program"]


def program(
    name: str, *, completion_s: float | None = None, percent: float = 95.0, first_token_s: float | None = None
) -> Program:
    return Program(
        route=ProgramRoute(namespace="team", name=name),
        completion_s=completion_s,
        completion_percent=percent,
        first_token_s=first_token_s,
    )


CONFIG = Config(
    namespace="team",
    stack="chat",
    mode="Enforce",
    programs=(program("review", completion_s=60.0, first_token_s=5.0), program("triage")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a turn says and does; durations in seconds, sizes in tokens."""

    session: str = "review/r1"
    run: str = "review/r1"
    program: str = "review"
    parent: str | None = None
    client: str = "ClaudeCode"
    api: str = "messages"
    kind: TurnKind = "human"
    side: str = ""
    n: int = 1
    hold_s: float = 0.0
    hold: str = "WaitsForRoom"
    reason: str = "PrefixIsThere"
    because: str = ""
    asked: str = "chat-0"
    replica: str = "chat-0"
    prefill_s: float = 1.0
    decode_s: float = 2.0
    prompt: int = 1000
    cached: int = 800
    expected: int = 800
    output: int = 50
    recomputed: Mapping[words.Cause, int] = field(default_factory=dict)
    estimated: bool = False
    outcome: str = "Answered"
    status: int = 200
    divergence: str = ""
    traceparent: str = ""


@dataclass(slots=True)
class Story:
    """Tells listeners; `now_s` goes on as turns take their time."""

    listeners: Iterable[words.Listener]
    now_s: float = 1000.0
    _calls: int = 0

    def tell(self, *notes: words.Note) -> None:
        for note in notes:
            for listener in self.listeners:
                listener.hear(note, self.now_s)

    def turn(self, turn: Turn | None = None) -> str:
        """A whole turn, from its arrival to its end. Its call id."""
        turn = turn or Turn()
        call = self.come(turn)
        self.now_s += turn.hold_s
        self.go(call, turn)
        self.now_s += turn.prefill_s
        self.tell(words.Began(call_id=call, status=turn.status, replica=turn.replica))
        self.now_s += turn.decode_s
        self.end(call, turn)
        return call

    def come(self, turn: Turn) -> str:
        """It arrives, and is held if the story says so."""
        self._calls += 1
        call = f"call-{self._calls}"
        self.tell(
            words.Came(
                call_id=call,
                program=turn.program,
                run=turn.run,
                session=turn.session,
                parent=turn.parent,
                client=turn.client,
                api=turn.api,
                model="glm-5",
                kind=turn.kind,
                side=turn.side,
                turn=turn.n,
                confidence=1.0,
                prompt_tokens=turn.prompt,
                new_tokens=turn.prompt - turn.cached,
                reused_tokens=turn.cached,
                divergence=turn.divergence,
                traceparent=turn.traceparent,
            )
        )
        if turn.hold_s > 0:
            self.tell(
                words.Decided(
                    call_id=call,
                    verdict="Hold",
                    reason=turn.hold,
                    uncached_tokens=turn.prompt - turn.cached,
                    because=turn.because,
                )
            )
        return call

    def go(self, call: str, turn: Turn) -> None:
        self.tell(
            words.Decided(
                call_id=call,
                verdict="Admit",
                reason=turn.reason,
                replica=turn.asked,
                uncached_tokens=turn.prompt - turn.expected,
                held_s=turn.hold_s,
                because="" if turn.hold_s else turn.because,
            )
        )

    def end(self, call: str, turn: Turn) -> None:
        self.tell(
            words.Done(
                call_id=call,
                outcome=turn.outcome,  # type: ignore[arg-type]  # stories may tell what the desk never would
                replica=turn.replica,
                prompt_tokens=turn.prompt,
                cached_tokens=turn.cached,
                output_tokens=turn.output,
                estimated=turn.estimated,
                expected_cached_tokens=turn.expected,
                recomputed=turn.recomputed,
            )
        )

    def gap(self, session: str, took_s: float, *, kind: str = "tool", program: str = "review") -> None:
        self.now_s += took_s
        self.tell(
            words.Closed(session=session, program=program, kind=kind, gap_s=took_s)  # type: ignore[arg-type]
        )

    def task(
        self, took_s: float, *, alone_s: float = 0.0, run: str = "review/r1", program: str = "review"
    ) -> None:
        self.tell(
            words.TaskDone(program=program, run=run, took_s=took_s, alone_s=alone_s, held_s=0.0, turns=1)
        )

    def over(self, run: str, took_s: float, *, session: str = "", program: str = "review") -> None:
        self.tell(words.Over(session=session or run, run=run, program=program, why="ended", took_s=took_s))


@dataclass(slots=True)
class Desk:
    """What can be seen of a desk, as a test sets it."""

    shown: Live = field(default_factory=Live)
    waiting: list[HeldCall] = field(default_factory=list)

    def live(self, now_s: float) -> Live:
        return self.shown

    def held(self, now_s: float, limit: int) -> list[HeldCall]:
        return self.waiting[:limit]

    @classmethod
    def with_replicas(cls, *names: str) -> "Desk":
        return cls(
            Live(
                runs=2,
                sessions=5,
                in_flight=3,
                held=1,
                held_bytes=4096,
                replicas=tuple(
                    Replica(
                        name=name,
                        capacity_tokens=100_000,
                        held_tokens=60_000,
                        needed_tokens=40_000,
                        residents=3,
                    )
                    for name in names
                ),
            )
        )
