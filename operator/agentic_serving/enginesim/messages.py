"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's API, converted as vLLM converts it.

Source: vLLM 0.33.0, vllm/entrypoints/anthropic/serving.py.
"""

import json
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.answer import Delta
from agentic_serving.enginesim.chat import CallNames, check_tools, new_call_id
from agentic_serving.enginesim.conversation import Conversation, ToolChoice, ToolSpec
from agentic_serving.enginesim.faults import Fault, refused
from agentic_serving.enginesim.schemas import CountRequest, MessagesRequest
from agentic_serving.enginesim.service import Asked, Running, Service, Usage
from agentic_serving.enginesim.wire import body_of, json_answer, named_event, request_id_of, stream

__all__ = ["count_tokens", "messages"]

#: A line that changes with each version of Claude Code; vLLM drops it, as it would defeat prefix caching.
_BILLING = "x-anthropic-billing-header"
_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


async def messages(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request."""
    body = await body_of(request, MessagesRequest)
    service.check_model(body.model)
    conversation = _conversation(service, body)
    _check(service, conversation)
    asked = Asked(
        model=body.model,
        request_id=f"chatcmpl-{request_id_of(request, uuid.uuid4().hex)}",
        prompt=conversation,
        max_tokens=body.max_tokens,
        max_tokens_name="max_completion_tokens",
        stop=tuple(body.stop_sequences or ()),
        temperature=body.temperature,
        salt=body.cache_salt or "",
        kv_transfer=body.kv_transfer_params or {},
    )
    running = await service.start(asked)
    if body.stream:
        return await stream(request, _events(service, running), on_fault=_error_event)
    await running.complete()
    return json_answer(_whole(service, running))


async def count_tokens(service: Service, request: web.Request) -> web.StreamResponse:
    """Tokens of a prompt."""
    body = await body_of(request, CountRequest)
    service.check_model(body.model)
    ids = await service.tokenize(_conversation(service, body), special=False)
    return json_answer({"input_tokens": len(ids), "context_management": {"original_input_tokens": len(ids)}})


def _conversation(service: Service, body: CountRequest) -> Conversation:
    merge = service.renderer.merges_system
    converted: list[dict[str, Any]] = []
    texts = list(_system_texts(body.system))
    if merge:
        texts += [text for m in body.messages if m.role == "system" for text in _system_texts(m.content)]
    if texts:
        converted.append({"role": "system", "content": "".join(texts)})
    for message in body.messages:
        if message.role == "system":
            text = "".join(_system_texts(message.content))
            if text and not merge:
                converted.append({"role": "system", "content": text})
        elif isinstance(message.content, str):
            converted.append({"role": message.role, "content": message.content})
        else:
            converted.extend(_converted(message.role, message.content))
    return Conversation(
        messages=converted,
        tools=_tools(body),
        choice=_choice(body),
        template_kwargs=body.chat_template_kwargs or {},
    )


def _system_texts(content: Any) -> Iterable[str]:  # noqa: ANN401 - text or blocks
    """System texts without the billing line."""
    if isinstance(content, str):
        yield from [] if not content or content.startswith(_BILLING) else [content]
        return
    for block in content or ():
        if block.type == "text" and block.text and not block.text.startswith(_BILLING):
            yield block.text


def _converted(role: str, blocks: Sequence[Any]) -> Iterable[dict[str, Any]]:
    """One message's blocks as messages of Chat Completions: tool results come first, each on its own."""
    parts: list[dict[str, str]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[str] = []
    for block in blocks:
        if block.type == "text" and block.text:
            parts.append({"type": "text", "text": block.text})
        elif block.type == "thinking" and block.thinking is not None:
            thoughts.append(block.thinking)
        elif block.type == "tool_use":
            calls.append(_call(block))
        elif block.type == "tool_result" and role == "user":
            yield {"role": "tool", "tool_call_id": block.tool_use_id or "", "content": _result(block.content)}
        elif block.type == "tool_result":
            parts.append({"type": "text", "text": f"Tool result: {block.content or ''}"})
    message: dict[str, Any] = {"role": role}
    if thoughts:
        message["reasoning"] = "".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    if parts:
        message["content"] = parts[0]["text"] if len(parts) == 1 else parts
    if role != "user" or "content" in message:
        yield message


def _call(block: Any) -> dict[str, Any]:  # noqa: ANN401 - a block
    function = {"name": block.name or "", "arguments": json.dumps(block.input or {})}
    return {"id": block.id or new_call_id(), "type": "function", "function": function}


def _result(content: str | list[dict[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(item.get("text", "") for item in content if item.get("type") == "text")


def _tools(body: CountRequest) -> tuple[ToolSpec, ...]:
    found = []
    for tool in body.tools or ():
        schema = {**tool.input_schema, **({} if "type" in tool.input_schema else {"type": "object"})}
        function = {"name": tool.name, "description": tool.description, "parameters": schema}
        template = {"type": "function", "function": function}
        found.append(ToolSpec(name=tool.name, parameters=schema, template=template))
    return tuple(found)


def _choice(body: CountRequest) -> ToolChoice:
    choice = body.tool_choice
    if not body.tools or (choice is not None and choice.type == "none"):
        return ToolChoice()
    if choice is None or choice.type == "auto":
        return ToolChoice(kind="auto")
    return (
        ToolChoice(kind="required")
        if choice.type == "any"
        else ToolChoice(kind="named", name=choice.name or "")
    )


def _check(service: Service, conversation: Conversation) -> None:
    choice = conversation.choice
    if choice.kind == "named" and choice.name not in {tool.name for tool in conversation.tools}:
        raise refused(
            "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
        )
    check_tools(service, choice)


def _usage_body(service: Service, usage: Usage, *, cache: bool) -> dict[str, int]:
    """Anthropic counts cached, newly cached and other input tokens apart."""
    body = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
    if not cache or not service.options.prompt_details:
        return body
    block = service.options.block_tokens
    created = max(0, usage.prompt_tokens // block * block - usage.cached_tokens)
    body["input_tokens"] = max(0, usage.prompt_tokens - usage.cached_tokens - created)
    return {**body, "cache_creation_input_tokens": created, "cache_read_input_tokens": usage.cached_tokens}


def _stop(running: Running) -> tuple[str, str | None]:
    """`stop_reason` and `stop_sequence`."""
    answer = running.answer
    if answer.finish == "stop" and answer.calls():
        return "tool_use", None  # a forced call ends with "stop" underneath
    if answer.finish == "stop" and answer.stop_text is not None:
        return "stop_sequence", answer.stop_text
    return _STOP_REASONS[answer.finish], None


def _whole(service: Service, running: Running) -> dict[str, Any]:
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


def _error_event(fault: Fault) -> bytes:
    return named_event("error", {"type": "error", "error": {"type": "api_error", "message": fault.message}})


async def _events(service: Service, running: Running) -> AsyncIterator[bytes]:
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
