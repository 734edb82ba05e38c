"""Answers of the Messages API: the message, the events of a stream, usage.

Source: vLLM 0.33.0, vllm/entrypoints/anthropic/serving.py.
"""

import json
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

from agentic_serving.enginesim.answer import Delta
from agentic_serving.enginesim.chatanswer import CallNames, new_call_id
from agentic_serving.enginesim.faults import Fault
from agentic_serving.enginesim.service import Running, Service, Usage
from agentic_serving.enginesim.wire import named_event

__all__ = ["error_event", "message_events", "whole_message"]

_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


def _usage_body(service: Service, usage: Usage, *, cache: bool) -> dict[str, int]:
    """Anthropic counts cached, newly cached and other input tokens apart."""
    body = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
    if not cache or not service.options.prompt_details:
        return body
    block = service.options.block_tokens
    created = max(0, usage.prompt_tokens // block * block - usage.cached_tokens)
    body["input_tokens"] = max(0, usage.prompt_tokens - usage.cached_tokens - created)
    return {**body, "cache_creation_input_tokens": created, "cache_read_input_tokens": usage.cached_tokens}


def _stop(running: Running) -> tuple[str | None, str | None]:
    """`stop_reason` and `stop_sequence`."""
    answer = running.answer
    if answer.finish == "stop" and answer.calls():
        return "tool_use", None  # a forced call ends with "stop" underneath
    if answer.finish == "stop" and answer.stop_text is not None:
        return "stop_sequence", answer.stop_text
    return _STOP_REASONS.get(answer.finish), None


def whole_message(service: Service, running: Running) -> dict[str, Any]:
    answer = running.answer
    content: list[dict[str, Any]] = []
    if thoughts := answer.text("reasoning"):
        content.append({"type": "thinking", "thinking": thoughts, "signature": uuid.uuid4().hex})
    if text := answer.text():
        content.append({"type": "text", "text": text})
    for call in answer.calls():
        content.append(
            {"type": "tool_use", "id": new_call_id(), "name": call.name, "input": _arguments(call.arguments)}
        )
    reason, sequence = _stop(running)
    body = {
        "id": running.asked.request_id,
        "type": "message",
        "role": "assistant",
        "content": content,
        "model": running.model,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": _usage_body(service, running.usage(), cache=True),
        "kv_transfer_params": running.kv_transfer(),
    }
    return {key: value for key, value in body.items() if value is not None}


def _arguments(text: str) -> dict[str, Any]:
    """Arguments of a call as an object.

    Raises:
        Fault: 400, the call was cut: vLLM cannot make a block of it either.
    """
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise Fault(str(error)) from None
    return found


def error_event(fault: Fault) -> bytes:
    return named_event("error", {"type": "error", "error": {"type": "api_error", "message": fault.message}})


async def message_events(service: Service, running: Running) -> AsyncIterator[bytes]:
    """The stream: one content block after the other."""
    blocks = _Blocks()
    first = True
    async for deltas in running.chunks():
        if first:
            yield named_event("message_start", _start(service, running))
            first = False
        for delta in deltas:
            for event in blocks.add(delta):
                yield event
    for event in blocks.stop():
        yield event
    reason, sequence = _stop(running)
    yield named_event(
        "message_delta",
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": _usage_body(service, running.usage(), cache=True),
        },
    )
    yield named_event("message_stop", {"type": "message_stop"})


def _start(service: Service, running: Running) -> dict[str, Any]:
    usage = Usage(prompt_tokens=len(running.prompt), output_tokens=0, cached_tokens=0)
    message: dict[str, Any] = {
        "id": running.asked.request_id,
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": running.model,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage_body(service, usage, cache=False),
    }
    return {"type": "message_start", "message": message}


class _Blocks:
    """The content block that is open."""

    def __init__(self) -> None:
        self._names = CallNames()
        self._open: tuple[str, int] | None = None  # kind and the call's index
        self._index = 0

    def add(self, delta: Delta) -> Iterable[bytes]:
        if self._open != (delta.kind, delta.index):
            yield from self.stop()
            self._open = (delta.kind, delta.index)
            block = self._block(delta)
            yield named_event(
                "content_block_start",
                {"type": "content_block_start", "index": self._index, "content_block": block},
            )
        if delta.text:
            yield self._delta(_delta_of(delta))

    def stop(self) -> Iterable[bytes]:
        if self._open is None:
            return
        if self._open[0] == "reasoning":
            yield self._delta({"type": "signature_delta", "signature": uuid.uuid4().hex})
        yield named_event("content_block_stop", {"type": "content_block_stop", "index": self._index})
        self._open = None
        self._index += 1

    def _delta(self, body: dict[str, Any]) -> bytes:
        return named_event(
            "content_block_delta", {"type": "content_block_delta", "index": self._index, "delta": body}
        )

    def _block(self, delta: Delta) -> dict[str, Any]:
        if delta.kind == "text":
            return {"type": "text", "text": ""}
        if delta.kind == "reasoning":
            return {"type": "thinking", "thinking": ""}
        return {"type": "tool_use", "id": self._names.of(delta.index), "name": delta.name or "", "input": {}}


def _delta_of(delta: Delta) -> dict[str, Any]:
    if delta.kind == "text":
        return {"type": "text_delta", "text": delta.text}
    if delta.kind == "reasoning":
        return {"type": "thinking_delta", "thinking": delta.text}
    return {"type": "input_json_delta", "partial_json": delta.text}
