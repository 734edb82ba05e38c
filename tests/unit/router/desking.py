"""A desk driven by hand: replicas of 1,000 tokens, whose engines compute 80 in a step; calls of Claude Code's, OpenAI's and unnamed sessions."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentic_serving.api.matching import PROGRAM_HEADER, ProgramRoute
from agentic_serving.program.policy import Policy
from agentic_serving.router import words
from agentic_serving.router.config import Config, Program
from agentic_serving.router.desk import Desk
from agentic_serving.router.limits import Limits
from agentic_serving.router.words import Call, Go, Note, Pod, Refuse, Usage, Wait, Word

CAPACITY = 1_000
#: Nothing goes for being cheap to compute again.
STRICT = replace(Policy.for_step(80), recompute_budget=0.0)


def config(mode: str = "Enforce", **fields: Any) -> Config:
    programs = (
        Program(route=ProgramRoute(namespace="ns", name="review", clients=("ClaudeCode",)), max_hold_s=60.0),
    )
    given = {"namespace": "ns", "stack": "s", "mode": mode, "programs": programs, "policy": STRICT}
    return Config(**{**given, **fields})


def pod(name: str, **fields: Any) -> Pod:
    given = {
        "name": name,
        "endpoint": f"10.0.0.{int(name.strip('abcdefghijklmnopqrstuvwxyz') or 0) + 1}:8000",
        "role": "Aggregated",
        "ready": True,
        "capacity_tokens": CAPACITY,
    }
    return Pod(**{**given, **fields})


def text_of(tokens: int, name: str = "x") -> str:
    """Text of about so many tokens, at the first rate of four bytes each."""
    return (f"{name} " * (4 * tokens))[: 4 * tokens]


def chat(
    call_id: str,
    messages: Sequence[tuple[str, str]],
    *,
    session: str = "",
    headers: dict[str, str] | None = None,
    **body: Any,
) -> Call:
    """A Chat Completions call; `session`: as the header x-session-id."""
    sent = {
        "model": "m",
        "stream": True,
        "messages": [{"role": r, "content": c} for r, c in messages],
        **body,
    }
    named = {"x-session-id": session} if session else {}
    return Call(
        id=call_id,
        method="POST",
        path="/v1/chat/completions",
        headers={PROGRAM_HEADER: "default", "content-type": "application/json", **named, **(headers or {})},
        body=json.dumps(sent).encode(),
    )


def turn(call_id: str, session: str, tokens: int, *, name: str = "", **fields: Any) -> Call:
    """The first turn of a session, whose prompt has about so many tokens that nobody else has."""
    return chat(call_id, [("user", text_of(tokens, name or session))], session=session, **fields)


class Ear:
    """Listens."""

    def __init__(self) -> None:
        self.notes: list[Note] = []

    def hear(self, note: Note, now_s: float) -> None:
        self.notes.append(note)

    def of(self, kind: type[Any], call_id: str = "") -> list[Any]:
        return [n for n in self.notes if isinstance(n, kind) and (not call_id or n.call_id == call_id)]


class Driver:
    """Keeps time and words; never lets a call have two last words."""

    def __init__(self, given: Config | None = None, *, n_pods: int = 2, limits: Limits | None = None) -> None:
        self.ear = Ear()
        self.now_s = 0.0
        self.config = given or config()
        self.desk = Desk(self.config, listeners=[self.ear], hint=hinted, limits=limits)
        self.desk.on_error(_raise)
        self.waits: dict[str, Wait] = {}
        self.last: dict[str, Go | Refuse] = {}
        if n_pods:
            self.pods(*(pod(f"r{i}") for i in range(n_pods)))

    def take(self, told: Sequence[Word]) -> None:
        for word in told:
            assert word.call_id not in self.last, "a word after the last"
            if isinstance(word, Wait):
                assert word.call_id not in self.waits, "two waits"
                self.waits[word.call_id] = word
            else:
                self.last[word.call_id] = word
        self.desk.check()

    def pods(self, *pods: Pod) -> None:
        self.take(self.desk.pods(pods, self.now_s))

    def arrive(self, call: Call) -> None:
        self.take(self.desk.arrive(call, self.now_s))

    def first_token(self, call_id: str) -> None:
        self.take(self.desk.first_token(call_id, self.now_s))

    def closed(self, call_id: str) -> None:
        self.take(self.desk.closed(call_id, self.now_s))

    def usage(self, call_id: str, **fields: Any) -> None:
        self.take(self.desk.usage(Usage(call_id=call_id, **{"status": 200, **fields}), self.now_s))

    def end(
        self, call_id: str, prompt: int, *, cached: int = 0, output: int = 10, endpoint: str = ""
    ) -> None:
        """As a stream ends: a token, the end, the access log."""
        self.first_token(call_id)
        self.closed(call_id)
        self.usage(
            call_id, endpoint=endpoint, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output
        )

    def run_until(self, at_s: float) -> None:
        """As a host does: a tick whenever the desk wants one."""
        for _ in range(100_000):
            wake_s = self.desk.wake_s
            if wake_s is None or wake_s > at_s:
                break
            self.now_s = max(self.now_s, wake_s)
            self.take(self.desk.tick(self.now_s))
        self.now_s = at_s
        self.take(self.desk.tick(self.now_s))

    def configure(self, **fields: Any) -> None:
        self.config = replace(self.config, **fields)
        self.take(self.desk.configure(self.config, self.now_s))

    def went(self, call_id: str) -> bool:
        return isinstance(self.last.get(call_id), Go)

    def held(self, call_id: str) -> bool:
        return call_id in self.waits and call_id not in self.last

    def decided(self, call_id: str) -> list[tuple[str, str]]:
        return [(note.verdict, note.reason) for note in self.ear.of(words.Decided, call_id)]

    def done(self, call_id: str) -> words.Done:
        (found,) = self.ear.of(words.Done, call_id)
        assert isinstance(found, words.Done)
        return found

    def came(self, call_id: str) -> words.Came:
        (found,) = self.ear.of(words.Came, call_id)
        assert isinstance(found, words.Came)
        return found


def hinted(target: str, pods: Sequence[Pod]) -> tuple[str, ...]:
    """The one pod alone."""
    return tuple(one.endpoint for one in pods if one.name == target)


def full(given: Config | None = None, *, limits: Limits | None = None) -> Driver:
    """Two replicas; on each decodes a turn of 80,000 tokens, of sessions b0 and b1."""
    made = Driver(given, limits=limits)
    for i in range(2):
        made.arrive(turn(f"b{i}", f"b{i}", 800))
        assert made.went(f"b{i}")
        made.first_token(f"b{i}")
    return made


def _raise(error: Exception) -> None:
    raise error
