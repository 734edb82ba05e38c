"""What an answer says: when its first token came, usage, whether it is whole. For four APIs, streamed or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from agentic_serving.replay.bodies import Api
from agentic_serving.replay.sse import Event

__all__ = ["Answer", "AnswerFailed", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them; `cached` is None where it did not say."""

    prompt: int
    output: int
    cached: int | None


class AnswerFailed(Exception):
    """The server said in the middle of an answer that it failed."""


class Answer:
    """An answer, read piece by piece.

    Attributes:
        begun: a first token, of whatever kind, has come.
        done: the answer came to its end.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._reader = {
            "chat": self._chat,
            "completions": self._chat,
            "messages": self._messages,
            "responses": self._responses,
        }[api]
        self._usage: dict[str, Any] = {}
        self.begun = False
        self.done = False

    def event(self, event: Event) -> None:
        """Take one event of a stream.

        Raises:
            AnswerFailed: it reports an error, or is not what this API sends.
        """
        if event.data == "[DONE]":
            self.done = True
            return
        try:
            body = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            raise AnswerFailed("an event is not JSON") from None
        if not isinstance(body, dict):
            raise AnswerFailed("an event is not an object")
        kind = str(body.get("type") or event.type)
        if kind in ("error", "response.failed") or body.get("error"):
            raise AnswerFailed(_message(body))
        self._reader(kind, body)

    def whole(self, body: Mapping[str, Any]) -> None:
        """Take an answer that was not streamed."""
        self._merge(body.get("usage"))
        self.begun = self.done = True

    @property
    def usage(self) -> Usage | None:
        """Tokens, or None where the server reported none."""
        found = self._usage
        if "prompt_tokens" in found:
            return Usage(found["prompt_tokens"], found.get("completion_tokens") or 0, _cached(found))
        if "input_tokens" not in found:
            return None
        output = found.get("output_tokens") or 0
        if self._api != "messages":
            return Usage(found["input_tokens"], output, _cached(found))
        # Anthropic counts what was read from and written to the cache apart from input_tokens.
        read = found.get("cache_read_input_tokens")
        written = found.get("cache_creation_input_tokens") or 0
        return Usage(found["input_tokens"] + (read or 0) + written, output, read)

    def _merge(self, usage: object) -> None:
        """Later figures replace earlier ones: the last event of a stream has the final ones."""
        if isinstance(usage, dict):
            self._usage.update({k: v for k, v in usage.items() if v is not None})

    def _chat(self, _kind: str, body: Mapping[str, Any]) -> None:
        for choice in body.get("choices") or ():
            delta = choice.get("delta") or choice
            keys = ("content", "text", "tool_calls", "reasoning", "reasoning_content")
            self.begun = self.begun or any(delta.get(k) for k in keys)
        self._merge(body.get("usage"))

    def _messages(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind == "message_start":
            self._merge((body.get("message") or {}).get("usage"))
        elif kind in ("content_block_start", "content_block_delta"):
            self.begun = self.begun or kind == "content_block_delta" or _is_call(body)
        elif kind == "message_delta":
            self._merge(body.get("usage"))
        elif kind == "message_stop":
            self.done = True

    def _responses(self, kind: str, body: Mapping[str, Any]) -> None:
        if kind.endswith(".delta"):
            self.begun = True
        elif kind in ("response.completed", "response.incomplete"):
            self._merge((body.get("response") or {}).get("usage"))
            self.done = True


def _is_call(body: Mapping[str, Any]) -> bool:
    return (body.get("content_block") or {}).get("type") == "tool_use"


def _cached(usage: Mapping[str, Any]) -> int | None:
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    found = details.get("cached_tokens")
    return found if isinstance(found, int) else None


def _message(body: Mapping[str, Any]) -> str:
    error = body.get("error") or (body.get("response") or {}).get("error") or body
    return str(error.get("message", error) if isinstance(error, dict) else error)
