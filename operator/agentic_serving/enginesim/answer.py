"""What the simulated model says: scripted, asked for as a tool call, or pseudo-words; token by token.

The whole answer is known before it is served, so its blocks can be hashed and the next turn finds them cached.
It depends only on the prompt, the limits and the seed.
"""

import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentic_serving.enginesim.conversation import Conversation
from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.script import Call, Script
from agentic_serving.enginesim.tokens import TextTokenizer

__all__ = ["Answer", "Delta", "Limits", "Planner"]

Kind = Literal["reasoning", "text", "call"]
FinishReason = Literal["stop", "length", "tool_calls", "abort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What one token adds to the answer."""

    kind: Kind
    text: str  # of a call: a part of its arguments
    index: int = 0  # of the call
    name: str | None = None  # set where a call begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the request says about the answer's length."""

    room_tokens: int  # what the context leaves
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    include_stop: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, by token."""

    ids: Sequence[int]
    deltas: Sequence[tuple[Delta, ...]]  # by token
    finish: FinishReason
    stop_text: str | None = None  # the stop string that ended it

    def aborted(self, tokens: int) -> "Answer":
        """What was served of it when the engine gave up."""
        return Answer(ids=self.ids[:tokens], deltas=self.deltas[:tokens], finish="abort")

    def text(self, kind: Kind = "text") -> str:
        return "".join(d.text for deltas in self.deltas for d in deltas if d.kind == kind)

    def calls(self) -> list[Call]:
        """The tool calls in it."""
        names: dict[int, str] = {}
        texts: dict[int, str] = {}
        for delta in (d for deltas in self.deltas for d in deltas if d.kind == "call"):
            names.setdefault(delta.index, delta.name or "")
            texts[delta.index] = texts.get(delta.index, "") + delta.text
        return [Call(name=name, arguments=texts[index]) for index, name in names.items()]


@dataclass(slots=True)
class _Draft:
    """An answer in the making: raw text and what of it shows where."""

    raw: str = ""
    spans: list[tuple[int, int, Delta]] = field(default_factory=list)

    def hidden(self, text: str) -> None:
        self.raw += text

    def shown(self, delta: Delta) -> None:
        start = len(self.raw)
        self.raw += delta.text
        self.spans.append((start, len(self.raw), delta))


class Planner:
    """Makes answers.

    Args:
        reasoning: whether the engine has a reasoning parser, so that thoughts show apart from text.
    """

    def __init__(self, tokenizer: TextTokenizer, script: Script, knobs: Knobs, *, reasoning: bool) -> None:
        self._tokenizer = tokenizer
        self._script = script
        self._knobs = knobs
        self._reasoning = reasoning

    def plan(self, prompt: Sequence[int], conversation: Conversation | None, limits: Limits) -> Answer:
        """The answer to a prompt; without a conversation (plain completions) always pseudo-words."""
        # Integers hash to the same in every process.
        name = f"{self._knobs.seed}/{hash(tuple(prompt[-512:]))}/{len(prompt)}"
        rng = random.Random(name)  # noqa: S311 - made-up words, no secret
        if conversation is not None:
            draft, finish = self._draft(conversation, rng)
            if draft is not None:
                return _limited(self._tokens(draft, finish), limits)
        return self._words(rng, limits)

    def _draft(self, conversation: Conversation, rng: random.Random) -> tuple[_Draft | None, FinishReason]:
        choice = conversation.choice
        if choice.kind in ("required", "named"):
            return _forced(
                conversation, self._script, rng
            ), "stop" if choice.kind == "named" else "tool_calls"
        scripted = self._script.answer(conversation)
        if scripted is None:
            return None, "stop"
        draft = _Draft()
        if scripted.reasoning:
            draft.hidden("<think>\n")
            (draft.shown if self._reasoning else _as_text(draft))(
                Delta(kind="reasoning", text=scripted.reasoning)
            )
            draft.hidden("\n</think>\n\n")
        if scripted.text:
            draft.shown(Delta(kind="text", text=scripted.text))
        if choice.kind != "auto":
            return draft, "stop"
        for index, call in enumerate(scripted.calls):
            _add_call(draft, index, call)
        return draft, "tool_calls" if scripted.calls else "stop"

    def _tokens(self, draft: _Draft, finish: FinishReason) -> Answer:
        """The draft cut into tokens, with what each shows."""
        ids: list[int] = []
        deltas: list[tuple[Delta, ...]] = []
        done = 0
        for number, text in self._tokenizer.pieces(draft.raw):
            ids.append(number)
            deltas.append(tuple(_shown(draft.spans, done, done + len(text))))
            done += len(text)
        ids.append(self._tokenizer.end_id)
        deltas.append(())
        return Answer(ids=ids, deltas=deltas, finish=finish)

    def _words(self, rng: random.Random, limits: Limits) -> Answer:
        length, finish = self._length(rng, limits)
        words = self._tokenizer.words()
        ids = rng.choices(words, k=length)
        spelled: dict[int, str] = {}
        for number in set(ids):
            spelled[number] = self._tokenizer.decode([number])
        deltas: list[tuple[Delta, ...]] = [(Delta(kind="text", text=spelled[number]),) for number in ids]
        if finish == "stop":
            ids[-1], deltas[-1] = self._tokenizer.end_id, ()
        return _limited(Answer(ids=ids, deltas=deltas, finish=finish), limits)

    def _length(self, rng: random.Random, limits: Limits) -> tuple[int, FinishReason]:
        """Tokens of pseudo-text, and why it ends there."""
        wanted = limits.max_tokens
        most = limits.room_tokens if wanted is None else min(wanted, limits.room_tokens)
        if limits.ignore_eos or (wanted is not None and wanted <= self._knobs.exact_tokens):
            return most, "length"
        drawn = 1 + int(rng.expovariate(1 / self._knobs.mean_tokens))
        drawn = max(drawn, limits.min_tokens, 2)
        return (drawn, "stop") if drawn < most else (most, "length")


def _as_text(draft: _Draft) -> Callable[[Delta], None]:
    """Without a reasoning parser thoughts are text."""
    return lambda delta: draft.shown(Delta(kind="text", text=delta.text))


def _add_call(draft: _Draft, index: int, call: Call) -> None:
    """A call in Hermes form, as the chat templates of that family show it in later turns."""
    draft.hidden('<tool_call>\n{"name": "')
    start = len(draft.raw)
    draft.hidden(call.name)
    draft.spans.append((start, len(draft.raw), Delta(kind="call", text="", index=index, name=call.name)))
    draft.hidden('", "arguments": ')
    draft.shown(Delta(kind="call", text=call.arguments, index=index))
    draft.hidden("}\n</tool_call>")


def _forced(conversation: Conversation, script: Script, rng: random.Random) -> _Draft:
    """A call that the client insists on: as the script says if it fits, else made from the tool's schema."""
    wanted = conversation.choice.name or conversation.tools[0].name
    scripted = script.answer(conversation)
    calls = (
        [c for c in scripted.calls if c.name == wanted or not conversation.choice.name] if scripted else []
    )
    if not calls:
        tool = next(t for t in conversation.tools if t.name == wanted)
        calls = [Call(name=wanted, arguments=json.dumps(_example(tool.parameters, rng)))]
    draft = _Draft()
    _add_call(draft, 0, calls[0])
    return draft


def _example(schema: Mapping[str, Any], rng: random.Random) -> object:
    """A value that fits a JSON schema's plain parts; required properties only."""
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _example(properties.get(name) or {}, rng) for name in schema.get("required") or ()}
    if kind == "array":
        return [_example(schema.get("items") or {}, rng)]
    plain: dict[str, Any] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}
    return plain.get(kind, rng.choice(("alpha", "beta", "gamma")))


