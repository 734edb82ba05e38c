"""What clients let us know besides who they are: marks for caching, limits, how long tools took, what belongs together.

At most MAX_HINTS a request. Of tools, system and messages only the last few are looked at: clients mark the end of each.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import unquote

from agentic_serving.program.identity.kinds import MAX_TOKENS_FIELDS
from agentic_serving.program.identity.naming import codex_metadata
from agentic_serving.program.identity.reading import mapping, number, seconds, sequence
from agentic_serving.program.identity.types import CERTAIN, SAID, Hint
from agentic_serving.program.request import Request, identifier

__all__ = ["MAX_HINTS", "hints_of"]

#: Four marks for caching, a few limits and words, and the tools of one turn.
MAX_HINTS = 32
#: Anthropic allows four marks in a request.
_MAX_MARKS = 4
_NEWEST = 4
#: Claude Code sends at most 32 durations; more than a few tell nothing more about a kind of tool.
_MAX_DURATIONS = 16
_MAX_DURATIONS_CHARS = 4096
_CACHE_TTLS = ("5m", "1h")

#: Said on purpose, by frameworks that know: as headers, and for those behind proxies that drop headers in `metadata`,
#: whose values are text (docs/hints.md).
_SECONDS: Mapping[str, str] = {"tool-s": "tool-seconds", "remaining-s": "remaining-seconds"}
#: Children of one fork: what the hint endpoint takes too (`router.declarations`).
_MOST_CHILDREN = 4096
#: A week; longer is no guess about a task.
_MOST_SECONDS = 604_800.0

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
        *_declared(request.headers, mapping(body.get("metadata"))),
        *_limits(request.headers, body),
        *_words(request.headers, body),
        *islice(_marks(body), _MAX_MARKS),
        *islice(_durations(request.headers), _MAX_DURATIONS),
    )
    return found[:MAX_HINTS]


def _declared(headers: Mapping[str, str], metadata: Mapping[str, Any]) -> Iterator[Hint]:
    """How long the tools of this turn's answer will take, and the task, and how many sessions will go on from this prompt.

    The header is nearer to whoever knows.
    """
    for name, spelt in _SECONDS.items():
        field = f"agent_{spelt.replace('-', '_')}"
        for value, source in (
            (headers.get(f"x-agent-{spelt}"), f"x-agent-{spelt}"),
            (metadata.get(field), f"metadata.{field}"),
        ):
            if (said_s := seconds(value, _MOST_SECONDS)) is not None:
                yield Hint(name, said_s, source, SAID)
                break
    for value, source in (
        (headers.get("x-agent-fork"), "x-agent-fork"),
        (metadata.get("agent_fork"), "metadata.agent_fork"),
    ):
        children = number(value)
        if children is not None and 1 <= children <= _MOST_CHILDREN:
            yield Hint("fork", children, source, SAID)
            break


def _limits(headers: Mapping[str, str], body: Mapping[str, Any]) -> Iterator[Hint]:
    for field in MAX_TOKENS_FIELDS:
        if (tokens := number(body.get(field))) is not None:
            yield Hint("max-tokens", tokens, field, CERTAIN)
            break
    if timeout_s := number(headers.get("x-stainless-timeout")):
        yield Hint("client-timeout-s", timeout_s, "x-stainless-timeout", SAID)
    dynamo = mapping(mapping(body.get("nvext")).get("agent_hints"))
    for name, field in (("expected-output-tokens", "osl"), ("priority", "priority")):
        if (value := number(dynamo.get(field))) is not None:
            yield Hint(name, value, f"nvext.agent_hints.{field}", SAID)


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
    """`cache_control`: everything up to here comes again within the time given. The newest first: its prefix holds the others."""
    messages = sequence(body.get("messages", body.get("input")))
    for i in _newest(messages):
        entry = mapping(messages[i])
        yield from _marked(entry, "messages", i)
        content = sequence(entry.get("content"))
        for j in _newest(content):
            yield from _marked(content[j], f"messages[{i}].content", j)
    for field in ("system", "tools"):
        parts = sequence(body.get(field))
        for i in _newest(parts):
            yield from _marked(parts[i], field, i)


def _newest(parts: Sequence[Any]) -> range:
    return range(len(parts) - 1, max(0, len(parts) - _NEWEST) - 1, -1)


def _marked(part: object, field: str, place: int) -> tuple[Hint, ...]:
    mark = part.get("cache_control") if isinstance(part, dict) else None
    if not isinstance(mark, dict):
        return ()
    ttl = mark.get("ttl")
    return (Hint("cache-mark", ttl if ttl in _CACHE_TTLS else "5m", f"{field}[{place}]", SAID),)


def _durations(headers: Mapping[str, str]) -> Iterator[Hint]:
    """`Bash=742;Read=9`: milliseconds of each call whose result this request carries, names percent-encoded."""
    source = "x-claude-code-prev-tool-durations"
    for entry in headers.get(source, "")[:_MAX_DURATIONS_CHARS].split(";"):
        name, _, value = entry.partition("=")
        tool, duration_ms = identifier(unquote(name.strip())), number(value.strip())
        if tool is not None and duration_ms is not None:
            yield Hint(f"tool-duration-s/{tool}", duration_ms / 1000, source, SAID)
