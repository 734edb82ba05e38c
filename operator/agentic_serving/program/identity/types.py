"""What is known of a request's place in the world, and how sure that is."""

from dataclasses import dataclass
from typing import Literal

from agentic_serving.program.request import Api, ClientKind

__all__ = ["CERTAIN", "GUESSED", "SAID", "Hint", "Identity", "TurnKind"]

TurnKind = Literal["human", "tool", "side"]

#: Confidence 0..1. What the request itself is or binds itself to: its own limit of tokens, an id that only names itself.
CERTAIN = 1.0
#: What a client or a harness says of its own accord. It may be wrong, or lie.
SAID = 0.8
#: What the shape of a body suggests.
GUESSED = 0.6


@dataclass(frozen=True, slots=True)
class Hint:
    """Something a client lets us know, which may help and must not be relied on.

    Attributes:
        name: as in the table of docs/identity.md; a tool's duration has the tool's name after a slash.
        source: the header, or the place in the body.
    """

    name: str
    value: str | int | float
    source: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose request this is, as far as the request itself says.

    Names are `<program>/<id>`, for sub-agents that have no session id of their own `<program>/<run>/<agent>`; equal names
    mean the same thing, whichever router, stack or API the request came through. `/`, `~` and `%` in ids are escaped.

    Attributes:
        run: the root session's name; None where only the tree of sessions knows it (OpenCode's sub-agents).
        session: None where nothing names it: `Sessions` finds it or makes one.
        parent: the session that started this one.
        agent: what the client calls the agent; not unique.
        kind: what came last: a tool's answer, or something else; `side`: not a turn of the conversation.
        side: which side request: count-tokens, title, warm-up, auxiliary, other; empty for turns.
        retry: the client says that it has sent this before.
        final: the session ends with this request.
        tools: how many tools are offered.
        source: what names the session: a header, or a place in the body.
        confidence: that the session is the one that is meant; 0 without one.
    """

    program: str
    client: ClientKind
    api: Api
    run: str | None = None
    session: str | None = None
    parent: str | None = None
    agent: str | None = None
    kind: TurnKind = "human"
    side: str = ""
    retry: bool = False
    final: bool = False
    tools: int = 0
    source: str = ""
    confidence: float = 0.0
    hints: tuple[Hint, ...] = ()

    def hint(self, name: str) -> Hint | None:
        """The first hint of that name."""
        return next((hint for hint in self.hints if hint.name == name), None)
