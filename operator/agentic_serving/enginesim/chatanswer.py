"""Answers of Chat Completions: the message, the chunks of a stream, and usage.

Source: vLLM 0.33.0, vllm/entrypoints/openai/chat_completion/serving.py.
"""

import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from agentic_serving.enginesim.answer import Delta
from agentic_serving.enginesim.conversation import Conversation, ToolChoice
from agentic_serving.enginesim.schemas import StreamOptions
from agentic_serving.enginesim.service import Running, Service, Usage
from agentic_serving.enginesim.wire import data_event

__all__ = [
    "CallNames",
    "chat_events",
    "counts_body",
    "details_body",
    "new_call_id",
    "usage_wanted",
    "whole_chat",
]


def new_call_id() -> str:
    """As vLLM names calls."""
    return f"chatcmpl-tool-{uuid.uuid4().hex[:16]}"


def usage_wanted(service: Service, options: StreamOptions | None) -> tuple[bool, bool]:
    """Whether a stream reports usage at its end, and in every chunk."""
    if service.options.force_usage:
        return True, True
    include = bool(options and options.include_usage)
    return include, include and bool(options and options.continuous_usage_stats)


def counts_body(usage: Usage) -> dict[str, Any]:
    """The plain counts."""
    prompt, output = usage.prompt_tokens, usage.output_tokens
    return {"prompt_tokens": prompt, "total_tokens": prompt + output, "completion_tokens": output}


def details_body(service: Service, usage: Usage) -> dict[str, Any] | None:
    """`prompt_tokens_details`; None without --enable-prompt-tokens-details."""
    if not service.options.prompt_details:
        return None
    block = service.options.block_tokens
    created = max(0, usage.prompt_tokens // block * block - usage.cached_tokens)
    return {"cached_tokens": usage.cached_tokens, "created_cache_tokens": created, "multimodal_tokens": None}


def _reasoning_body(service: Service, running: Running) -> dict[str, Any] | None:
    if service.options.reasoning_parser is None:
        return None
    served = running.answer.deltas[: running.handle.done_tokens]
    return {"reasoning_tokens": sum(1 for deltas in served if any(d.kind == "reasoning" for d in deltas))}


class CallNames:
    """Ids of the calls of one answer."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}

    def of(self, index: int) -> str:
        return self._ids.setdefault(index, new_call_id())


def chat_delta(deltas: Sequence[Delta], names: CallNames) -> dict[str, Any]:
    """What new tokens add, as a chat chunk's `delta`."""
    found: dict[str, Any] = {}
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        if delta.kind == "call":
            calls.append(_call_delta(delta, names))
        else:
            key = "content" if delta.kind == "text" else "reasoning"
            found[key] = found.get(key, "") + delta.text
    return {"content": None, **found, "tool_calls": calls} if calls else found


def _call_delta(delta: Delta, names: CallNames) -> dict[str, Any]:
    if delta.name is None:
        return {"index": delta.index, "function": {"arguments": delta.text}}
    return {
        "id": names.of(delta.index),
        "type": "function",
        "index": delta.index,
        "function": {"name": delta.name},
    }


async def chat_events(
    service: Service, running: Running, options: StreamOptions | None
) -> AsyncIterator[bytes]:
    """The stream of one answer."""
    include, continuous = usage_wanted(service, options)
    names = CallNames()
    parsed = service.options.tool_parser is not None or service.options.reasoning_parser is not None
    first = True
    async for deltas in running.chunks():
        if first:
            yield data_event(_first_chunk(running, continuous=continuous))
            first = False
        last = running.handle.settled is not None
        delta = chat_delta(deltas, names)
        if not delta and not parsed:
            delta = {"content": ""}
        if delta or last:
            chunk = _chunk(running, delta, last=last, since_033=service.since_033)
            if last and not include:
                chunk["system_fingerprint"] = service.fingerprint
            if continuous:
                reasoning = _reasoning_body(service, running)
                chunk["usage"] = {**counts_body(running.usage()), "completion_tokens_details": reasoning}
            yield data_event(chunk)
    if include:
        yield data_event(_usage_chunk(service, running))
    yield data_event("[DONE]")


def _head(running: Running) -> dict[str, Any]:
    return {
        "id": running.asked.request_id,
        "object": "chat.completion.chunk",
        "created": running.created_s,
        "model": running.model,
    }


def _first_chunk(running: Running, *, continuous: bool) -> dict[str, Any]:
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    chunk = {**_head(running), "choices": [choice], "prompt_token_ids": None, "prompt_text": None}
    if continuous:
        prompt = len(running.prompt)
        chunk["usage"] = {
            "prompt_tokens": prompt,
            "total_tokens": prompt,
            "completion_tokens": 0,
            "completion_tokens_details": None,
        }
    return chunk


def _chunk(running: Running, delta: dict[str, Any], *, last: bool, since_033: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    if last:
        choice |= {"finish_reason": running.answer.finish, "stop_reason": running.answer.stop_text}
    choice["token_ids"] = None
    if not since_033:
        return {**_head(running), "choices": [choice]}
    if last:
        choice["weight_versions"] = None
    transfer = running.kv_transfer() if last else None
    return {**_head(running), "choices": [choice], "kv_transfer_params": transfer}


def _usage_chunk(service: Service, running: Running) -> dict[str, Any]:
    usage = running.usage()
    body = counts_body(usage)
    details = details_body(service, usage)
    if details is not None:
        body["prompt_tokens_details"] = {key: value for key, value in details.items() if value is not None}
    reasoning = _reasoning_body(service, running)
    if reasoning is not None:
        body["completion_tokens_details"] = reasoning
    return {**_head(running), "choices": [], "usage": body, "system_fingerprint": service.fingerprint}


def whole_chat(service: Service, running: Running) -> dict[str, Any]:
    """The answer without streaming: every field that vLLM declares."""
    usage = running.usage()
    choice: dict[str, Any] = {
        "index": 0,
        "message": message_of(running),
        "logprobs": None,
        "finish_reason": running.answer.finish,
        "stop_reason": running.answer.stop_text,
        "token_ids": None,
        "routed_experts": None,
    }
    if service.since_033:
        choice["weight_versions"] = None
    return {
        **_head(running),
        "object": "chat.completion",
        "choices": [choice],
        "service_tier": None,
        "system_fingerprint": service.fingerprint,
        "usage": {
            **counts_body(usage),
            "prompt_tokens_details": details_body(service, usage),
            "completion_tokens_details": _reasoning_body(service, running),
        },
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": running.kv_transfer(),
        "ec_transfer_params": None,
        "metrics": None,
    }


def message_of(running: Running) -> dict[str, Any]:
    """The assistant's message."""
    answer = running.answer
    calls = answer.calls()
    text: str | None = answer.text()
    choice = running.asked.prompt.choice if isinstance(running.asked.prompt, Conversation) else ToolChoice()
    if calls and not text and choice.kind == "auto":
        text = None
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if calls:
        message["tool_calls"] = [
            {
                "id": new_call_id(),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in calls
        ]
    return {**message, "reasoning": answer.text("reasoning") or None}
