"""OpenTelemetry `gen_ai` spans: small graphs of model calls, with their text.

Format: the trace files of kubernetes-sigs/inference-perf: `{trace_id, spans: [{span_id, start_time, end_time, attributes,
resource_attributes}]}`. Spans do not say what they waited for, so that is inferred, as inference-perf does:

- a call waits for every call whose answer its messages quote;
- one that quotes none waits for the call that ended last before it started.

A gap is `tool` where the call waits for other agents' answers, or is an agent's first, made by another; a later request
of whoever called the agent is a new task: `human`.

Calls of one service that follow each other are one session; where the trace names one service only, a call continues a
session if its messages begin with that session's. Tokens are estimated, 4 characters each, where usage is not recorded.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from agentic_serving.capacity.runs import Runs, from_ids
from agentic_serving.workload.fields import Reader
from agentic_serving.workload.lineage import with_bases
from agentic_serving.workload.types import GapKind, Message, Program, Session, Turn, TurnId

__all__ = ["BLOCK_TOKENS", "program"]

#: vLLM's default block; the trace has none of its own.
BLOCK_TOKENS = 16
#: Of English text, OpenAI's rule of thumb (help.openai.com, "What are tokens and how to count them").
_CHARS_PER_TOKEN = 4
#: A shorter answer ("Yes.") in a prompt proves nothing.
_QUOTE_CHARS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    service: str
    start_s: float
    end_s: float
    messages: tuple[Message, ...]
    answer: str
    output_tokens: int

    def quotes(self, other: "_Span") -> bool:
        """True if the other's answer stands in this span's messages."""
        answer = other.answer.strip()
        return len(answer) >= _QUOTE_CHARS and any(answer in m.text for m in self.messages)

    def extends(self, other: "_Span") -> bool:
        """True if this conversation begins with the other's messages."""
        return self.messages[: len(other.messages)] == other.messages


@dataclass(slots=True)
class _Thread:
    """A session under construction: its spans, and what each waited for."""

    name: str
    parent: str | None
    spans: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


def program(trace: Reader) -> Program:
    """The program of one trace file."""
    spans = sorted(
        (
            _span(s)
            for s in trace.children("spans")
            if "gen_ai.input.messages" in (s.value.get("attributes") or {})
        ),
        key=lambda s: (s.start_s, s.end_s),
    )
    if not spans:
        raise trace.refuse("spans", "holds no span with gen_ai.input.messages")
    name = trace.text("trace_id", default="trace")
    threads = _Graph(name, spans).threads()
    sessions = tuple(
        Session(
            id=t.name,
            parent=t.parent,
            agent=spans[t.spans[0]].service,
            tool_tokens=0,
            system_tokens=0,
            turns=with_bases(t.turns),
        )
        for t in threads
    )
    return Program(id=name, source="otel", scope=name, start_s=0.0, open_loop=False, sessions=sessions)


