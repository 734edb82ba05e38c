"""POST /v1/chat/completions. Source: vLLM 0.33.0, vllm/entrypoints/openai/chat_completion."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from agentic_serving.enginesim.chatanswer import chat_events, whole_chat
from agentic_serving.enginesim.conversation import Conversation, ToolChoice, ToolSpec
from agentic_serving.enginesim.faults import Fault, refused
from agentic_serving.enginesim.schemas import ChatRequest
from agentic_serving.enginesim.service import Asked, Service
from agentic_serving.enginesim.wire import body_of, json_answer, request_id_of, stream

__all__ = [
    "asked_for",
    "chat_tools",
    "check_tools",
    "completions",
    "conversation_of",
    "priority_of",
    "stops",
    "template_function",
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
    return json_answer(whole_chat(service, running))


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
