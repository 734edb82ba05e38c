"""Whose request it is: program, run, session, parent, agent, kind of turn, hints. Pure; nothing raises, whatever comes."""

from agentic_serving.program.identity.hints import hints_of
from agentic_serving.program.identity.kinds import kind_of
from agentic_serving.program.identity.naming import Named, named
from agentic_serving.program.identity.reading import mapping, number, sequence
from agentic_serving.program.identity.types import CERTAIN, GUESSED, SAID, Hint, Identity, TurnKind
from agentic_serving.program.match import Matched
from agentic_serving.program.request import Request, api_of, client_of

__all__ = ["CERTAIN", "GUESSED", "SAID", "Hint", "Identity", "TurnKind", "identify", "session_name"]

#: What ids may not have in a name, so that no id reaches into another's: `/` parts names, `~` begins what we made up.
_ESCAPES = str.maketrans({"%": "%25", "/": "%2F", "~": "%7E"})
_TRUE = ("true", "1")


def identify(request: Request, matched: Matched) -> Identity:
    """Everything that the request itself says of its place."""
    api, client = api_of(request.method, request.path), client_of(request.headers)
    found = named(request, matched.route)
    run, session, parent = _names(matched.program, found) if found is not None else (None, None, None)
    kind, side = kind_of(request, api, client)
    return Identity(
        program=matched.program,
        client=client,
        api=api,
        run=run,
        session=session,
        parent=parent,
        agent=found.agent if found is not None else None,
        kind=kind,
        side=side,
        retry=bool(number(request.headers.get("x-stainless-retry-count"))),
        final=request.headers.get("x-dynamo-session-final", "").strip().lower() in _TRUE,
        tools=len(sequence(mapping(request.body).get("tools"))),
        source=found.source if found is not None else "",
        confidence=found.confidence if found is not None else 0.0,
        hints=hints_of(request),
    )


def session_name(program: str, sent: str) -> str:
    """The name of a session that a program's requests call `sent`; not of a sub-agent that is named within its run."""
    return f"{program}/{_escaped(sent)}"


def _names(program: str, found: Named) -> tuple[str | None, str | None, str | None]:
    """Run, session and parent. An agent in a run of another id that names no parent is the root's child."""
    base = f"{program}/"
    run = base + _escaped(found.run) if found.run is not None else None
    scope = f"{run}/" if found.nested else base
    session = scope + _escaped(found.session) if found.session is not None else None
    parent = scope + _escaped(found.parent) if found.parent is not None else None
    if parent is None and run is not None and session != run:
        parent = run
    return run, session, parent


def _escaped(sent: str) -> str:
    return sent.translate(_ESCAPES)