class _Graph:
    """Assigns spans to sessions and finds what each waited for."""

    def __init__(self, name: str, spans: Sequence[_Span]) -> None:
        self._name = name
        self._spans = spans
        self._services = {s.service for s in spans}
        self._threads: list[_Thread] = []
        self._places: dict[int, TurnId] = {}
        self._ids: dict[tuple[int, str], int] = {}

    def threads(self) -> list[_Thread]:
        for index in range(len(self._spans)):
            self._add(index)
        return self._threads

    def _add(self, index: int) -> None:
        span = self._spans[index]
        waits = self._waits(index)
        thread = self._continued(span) or self._opened(waits)
        own = thread.spans[-1:]
        after = tuple(self._places[w] for w in waits if self._places[w].session != thread.name)
        ended_s = max((self._spans[i].end_s for i in {*waits, *own}), default=span.start_s)
        called = not own or any(turn.session != thread.parent for turn in after)
        kind: GapKind = "tool" if after and called else "human"
        place = TurnId(thread.name, len(thread.turns))
        if thread.turns and kind == "tool":
            thread.turns[-1] = _calling(thread.turns[-1])
        thread.turns.append(self._turn(span, place.turn, max(span.start_s - ended_s, 0.0), kind, after))
        thread.spans.append(index)
        self._places[index] = place

    def _waits(self, index: int) -> list[int]:
        span = self._spans[index]
        ended = [i for i in range(index) if self._spans[i].end_s <= span.start_s]
        quoted = [i for i in ended if span.quotes(self._spans[i])]
        if quoted or not ended:
            return quoted
        return [max(ended, key=lambda i: self._spans[i].end_s)]

    def _continued(self, span: _Span) -> _Thread | None:
        for thread in reversed(self._threads):
            last = self._spans[thread.spans[-1]]
            same = last.service == span.service and last.end_s <= span.start_s
            if same and (len(self._services) > 1 or span.extends(last)):
                return thread
        return None

    def _opened(self, waits: Sequence[int]) -> _Thread:
        parent = self._places[waits[-1]].session if waits else None
        if parent is None and self._threads:
            parent = self._threads[0].name
        number = len(self._threads)
        thread = _Thread(self._name if number == 0 else f"{self._name}/{number}", parent)
        self._threads.append(thread)
        return thread

    def _turn(self, span: _Span, index: int, gap_s: float, kind: GapKind, after: tuple[TurnId, ...]) -> Turn:
        text = "".join(f"{m.role}\n{m.text}\n" for m in span.messages)
        return Turn(
            index=index,
            runs=self._runs(text),
            block_size=BLOCK_TOKENS,
            prompt_tokens=_tokens(text),
            output_tokens=span.output_tokens,
            gap_s=gap_s,
            gap_kind=kind,
            stop="end",
            stream=True,
            start_s=span.start_s - self._spans[0].start_s,
            api_s=span.end_s - span.start_s,
            after=after,
            messages=span.messages,
        )

    def _runs(self, text: str) -> Runs:
        """Ids of the full blocks, chained: equal id, equal text from the start."""
        step, parent, found = BLOCK_TOKENS * _CHARS_PER_TOKEN, -1, []
        for start in range(0, len(text) - step + 1, step):
            parent = self._ids.setdefault((parent, text[start : start + step]), len(self._ids))
            found.append(parent)
        return from_ids(found)


def _span(entry: Reader) -> _Span:
    attributes = entry.child("attributes")
    messages = _messages(attributes)
    answer = attributes.text("gen_ai.output.text", default="")
    service = (entry.value.get("resource_attributes") or {}).get("service.name", "agent")
    start_s, end_s = _moment(entry, "start_time"), _moment(entry, "end_time")
    if end_s < start_s:
        raise entry.refuse("end_time", "is before start_time")
    return _Span(
        service=str(service),
        start_s=start_s,
        end_s=end_s,
        messages=messages,
        answer=answer,
        output_tokens=attributes.count("gen_ai.usage.output_tokens", default=_tokens(answer)),
    )


def _messages(attributes: Reader) -> tuple[Message, ...]:
    key = "gen_ai.input.messages"
    try:
        found = json.loads(attributes.text(key))
    except ValueError as error:
        raise attributes.refuse(key, f"is not JSON: {error}") from None
    if not isinstance(found, list) or not found:
        raise attributes.refuse(key, "expected a list of messages")
    readers = [Reader(m, f"{attributes.where}: {key}[{i}]") for i, m in enumerate(found)]
    return tuple(Message(m.text("role"), m.text("content", default="")) for m in readers)


def _moment(entry: Reader, key: str) -> float:
    try:
        return datetime.fromisoformat(entry.text(key)).timestamp()
    except ValueError:
        raise entry.refuse(key, "expected a time as 2026-01-31T12:00:00.000") from None


def _tokens(text: str) -> int:
    return max(1, -(-len(text) // _CHARS_PER_TOKEN))


def _calling(turn: Turn) -> Turn:
    """The turn, whose answer turns out to have started other agents."""
    return replace(turn, stop="tool")
