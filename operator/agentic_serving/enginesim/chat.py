"""POST /v1/chat/completions. Source: vLLM 0.33.0, vllm/entrypoints/openai/chat_completion."""

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.answer import Delta
from agentic_serving.enginesim.conversation import Conversation, ToolChoice, ToolSpec
from agentic_serving.enginesim.faults import Fault, refused
from agentic_serving.enginesim.schemas import ChatRequest, StreamOptions
from agentic_serving.enginesim.service import Asked, Running, Service, Usage
from agentic_serving.enginesim.wire import body_of, data_event, json_answer, request_id_of, stream

__all__ = [
    "CallNames",
    "asked_for",
    "chat_events",
    "chat_tools",
    "check_tools",
    "completions",
    "conversation_of",
    "counts_body",
    "details_body",
    "new_call_id",
    "priority_of",
    "stops",
    "template_function",
    "usage_wanted",
]


async def completions(service: Service, request: web.Request) -> web.StreamResponse:
    """Answer one request."""
    body = await body_of(request, ChatRequest)
    service.check_model(body.model)
    _check(body, service)
    request_id = request_id_of(request, body.request_id or uuid.uuid4().hex)
    priority = priority_of(request, body.priority)
    running = await service.start(asked_for(body, conversation_of(body), request_id, priority))
    if body.stream:
        return await stream(request, chat_events(service, running, body.stream_options))
    await running.complete()
    return json_answer(_whole(service, running))


def conversation_of(body: ChatRequest) -> Conversation:
    """The request as templates and scripts see it."""
    return Conversation(
        messages=body.messages,
        tools=chat_tools([tool.model_dump(exclude_unset=False) for tool in body.tools or ()]),
        choice=_choice(body),
        add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        continue_final_message=body.continue_final_message,
        template_kwargs=body.chat_template_kwargs or {},
    )


def asked_for(body: ChatRequest, conversation: Conversation, request_id: str, priority: int) -> Asked:
    """What the engine gets to do."""
    newer = body.max_completion_tokens is not None
    return Asked(
        model=body.model,
        request_id=f"chatcmpl-{request_id}",
        prompt=conversation,
        max_tokens=body.max_completion_tokens if newer else body.max_tokens,
        max_tokens_name="max_completion_tokens" if newer else "max_tokens",
        stop=stops(body.stop),
        temperature=body.temperature,
        priority=priority,
        salt=body.cache_salt or "",
        ignore_eos=body.ignore_eos,
        min_tokens=body.min_tokens,
        include_stop=body.include_stop_str_in_output,
        kv_transfer=body.kv_transfer_params or {},
    )


def chat_tools(tools: Iterable[dict[str, Any]]) -> tuple[ToolSpec, ...]:
    """Tools in the form of Chat Completions; templates get vLLM's fields, unset ones as null."""
    found = []
    for tool in tools:
        function = template_function(tool["function"])
        found.append(
            ToolSpec(
                name=str(function["name"]),
                parameters=function["parameters"] or {},
                template={"type": "function", "function": function},
            )
        )
    return tuple(found)


def template_function(given: Mapping[str, Any]) -> dict[str, Any]:
    """A tool's function as vLLM hands it to templates: declared fields, `strict` only where it is set."""
    function = {name: given.get(name) for name in ("name", "description", "parameters")}
    for name in ("strict", "defer_loading"):
        if given.get(name) is not None:
            function[name] = given[name]
    return function


def check_tools(service: Service, choice: ToolChoice) -> None:
    """vLLM's conditions on tool choices.

    Raises:
        Fault: 400.
    """
    if service.options.tool_parser is not None or choice.kind == "none":
        return
    if choice.kind == "auto":
        raise Fault('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    name = f'function "{choice.name}"' if choice.kind == "named" else '"required"'
    raise Fault(f"tool_choice={name} requires --tool-call-parser to be set")


def stops(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given or ())


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


def priority_of(request: web.Request, default: int) -> int:
    """The header's, else the body's."""
    text = request.headers.get("X-Vllm-Priority", "")
    return int(text) if text.lstrip("-").isdigit() else default


def _check(body: ChatRequest, service: Service) -> None:
    """What pydantic cannot say.

    Raises:
        Fault: 400.
    """
    if body.stream_options and body.stream_options.model_fields_set and not body.stream:
        raise refused("Stream options can only be defined when `stream=True`.", "stream_options")
    if body.tools == []:
        raise refused(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.",
            "tools",
        )
    if body.tool_choice not in (None, "none") and not body.tools:
        raise refused("When using `tool_choice`, `tools` must be set.", "tool_choice")
    names = {tool.function.name for tool in body.tools or ()}
    choice = _choice(body)
    if choice.kind == "named" and choice.name not in names:
        raise refused(
            "The tool specified in `tool_choice` does not match any of the specified `tools`", "tool_choice"
        )
    if body.chat_template is not None:
        raise Fault(
            "Chat template is passed with request, but --trust-request-chat-template is not set. "
            "Refused request with untrusted chat template."
        )
    if (body.n or 1) != 1:
        raise Fault("the engine simulator answers n=1 only", param="n")
    check_tools(service, choice)


def _choice(body: ChatRequest) -> ToolChoice:
    choice = body.tool_choice
    if choice is None or choice == "none" or not body.tools:
        return ToolChoice()
    if choice == "auto":
        return ToolChoice(kind="auto")
    if choice == "required":
        return ToolChoice(kind="required")
    return ToolChoice(kind="named", name=choice.function.name)


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


def _whole(service: Service, running: Running) -> dict[str, Any]:
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
