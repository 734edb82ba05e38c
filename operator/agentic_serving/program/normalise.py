"""Request bodies of three APIs as one sequence of parts: what reaches the prompt, and nothing that moves without reaching it.

Dropped: Claude Code's billing line, `cache_control` (kept as a hint), encrypted reasoning, ids of tool calls unless the
template writes them. A message's answer, and each of its calls, is a part of its own: Responses sends them as separate items.
Whatever is not understood is a part too; nothing raises on any JSON.
Not modelled: how a template joins an answer and its calls; images are counted by the bytes of their JSON.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from agentic_serving.program.hashing import canonical

__all__ = ["HEAD_ORDERS", "BlockKind", "HeadOrder", "Part", "Role", "parts"]

BlockKind = Literal["System", "ToolCatalog", "Turn", "Reasoning"]
Role = Literal["", "user", "assistant", "tool"]
HeadOrder = Literal["tools-first", "system-first"]

#: What a chat template writes before the first turn. tools-first: Anthropic's order, GLM, Kimi; system-first: Qwen, Hermes.
HEAD_ORDERS: Mapping[HeadOrder, tuple[BlockKind, ...]] = {
    "tools-first": ("ToolCatalog", "System"),
    "system-first": ("System", "ToolCatalog"),
}

_BILLING = "x-anthropic-billing-header:"
_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")


@dataclass(frozen=True, slots=True)
class Part:
    """One block before it is hashed; `hinted` is the client's own mark for caching (`cache_control`)."""

    kind: BlockKind
    role: Role
    content: bytes
    hinted: bool = False


def parts(body: object, *, head: HeadOrder = "tools-first", call_ids: bool = False) -> list[Part]:
    """What the prompt of a Chat Completions, Responses or Messages body consists of, in the template's order.

    Args:
        call_ids: the template writes the ids of tool calls into the prompt (Mistral, Kimi).
    """
    if not isinstance(body, dict):
        return []
    order = HEAD_ORDERS[head]
    leading = [*_tools(body.get("tools")), *_system(body)]
    leading.sort(key=lambda part: order.index(part.kind))
    turns = list(_turns(body, call_ids))
    if head == "system-first" and not any(p.kind == "System" for p in leading):
        return _after_system(leading, turns)
    return leading + turns


def _after_system(leading: list[Part], turns: list[Part]) -> list[Part]:
    """Chat Completions has the system text among its messages: the leading ones belong before the tools."""
    n = next((i for i, part in enumerate(turns) if part.kind != "System"), len(turns))
    return turns[:n] + leading + turns[n:]


def _tools(tools: object) -> Iterator[Part]:
    """All tools are one block: templates write them in one piece."""
    if not isinstance(tools, list) or not tools:
        return
    yield Part("ToolCatalog", "", canonical([_tool(tool) for tool in tools]), any(map(_hinted, tools)))


def _tool(tool: object) -> object:
    """Name, description and schema, wherever the API keeps them."""
    inner = tool.get("function", tool) if isinstance(tool, dict) else tool
    if not isinstance(inner, dict) or "name" not in inner:
        return _unmarked(tool)
    schema = inner.get("input_schema", inner.get("parameters"))
    return [inner["name"], inner.get("description"), schema]


def _system(body: dict[str, Any]) -> Iterator[Part]:
    """`system` of Messages (text, or blocks), `instructions` of Responses."""
    system = body.get("system", body.get("instructions"))
    blocks = system if isinstance(system, list) else [system]
    for i, block in enumerate(blocks):
        text = _text_of(block)
        if i == 0 and text.startswith(_BILLING):
            text = text.partition("\n")[2]
        if text:
            yield Part("System", "", canonical(text), _hinted(block))


def _turns(body: dict[str, Any], call_ids: bool) -> Iterator[Part]:  # noqa: FBT001 - private, named at the door
    given = body.get("messages", body.get("input"))
    for entry in given if isinstance(given, list) else [given]:
        if isinstance(entry, str):
            yield Part("Turn", "user", canonical(entry))
        elif isinstance(entry, dict):
            yield from _entry(entry, call_ids)


