"""Who names a session, in which header or field, and what that makes of run, parent and agent.

Each reader takes one convention; the first that finds a session wins. A program's own headers come first, then what somebody
sets on purpose (Dynamo), then what clients send on their own, then bodies, in which names survive proxies that drop headers.

Sources: the released clients, recorded (Claude Code 2.1.197, Codex 0.169.0, OpenCode 1.18.33); for what these runs did not show,
Codex's codex-rs/core/src/responses_metadata.rs, Claude Code's page for LLM gateways, and Dynamo's agent headers (1.5 to 1.6).
Not read: `traceparent` (a new trace for each turn), `x-llm-d-*` (removed at the edge), `user` (a person, not a session).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.identity.reading import json_object, mapping, sequence, text_of
from agentic_serving.program.identity.types import CERTAIN, GUESSED, SAID
from agentic_serving.program.request import Request, identifier

__all__ = ["Named", "codex_metadata", "named"]

#: W3C Baggage: a whole header of 8,192 bytes must pass, and 64 members.
_MAX_BAGGAGE_CHARS = 8192
_MAX_BAGGAGE_MEMBERS = 64
#: Of what is not a header of Codex's own. The key is all threads' of a run, so a thread that has only this may be another one.
_CODEX_CONFIDENCE: Mapping[str, float] = {"client_metadata": SAID, "prompt_cache_key": GUESSED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Ids as they were sent, within bounds.

    Attributes:
        session: None if only the run, or the parent, is known.
        run: the root session's id; None: follow the parents.
        nested: session and parent are agents' ids, unique in the run only.
    """

    session: str | None
    source: str
    confidence: float
    run: str | None = None
    parent: str | None = None
    agent: str | None = None
    nested: bool = False


def named(request: Request, route: ProgramRoute | None) -> Named | None:
    """What names the session; None if nothing does."""
    headers, body = request.headers, mapping(request.body)
    return (
        _own(headers, route)
        or _dynamo(headers)
        or _claude_code(headers, body)
        or _codex(headers, body)
        or _opencode(headers)
        or _baggage(headers)
        or _body(body)
    )


