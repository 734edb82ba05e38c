"""What clients let us know besides who they are: marks for caching, limits, how long tools took, what belongs together.

At most MAX_HINTS a request. Only the head and the newest messages of a body are looked at: clients mark the end of both.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any
from urllib.parse import unquote

from agentic_serving.program.identity.kinds import MAX_TOKENS_FIELDS
from agentic_serving.program.identity.naming import codex_metadata
from agentic_serving.program.identity.reading import mapping, number, sequence
from agentic_serving.program.identity.types import CERTAIN, SAID, Hint
from agentic_serving.program.request import Request, identifier

__all__ = ["MAX_HINTS", "hints_of"]

#: Four marks for caching, a few limits and words, and the tools of one turn.
MAX_HINTS = 32
#: Anthropic allows four marks in a request.
_MAX_MARKS = 4
_NEWEST_MESSAGES = 4
#: Claude Code sends at most 32 durations; more than a few tell nothing more about a kind of tool.
_MAX_DURATIONS = 16
_MAX_DURATIONS_CHARS = 4096
_CACHE_TTLS = ("5m", "1h")

#: Claude Code from 2.1.273 with CLAUDE_CODE_GATEWAY_HINT_HEADERS=1; values are an open list.
_WORDS: Mapping[str, str] = {
    "x-claude-code-request-class": "request-class",
    "x-claude-code-agent-type": "agent-type",
    "x-claude-code-compaction": "compaction",
    "x-claude-code-context-compacted": "compacted",
}


def hints_of(request: Request) -> tuple[Hint, ...]:
    """All hints of a request, those that bind the request itself first."""
    body = mapping(request.body)
    found = (
        *_limits(request.headers, body),
        *_words(request.headers, body),
        *islice(_marks(body), _MAX_MARKS),
        *islice(_durations(request.headers), _MAX_DURATIONS),
    )
    return found[:MAX_HINTS]


def _limits(headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Hint]:
    for field in MAX_TOKENS_FIELDS:
        if (tokens := number(body.get(field))) is not None:
            yield Hint("max-tokens", tokens, field, CERTAIN)
            break
    if timeout_s := number(headers.get("x-stainless-timeout")):
        yield Hint("client-timeout-s", timeout_s, "x-stainless-timeout", SAID)
    expected = number(mapping(mapping(body.get("nvext")).get("agent_hints")).get("osl"))
    if expected is not None:
        yield Hint("expected-output-tokens", expected, "nvext.agent_hints.osl", SAID)


def _words(headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Hint]:
    codex = codex_metadata(headers, body)
    for name, value, source in (
        ("prefix-group", body.get("prompt_cache_key"), "prompt_cache_key"),
        ("cache-ttl", body.get("prompt_cache_retention"), "prompt_cache_retention"),
        ("previous-response", body.get("previous_response_id"), "previous_response_id"),
        ("task", codex.get("turn_id"), "x-codex-turn-metadata:turn_id"),
        ("request-class", codex.get("request_kind"), "x-codex-turn-metadata:request_kind"),
        ("window", codex.get("window_id"), "x-codex-turn-metadata:window_id"),
        *((name, headers.get(source), source) for source, name in _WORDS.items()),
    ):
        word = identifier(value)
        if word is not None:
            yield Hint(name, word, source, SAID)


def _marks(body: Mapping[str, Any]) -> Iterator[Hint]:
    """`cache_control`: everything up to here comes again within the time given."""
    for source, part in _places(body):
        mark = mapping(part).get("cache_control")
        if isinstance(mark, dict):
            ttl = mark.get("ttl")
            yield Hint("cache-mark", ttl if ttl in _CACHE_TTLS else "5m", source, SAID)


def _places(body: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Where a mark can stand; the newest first, as the prefix up to there holds all others."""
    messages = sequence(body.get("messages", body.get("input")))
    first = max(0, len(messages) - _NEWEST_MESSAGES)
    for i in range(len(messages) - 1, first - 1, -1):
        entry = mapping(messages[i])
        yield f"messages[{i}]", entry
        yield from _inside(f"messages[{i}].content", sequence(entry.get("content")))
    yield from _inside("system", sequence(body.get("system")))
    yield from _inside("tools", sequence(body.get("tools")))


def _inside(source: str, parts: list[Any]) -> Iterable[tuple[str, object]]:
    return ((f"{source}[{i}]", parts[i]) for i in range(len(parts) - 1, -1, -1))


def _durations(headers: Mapping[str, str]) -> Iterator[Hint]:
    """`Bash=742;Read=9`: milliseconds of each call whose result this request carries, names percent-encoded."""
    source = "x-claude-code-prev-tool-durations"
    for entry in headers.get(source, "")[:_MAX_DURATIONS_CHARS].split(";"):
        name, _, value = entry.partition("=")
        tool, duration_ms = identifier(unquote(name.strip())), number(value.strip())
        if tool is not None and duration_ms is not None:
            yield Hint(f"tool-duration-s/{tool}", duration_ms / 1000, source, SAID)
