"""What a request is in its conversation: a human's message, a tool's answer, or no turn at all.

By the body's fields, whichever API it is for. A session's first turn is `human` also where a parent agent wrote it, and what an
agent's machinery writes in the user's name (a sub-agent has ended) counts as a tool's answer: nobody sat and typed it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentic_serving.program.identity.naming import codex_metadata
from agentic_serving.program.identity.reading import mapping, number, sequence, text_of
from agentic_serving.program.identity.types import TurnKind
from agentic_serving.program.request import Api, ClientKind, Request

__all__ = ["MAX_TOKENS_FIELDS", "kind_of"]

MAX_TOKENS_FIELDS = ("max_tokens", "max_completion_tokens", "max_output_tokens")

#: Messages in the user's name that Claude Code and Codex write when a background task or a sub-agent has ended.
_NOTICES = ("<task-notification>", "<subagent_notification>")
#: Claude Code's `x-claude-code-request-class` and Codex's `request_kind` for what is not the conversation. `compaction` is left
#: out: it is a turn with the whole prompt, asked for by the client's machinery.
_SIDE_CLASSES: Mapping[str, str] = {"auxiliary": "auxiliary", "memory": "auxiliary", "prewarm": "warm-up"}
#: A title's system prompt has one word of each (OpenCode: "You are a title generator. You output ONLY a thread title.";
#: Claude Code asked for `isNewTopic` and `title` of a conversation).
_TITLE = ("title", "isnewtopic")
_TITLED = ("thread", "conversation", "coding session")
#: A side request of these clients brings its own short prompt without tools, and their turns always offer tools.
_TOOL_CLIENTS = ("ClaudeCode", "OpenCode")
_SHORT_MESSAGES = 2
_SYSTEM_MESSAGES = 4
_SHORT_CHARS = 4_000


def kind_of(request: Request, api: Api, client: ClientKind) -> tuple[TurnKind, str]:
    """The kind, and for side requests which."""
    body = mapping(request.body)
    side = _side(request, body, api, client)
    if side:
        return "side", side
    return _last(body, request), ""


def _side(request: Request, body: Mapping[str, Any], api: Api, client: ClientKind) -> str:
    if api == "count_tokens":
        return "count-tokens"
    if api == "other":
        return "other"
    if (named := _SIDE_CLASSES.get(_class(request, body))) is not None:
        return named
    if body.get("generate") is False or any(number(body.get(field)) == 1 for field in MAX_TOKENS_FIELDS):
        return "warm-up"
    return _aside(body, client)


def _class(request: Request, body: Mapping[str, Any]) -> str:
    sent = request.headers.get("x-claude-code-request-class")
    found = sent if sent is not None else codex_metadata(request.headers, body).get("request_kind")
    return found if isinstance(found, str) else ""


def _aside(body: Mapping[str, Any], client: ClientKind) -> str:
    """Short and without tools: of a client that always offers them, or with a system prompt that asks for a title."""
    given = _given(body)
    if sequence(body.get("tools")) or len(given) > _SHORT_MESSAGES + _SYSTEM_MESSAGES:
        return ""
    entries = [mapping(entry) for entry in given]
    asked = [entry for entry in entries if not _is_system(entry)]
    if not 0 < len(asked) <= _SHORT_MESSAGES:
        return ""
    if any(_n_chars(entry) > _SHORT_CHARS for entry in asked):
        return ""
    systems = [text_of(body.get(field)) for field in ("system", "instructions")]
    systems += [text_of(entry.get("content")) for entry in entries if _is_system(entry)]
    system = "\n".join(systems).lower()
    if len(system) <= _SHORT_CHARS and any(w in system for w in _TITLE) and any(w in system for w in _TITLED):
        return "title"
    return "auxiliary" if client in _TOOL_CLIENTS else ""


def _last(body: Mapping[str, Any], request: Request) -> TurnKind:
    if _class(request, body) == "compaction" or "x-claude-code-compaction" in request.headers:
        return "tool"
    for entry in map(mapping, reversed(_given(body))):
        if not entry or _is_system(entry) or entry.get("role") == "assistant":
            continue  # Claude Code adds reminders as system messages; a begun answer is not what came last
        return "tool" if _from_tool(entry) else "human"
    return "human"


def _given(body: Mapping[str, Any]) -> Sequence[Any]:
    """Messages, or items of Responses; a text alone is one message."""
    given = body.get("messages", body.get("input"))
    return [{"role": "user", "content": given}] if isinstance(given, str) else sequence(given)


def _is_system(entry: Mapping[str, Any]) -> bool:
    return entry.get("role") in ("system", "developer")


def _from_tool(entry: Mapping[str, Any]) -> bool:
    kind, content = entry.get("type"), entry.get("content")
    if entry.get("role") in ("tool", "function") or (isinstance(kind, str) and kind.endswith("_output")):
        return True
    if any(mapping(part).get("type") == "tool_result" for part in sequence(content)):
        return True
    return text_of(content).lstrip().startswith(_NOTICES)


def _n_chars(entry: Mapping[str, Any]) -> int:
    """At least as much as counts; what is no text counts as long."""
    content = entry.get("content")
    parts = (
        [content] if isinstance(content, str) else [mapping(part).get("text") for part in sequence(content)]
    )
    return sum(len(part) if isinstance(part, str) else _SHORT_CHARS + 1 for part in parts)