def codex_metadata(headers: Mapping[str, str], body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Codex's account of a turn: the header is what its body's `client_metadata` says, which outlives proxies."""
    name = "x-codex-turn-metadata"
    sent = headers.get(name)
    return json_object(sent if sent is not None else mapping(body.get("client_metadata")).get(name))


def _own(headers: Mapping[str, str], route: ProgramRoute | None) -> Named | None:
    """`spec.identity.headers`. With a parent alone, it is a session of that parent's that nobody names."""
    if route is None or route.session_header is None:
        return None
    source = route.session_header.lower()
    session = _header(headers, source)
    parent = _header(headers, route.parent_header.lower()) if route.parent_header else None
    if session is not None:
        return _linked(session, parent, source=source, confidence=CERTAIN)
    return None if parent is None else Named(session=None, parent=parent, source=source, confidence=0.0)


def _dynamo(headers: Mapping[str, str]) -> Named | None:
    session = _header(headers, "x-dynamo-session-id")
    if session is None:
        return None
    parent = _header(headers, "x-dynamo-parent-session-id")
    return _linked(session, parent, source="x-dynamo-session-id", confidence=CERTAIN)


def _claude_code(headers: Mapping[str, str], body: Mapping[str, Any]) -> Named | None:
    """One session id for the whole run; sub-agents add their agent's id, and nested ones their parent's."""
    source, confidence = "x-claude-code-session-id", CERTAIN
    run = _header(headers, source)
    if run is None:
        source, confidence = "metadata.user_id", SAID
        run = _claude_user(mapping(body.get("metadata")).get("user_id"))
    if run is None:
        return None
    agent = _header(headers, "x-claude-code-agent-id")
    if agent is None:
        subagent = _claude_subagent(body)
        return Named(
            session=None if subagent else run,
            run=run,
            source=source,
            confidence=0.0 if subagent else confidence,
        )
    parent = _header(headers, "x-claude-code-parent-agent-id")
    return Named(
        session=agent,
        run=run,
        parent=None if parent == agent else parent,
        agent=agent,
        nested=True,
        source=source,
        confidence=confidence,
    )


def _claude_user(user_id: object) -> str | None:
    """A JSON object with `session_id`; before 2.1 it was `user_..._account_..._session_<uuid>`."""
    found = identifier(json_object(user_id).get("session_id"))
    if found is None and isinstance(user_id, str) and user_id.startswith("user_"):
        _, mark, rest = user_id.rpartition("_session_")
        found = identifier(rest) if mark else None
    return found


def _claude_subagent(body: Mapping[str, Any]) -> bool:
    """The billing line says so, also where a proxy has dropped the header that says which."""
    system = body.get("system")
    first = sequence(system)[:1] if isinstance(system, list) else system
    text = text_of(first)
    return text.startswith("x-anthropic-billing-header:") and "cc_is_subagent=true" in text.partition("\n")[0]


def _codex(headers: Mapping[str, str], body: Mapping[str, Any]) -> Named | None:
    """`session-id` is the root's for all threads of a run. Before 0.131 it was `session_id`, and a thread's own.

    Codex's `prompt_cache_key` is the run's id; of anybody else, it is what many sessions share.
    """
    told, flat = codex_metadata(headers, body), mapping(body.get("client_metadata"))
    source = next(
        (name for name in ("session-id", "session_id") if _header(headers, name)), "client_metadata"
    )
    run = _header(headers, source) or identifier(told.get("session_id")) or identifier(flat.get("session_id"))
    thread = (
        _header(headers, "thread-id")
        or identifier(told.get("thread_id"))
        or identifier(flat.get("thread_id"))
    )
    if run is None and thread is None and headers.get("originator", "").startswith("codex"):
        source, thread = "prompt_cache_key", identifier(body.get("prompt_cache_key"))
    if run is None and thread is None:
        return None
    parent = _header(headers, "x-codex-parent-thread-id") or identifier(told.get("parent_thread_id"))
    session = thread or run
    if parent is not None and run == session:
        run = None  # a child that calls itself its root: its parents know better
    return Named(
        session=session,
        run=run if run is not None or parent is not None else session,
        parent=None if parent == session else parent,
        agent=identifier(headers.get("x-openai-subagent")),
        source=source,
        confidence=_CODEX_CONFIDENCE.get(source, CERTAIN),
    )


def _opencode(headers: Mapping[str, str]) -> Named | None:
    """Also harnesses that send `X-Session-ID` alone (MLPerf)."""
    for source in ("x-session-id", "x-session-affinity"):
        session = _header(headers, source)
        if session is not None:
            return _linked(
                session, _header(headers, "x-parent-session-id"), source=source, confidence=CERTAIN
            )
    return None


def _baggage(headers: Mapping[str, str]) -> Named | None:
    """W3C Baggage with OpenTelemetry's names for generative AI."""
    members = dict(_members(headers.get("baggage", "")))
    session = identifier(members.get("gen_ai.conversation.id"))
    if session is None:
        return None
    agent = identifier(members.get("gen_ai.agent.id")) or identifier(members.get("gen_ai.agent.name"))
    return Named(
        session=session, run=session, agent=agent, source="baggage:gen_ai.conversation.id", confidence=SAID
    )


def _members(baggage: str) -> Iterator[tuple[str, str]]:
    for member in baggage[:_MAX_BAGGAGE_CHARS].split(",")[:_MAX_BAGGAGE_MEMBERS]:
        key, _, value = member.partition(";")[0].partition("=")
        yield key.strip(), unquote(value.strip())


def _body(body: Mapping[str, Any]) -> Named | None:
    """A conversation of Responses, SGLang's session, or what harnesses put into `metadata`."""
    metadata, conversation = mapping(body.get("metadata")), body.get("conversation")
    for source, value, confidence in (
        (
            "body.conversation",
            conversation if isinstance(conversation, str) else mapping(conversation).get("id"),
            SAID,
        ),
        ("body.session_id", body.get("session_id"), SAID),
        ("metadata.session_id", metadata.get("session_id"), GUESSED),
        ("metadata.conversation_id", metadata.get("conversation_id"), GUESSED),
    ):
        session = identifier(value)
        if session is not None:
            return Named(session=session, run=session, source=source, confidence=confidence)
    return None


def _linked(session: str, parent: str | None, *, source: str, confidence: float) -> Named:
    """A session that may name its parent: then the parents lead to the run."""
    linked = parent is not None and parent != session
    return Named(
        session=session,
        run=None if linked else session,
        parent=parent if linked else None,
        source=source,
        confidence=confidence,
    )


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return identifier(headers.get(name, "").strip())
