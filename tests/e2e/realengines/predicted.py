"""One recorded run through an engine, turn by turn: the tokens that the session graph says are cached, and those that are.

Turns of a main session and of two sub-agents that share their head, as recorded; then what clients do besides: a fork from the
middle, a step back, a compaction. The cache holds all of it, so that nothing but prefixes decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentic_serving.program.blocks import Memo, Prompt, Template, TokenRate, blocks_of
from agentic_serving.program.graph import Divergence, SessionGraph
from agentic_serving.replay.answers import Answer
from agentic_serving.replay.bodies import API_PATHS, Api, BodyOptions, body
from agentic_serving.replay.conversation import Conversation, Entry, SessionText
from agentic_serving.replay.text import Scale
from agentic_serving.workload import read
from tests.e2e.realengines.client import Client
from tests.e2e.realengines.processes import SERVED

__all__ = ["Step", "Turn", "play", "recorded_run"]

_TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
_PROGRAM = "trace_0277"
_SCALE = Scale(token_scale=1 / 16)  # 92,614 tokens at most become 5,800
#: The tiny model's template: system text before the tools, no ids of calls, no reasoning.
_TEMPLATE = Template(head="system-first", reasoning="none")
_SUMMARY = "Summary of all that was said: the parser is mended, two tests fail, and the reader is next. " * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A prompt to be sent, and by whom."""

    name: str
    session: str
    conversation: Conversation
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A prompt as the graph saw it coming and as the engine counted it: tokens."""

    name: str
    divergence: Divergence
    predicted: int
    cached: int
    prompt: int
    split: int  # of the first block that is new, estimated: a cache may have its beginning, which the graph cannot see

    @property
    def error(self) -> int:
        """Predicted less reported tokens, both of whole blocks."""
        return self.predicted - self.cached


def recorded_run() -> list[Step]:
    """The steps, in order."""
    program = next(p for p in read(_TRACES) if p.id == _PROGRAM)
    steps = []
    for session in program.sessions[:3]:
        text = SessionText(program, session, _SCALE)
        turns = [text.turn(turn.index) for turn in session.turns[:6]]
        steps += [
            Step(name=f"{session.id} {i}", session=session.id, conversation=turn, parent=session.parent)
            for i, turn in enumerate(turns)
        ]
    root = program.sessions[0].id
    main = [step.conversation for step in steps if step.session == root]
    return [*steps, *_besides(root, main)]


def _besides(root: str, main: Sequence[Conversation]) -> Iterator[Step]:
    last = main[-1]
    asked = Entry("user", "And now something else: which of the files were never read, and why? " * 3)
    half = tuple(last.entries[: len(last.entries) // 2])
    ends = next((i for i, entry in enumerate(reversed(half)) if entry.call is None), 0)
    forked = replace(last, entries=(*half[: len(half) - ends], asked))
    yield Step(name="fork", session="fork", conversation=forked)
    yield Step(name="step back", session=root, conversation=forked)
    compacted = replace(last, entries=(Entry("user", _SUMMARY),))
    yield Step(name="compaction", session=root, conversation=compacted)
    yield Step(
        name="after it",
        session=root,
        conversation=replace(compacted, entries=(*compacted.entries, Entry("assistant", "Good."), asked)),
    )


def play(client: Client, api: Api, steps: Sequence[Step], *, block_size: int) -> list[Turn]:
    """Send the steps to an engine with an empty cache; the tokens' rate is learned on the way, as a router does."""
    assert client.post("/reset_prefix_cache").status == 200
    graph, rate = SessionGraph(), TokenRate()
    memos: dict[str, Memo] = {}
    turns = []
    for now_s, step in enumerate(steps):
        options = BodyOptions(model=SERVED, max_tokens=2, stream=False, session=step.session)
        sent = body(api, step.conversation, options)
        memo = memos.setdefault(step.session, Memo())
        prompt = blocks_of(sent, tokens_per_byte=rate.tokens_per_byte, template=_TEMPLATE, memo=memo)
        delta = graph.observe(step.session, prompt, now_s, parent=step.parent)
        usage = _usage(client, api, sent)
        rate.learn(prompt.n_bytes, usage[0])
        graph.reported(step.session, prompt.n_bytes, usage[0])
        # An engine computes the last token anew, so a prompt's last whole block is no hit where nothing follows.
        most = min(delta.reused, usage[0] - 1)
        turns.append(
            Turn(
                name=step.name,
                divergence=delta.divergence,
                predicted=most // block_size * block_size,
                cached=usage[1],
                prompt=usage[0],
                split=_first_new(prompt, delta.new),
            )
        )
    return turns


def _first_new(prompt: Prompt, new: int) -> int:
    left = 0
    for block in reversed(prompt[:]):
        left += block.tokens
        if left >= new:
            return block.tokens
    return 0


def _usage(client: Client, api: Api, sent: object) -> tuple[int, int]:
    answer = client.post(API_PATHS[api], sent)
    assert answer.status == 200, answer.text
    found = Answer(api)
    found.whole(answer.json())
    assert found.usage is not None, answer.text
    return found.usage.prompt, found.usage.cached or 0
