"""What is declared of the future, as the scheduler's core understands it. Pure.

Three ways lead here: what a call says with itself (headers, `metadata`), what the hint endpoint was told of its session
before, and what it is told while the session is away. docs/hints.md has the table for those who write frameworks.
"""

from dataclasses import replace

from agentic_serving.program.events import Declared
from agentic_serving.program.identity import Identity
from agentic_serving.router.words import Declaration

__all__ = ["declared_of", "gap_told", "merged"]

#: The children are done and their results at hand: the parent's next turn comes as fast as a client can send it.
#: Absence takes a second and less for the same.
_JOINED_S = 1.0


def declared_of(
    identity: Identity, standing: Declaration | None, now_s: float, said_s: float | None = None
) -> Declared | None:
    """What a turn's client says of what follows this turn; None: nothing.

    What the call says itself is newer than what was said before. A gap told before this turn is over by now, so of
    `standing` the rest of the task alone counts, less what has passed of it.

    Args:
        standing: what was last declared of the session.
        said_s: when; now, if it is left out.
    """
    gap_s, remaining_s = _said(identity, "tool-s"), _said(identity, "remaining-s")
    if remaining_s is None and standing is not None and standing.remaining_s is not None:
        passed_s = 0.0 if said_s is None else now_s - said_s
        remaining_s = max(0.0, standing.remaining_s - passed_s)
    gap_said = identity.final or gap_s is not None
    if not gap_said and remaining_s is None:
        return None
    return Declared(gap_s=None if identity.final else gap_s, remaining_s=remaining_s, gap_said=gap_said)


def gap_told(declaration: Declaration) -> Declared | None:
    """What a declaration says of the session's present gap, counted from now: for `Absence.told`. None: nothing."""
    if declaration.finished:
        return Declared(gap_s=None)
    if declaration.tool_s is not None:
        return Declared(gap_s=declaration.tool_s)
    return Declared(gap_s=_JOINED_S) if declaration.join else None


def merged(before: Declaration | None, new: Declaration) -> Declaration:
    """What is declared of a session after something more was said of it; `before`: of the same session."""
    if before is None:
        return new
    if new.join:
        before = replace(before, fork=None)
    return replace(
        new,
        fork=before.fork if new.fork is None else new.fork,
        remaining_s=before.remaining_s if new.remaining_s is None else new.remaining_s,
    )


def _said(identity: Identity, name: str) -> float | None:
    hint = identity.hint(name)
    return None if hint is None or isinstance(hint.value, str) else float(hint.value)