def _entry(entry: dict[str, Any], call_ids: bool) -> Iterator[Part]:  # noqa: FBT001
    """A message of any of the APIs, or an item of Responses."""
    kind = entry.get("type")
    if kind == "function_call":
        yield _call(entry.get("name"), entry.get("arguments"), _id(entry.get("call_id"), call_ids))
    elif kind == "function_call_output":
        yield _result(entry.get("output"), _id(entry.get("call_id"), call_ids))
    elif kind == "reasoning":
        yield from _reasoning(entry.get("content") or entry.get("summary"))
    elif entry.get("role") in ("system", "developer"):
        yield Part("System", "", canonical(_text_of(entry.get("content"))), _marked(entry))
    elif entry.get("role") == "tool":
        yield _result(entry.get("content"), _id(entry.get("tool_call_id"), call_ids))
    elif entry.get("role") == "assistant":
        yield from _answer(entry, call_ids)
    else:
        yield from _asked(entry, call_ids)


def _asked(entry: dict[str, Any], call_ids: bool) -> Iterator[Part]:  # noqa: FBT001
    """A user's message; Messages keeps tool results in it, which engines write before its text."""
    content = entry.get("content", None if "role" in entry else entry)
    blocks = content if isinstance(content, list) else [content]
    rest = []
    for block in blocks:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            yield _result(
                block.get("content"), _id(block.get("tool_use_id"), call_ids), hinted=_hinted(block)
            )
        elif block is not None:
            rest.append(block)
    if rest:
        yield Part("Turn", "user", canonical(_text_of(rest)), any(map(_hinted, rest)))


def _answer(entry: dict[str, Any], call_ids: bool) -> Iterator[Part]:  # noqa: FBT001
    """Reasoning, then the text, then the calls."""
    content = entry.get("content")
    blocks = content if isinstance(content, list) else [content]
    yield from _reasoning(entry.get("reasoning_content") or entry.get("reasoning"))
    texts, calls = [], []
    for block in blocks:
        fields = block if isinstance(block, dict) else {}
        kind = fields.get("type")
        if kind == "thinking":
            yield from _reasoning(fields.get("thinking"))
        elif kind == "tool_use":
            calls.append(_call(fields.get("name"), fields.get("input"), _id(fields.get("id"), call_ids)))
        elif kind != "redacted_thinking" and block:
            texts.append(block)
    if texts:
        yield Part("Turn", "assistant", canonical(_text_of(texts)), any(map(_hinted, texts)))
    yield from calls
    listed = entry.get("tool_calls")
    for call in listed if isinstance(listed, list) else []:
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(inner, dict):
            call_id = call.get("id") if isinstance(call, dict) else None
            yield _call(inner.get("name"), inner.get("arguments"), _id(call_id, call_ids))


def _reasoning(value: object) -> Iterator[Part]:
    if text := _text_of(value):
        yield Part("Reasoning", "assistant", canonical(text))


def _call(name: object, arguments: object, call_id: object) -> Part:
    """Arguments are an object in Messages and its text elsewhere: compared as the object."""
    if isinstance(arguments, str):
        with suppress(ValueError):  # a model may write what is no JSON; then the text itself is compared
            arguments = orjson.loads(arguments)
    return Part("Turn", "assistant", canonical([name, arguments, call_id]))


def _result(content: object, call_id: object, *, hinted: bool = False) -> Part:
    return Part("Turn", "tool", canonical([_text_of(content), call_id]), hinted)


def _id(value: object, wanted: bool) -> object:  # noqa: FBT001
    return value if wanted else None


def _text_of(value: object) -> str:
    """Text parts joined by a line break, as vLLM joins them; other parts as their JSON, without marks."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_one(item) for item in value)
    return _one(value)


def _one(item: object) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and item.get("type") in _TEXTS and isinstance(item.get("text"), str):
        return str(item["text"])
    return canonical(_unmarked(item)).decode("utf-8", "surrogatepass")


def _unmarked(item: object) -> object:
    return {k: v for k, v in item.items() if k != "cache_control"} if isinstance(item, dict) else item


def _hinted(item: object) -> bool:
    return isinstance(item, dict) and item.get("cache_control") is not None


def _marked(entry: dict[str, Any]) -> bool:
    content = entry.get("content")
    return _hinted(entry) or (isinstance(content, list) and any(map(_hinted, content)))