def _shown(spans: Iterable[tuple[int, int, Delta]], start: int, end: int) -> Iterable[Delta]:
    """What text positions [start, end) show."""
    for first, last, delta in spans:
        if delta.name is not None:
            if start < last <= end:
                yield delta
            continue
        low, high = max(first, start), min(last, end)
        if low < high:
            text = delta.text[low - first : high - first]
            yield Delta(kind=delta.kind, text=text, index=delta.index)


def _limited(answer: Answer, limits: Limits) -> Answer:
    """The answer cut at its stop strings and at its limit."""
    cut = _at_stop(answer, limits)
    most = limits.room_tokens if limits.max_tokens is None else min(limits.max_tokens, limits.room_tokens)
    if len(cut.ids) <= most:
        return cut
    return Answer(ids=cut.ids[:most], deltas=cut.deltas[:most], finish="length")


def _at_stop(answer: Answer, limits: Limits) -> Answer:
    text = answer.text()
    hits = sorted((text.find(stop), stop) for stop in limits.stop if stop and stop in text)
    if not hits:
        return answer
    at, stop = hits[0]
    keep = at + len(stop) if limits.include_stop else at
    ids: list[int] = []
    deltas: list[tuple[Delta, ...]] = []
    done = 0
    for number, shown in zip(answer.ids, answer.deltas, strict=True):
        ids.append(number)
        deltas.append(tuple(_kept(shown, done, keep)))
        done += sum(len(d.text) for d in shown if d.kind == "text")
        if done >= at + len(stop):
            break
    return Answer(ids=ids, deltas=deltas, finish="stop", stop_text=stop)


def _kept(shown: Sequence[Delta], done: int, keep: int) -> Iterable[Delta]:
    for delta in shown:
        if delta.kind != "text":
            yield delta
            continue
        text = delta.text[: max(0, keep - done)]
        done += len(delta.text)
        if text:
            yield Delta(kind="text", text=text, index=delta.index)
