"""A turn as a conversation that no API is peculiar to: tools, system prompt, messages with real text."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from math import ceil

from agentic_serving.capacity.runs import ids
from agentic_serving.replay.layout import Part, layouts, tails
from agentic_serving.replay.text import Scale, Stream, Vocabulary
from agentic_serving.workload import Message, Program, Session, Turn

__all__ = ["Call", "Conversation", "Entry", "SessionText", "Tool"]

#: Claude Code sends 24 tools in about 12,000 tokens (reference trace and client): 500 tokens each. Fewer where the
#: catalogue is scaled down, so that names and braces do not outweigh the text.
_TOOL_TOKENS = 500
_MOST_TOOLS = 24
_TOOL_NAMES = [
    "Bash",
    "Read",
    "Edit",
    "Write",
    "Glob",
    "Grep",
    "Task",
    "WebFetch",
    "WebSearch",
    "NotebookEdit",
    "TodoWrite",
    "BashOutput",
    "KillShell",
    "ExitPlanMode",
    "SlashCommand",
    "Skill",
    "AskUserQuestion",
    "ListMcpResources",
    "ReadMcpResource",
    "MultiEdit",
    "LS",
    "NotebookRead",
    "Monitor",
    "Schedule",
]
#: Of an answer that calls a tool, this part is the call's argument.
_ARGUMENT_PART = 0.5


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that is offered."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in a recorded answer, as synthetic as its text."""

    id: str
    name: str
    argument: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One message.

    Attributes:
        role: `user`, `assistant` or `tool`.
        call: what an assistant calls.
        call_id: which call a tool's result answers.
    """

    role: str
    text: str
    call: Call | None = None
    call_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A prompt: what every API's body is made from.

    Attributes:
        expected_tokens: the recorded size at the token scale, without the chat template's own tokens.
        output_tokens: the recorded answer's size at the token scale, at least 1.
    """

    tools: tuple[Tool, ...]
    system: str
    entries: tuple[Entry, ...]
    expected_tokens: int
    output_tokens: int


class SessionText:
    """The text of every turn of one session.

    Args:
        program: whose session it is.
        session: one of the program's.
        scale: how tokens become words.
        seed: another seed, other words.
    """

    def __init__(self, program: Program, session: Session, scale: Scale, *, seed: str = "0") -> None:
        self._session = session
        self._scale = scale
        self._vocabulary = Vocabulary(f"{seed}/{program.scope}", session.turns[0].block_size, scale)
        self._layouts = layouts(session)
        self._tails = tails(session, program.sessions.index(session))

    def turn(self, index: int) -> Conversation:
        """The conversation that turn `index` sends."""
        turn = self._session.turns[index]
        return _recorded(turn, self._scale) if turn.messages else self._made_up(turn)

    def _made_up(self, turn: Turn) -> Conversation:
        stream = Stream(self._vocabulary, [*ids(turn.runs), self._tails[turn.index]])
        tools: tuple[Tool, ...] = ()
        system = ""
        entries: list[Entry] = []
        parts = self._layouts[turn.index]
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            start, stop = stream.position(part.start), stream.position(part.stop)
            if part.role == "tools":
                tools = self._tools(stream, part, start, stop)
            elif part.role == "system":
                system = stream.text(start, stop)
            else:
                entries.append(self._entry(stream, part, following, (start, stop), entries))
        return Conversation(
            tools=tools,
            system=system,
            entries=tuple(entries),
            expected_tokens=self._scale.tokens(turn.prompt_tokens, turn.block_size),
            output_tokens=max(1, ceil(turn.output_tokens * self._scale.token_scale)),
        )

    def _tools(self, stream: Stream, part: Part, start: int, stop: int) -> tuple[Tool, ...]:
        tokens = self._scale.tokens(part.stop - part.start, self._vocabulary.block_size)
        n = min(_MOST_TOOLS, max(1, tokens // _TOOL_TOKENS))
        edges = [start + (stop - start) * i // n for i in range(n + 1)]
        return tuple(
            Tool(_TOOL_NAMES[i], stream.text(low, high)) for i, (low, high) in enumerate(pairwise(edges))
        )

    def _entry(
        self,
        stream: Stream,
        part: Part,
        following: Part | None,
        words: tuple[int, int],
        before: Sequence[Entry],
    ) -> Entry:
        start, stop = words
        if part.role == "tool":
            call = before[-1].call if before else None
            return Entry("tool", stream.text(start, stop), call_id=call.id if call else "")
        if part.role == "assistant" and following is not None and following.role == "tool":
            middle = stop - round((stop - start) * _ARGUMENT_PART)
            call = Call(self._call_id(part), _TOOL_NAMES[part.start % 6], stream.text(middle, stop))
            return Entry("assistant", stream.text(start, middle), call=call)
        return Entry(part.role, stream.text(start, stop))

    def _call_id(self, part: Part) -> str:
        """The same in every later turn that holds this call."""
        name = f"{self._session.id}/{part.start}"
        return f"toolu_{blake2b(name.encode(), digest_size=12).hexdigest()}"


def _recorded(turn: Turn, scale: Scale) -> Conversation:
    """A prompt whose text the trace holds: each message shortened to its first words, equally."""
    system = "\n".join(_shortened(m, scale) for m in turn.messages if m.role == "system")
    return Conversation(
        tools=(),
        system=system,
        entries=tuple(Entry(_role(m), _shortened(m, scale)) for m in turn.messages if m.role != "system"),
        expected_tokens=max(1, ceil(turn.prompt_tokens * scale.token_scale)),
        output_tokens=max(1, ceil(turn.output_tokens * scale.token_scale)),
    )


def _role(message: Message) -> str:
    return "assistant" if message.role == "assistant" else "user"


def _shortened(message: Message, scale: Scale) -> str:
    if scale.token_scale >= 1:
        return message.text
    words = message.text.split(" ")
    return " ".join(words[: ceil(len(words) * scale.token_scale)])
