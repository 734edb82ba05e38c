"""Request bodies of three APIs as one sequence of parts: what reaches the prompt, and nothing that moves without reaching it.

Dropped: Claude Code's billing line, `cache_control` (kept as a hint), encrypted reasoning, ids of tool calls unless the
template writes them. A message's answer, and each of its calls, is a part of its own: Responses sends them as separate items.
Whatever is not understood is a part too; nothing raises on any JSON.
Not modelled: how a template joins an answer and its calls; images are counted by the bytes of their JSON.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from agentic_serving.program.entries import is_list
from agentic_serving.program.hashing import canonical

__all__ = [
    "HEAD_ORDERS",
    "BlockKind",
    "HeadOrder",
    "Part",
    "Role",
    "Template",
    "entries_of",
    "head_of",
    "ordered",
    "parts_of",
    "written",
]

BlockKind = Literal["System", "ToolCatalog", "Turn", "Reasoning"]
Role = Literal["", "user", "assistant", "tool"]
HeadOrder = Literal["tools-first", "system-first"]

#: What a chat template writes before the first turn. tools-first: Anthropic's order, GLM, Kimi; system-first: Qwen, Hermes.
HEAD_ORDERS: Mapping[HeadOrder, tuple[BlockKind, ...]] = {
    "tools-first": ("ToolCatalog", "System"),
    "system-first": ("System", "ToolCatalog"),
}

#: What of a call's id reaches the prompt.
Ident = Callable[[object], object]

_BILLING = "x-anthropic-billing-header:"
_TEXTS = ("text", "input_text", "output_text", "summary_text", "reasoning_text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What a model's chat template does that moves the prompt.

    Attributes:
        head: the order of tools and system.
        call_ids: it writes the ids of tool calls (Mistral, Kimi).
        reasoning: which of the client's reasoning it writes: all; that after the last human message (Qwen3, GLM-4.5); none.
    """

    head: HeadOrder = "tools-first"
    call_ids: bool = False
    reasoning: Literal["all", "last", "none"] = "all"


@dataclass(frozen=True, slots=True)
class Part:
    """One block before it is hashed; `hinted` is the client's own mark for caching (`cache_control`)."""

    kind: BlockKind
    role: Role
    content: bytes
    hinted: bool = False

    @property
    def asked(self) -> bool:
        """A human's message, or what the client writes in its place."""
        return self.kind == "Turn" and self.role == "user"


def written(groups: Sequence[list[Part]], template: Template) -> list[list[Part]]:
    """Of the parts of each message those that the template writes, given the messages that follow."""
    if template.reasoning != "last":
        return list(groups)
    asked = max((i for i, group in enumerate(groups) if any(part.asked for part in group)), default=-1)
    return [
        [part for part in group if part.kind != "Reasoning"] if i < asked else group
        for i, group in enumerate(groups)
    ]


def ordered(head: Sequence[Part], turns: Sequence[Part], template: Template) -> list[Part]:
    """Head and turns in the template's order.

    Chat Completions has the system text among its messages: where the template writes it first, the leading ones belong
    before the tools.
    """
    order = HEAD_ORDERS[template.head]
    head = sorted(head, key=lambda part: order.index(part.kind))
    n = 0
    if template.head == "system-first" and not any(part.kind == "System" for part in head):
        n = next((i for i, part in enumerate(turns) if part.kind != "System"), len(turns))
    return [*turns[:n], *head, *turns[n:]]


def head_of(body: dict[str, Any]) -> list[Part]:
    """Tools, and the system text that stands apart from the messages."""
    return [*_tools(body.get("tools")), *_system(body)]


def entries_of(body: dict[str, Any]) -> Sequence[object]:
    """The messages, or the items of Responses; a prompt that is one text is one entry."""
    given = body.get("messages", body.get("input"))
    return given if is_list(given) else [given]


def parts_of(entry: object, template: Template) -> list[Part]:
    """The parts of one message or item; the reasoning too, unless the template writes none."""
    if isinstance(entry, str):
        return [Part("Turn", "user", canonical(entry))]
    if not isinstance(entry, dict):
        return []
    found = _entry(entry, _keep if template.call_ids else _drop)
    return [part for part in found if template.reasoning != "none" or part.kind != "Reasoning"]


def _tools(tools: object) -> Iterator[Part]:
    """All tools are one block: templates write them in one piece."""
    if not is_list(tools) or not tools:
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


def _entry(entry: dict[str, Any], ident: Ident) -> Iterator[Part]:
    """A message of any of the APIs, or an item of Responses."""
    kind = entry.get("type")
    if kind == "function_call":
        yield _call(entry.get("name"), entry.get("arguments"), ident(entry.get("call_id")))
    elif kind == "function_call_output":
        yield _result(entry.get("output"), ident(entry.get("call_id")))
    elif kind == "reasoning":
        yield from _reasoning(entry.get("content") or entry.get("summary"))
    elif entry.get("role") in ("system", "developer"):
        yield Part("System", "", canonical(_text_of(entry.get("content"))), _marked(entry))
    elif entry.get("role") == "tool":
        yield _result(entry.get("content"), ident(entry.get("tool_call_id")))
    elif entry.get("role") == "assistant":
        yield from _answer(entry, ident)
    else:
        yield from _asked(entry, ident)


def _asked(entry: dict[str, Any], ident: Ident) -> Iterator[Part]:
    """A user's message; Messages keeps tool results in it, which engines write before its text.

    Each text of it is a part of its own: what clients put before the person's own words (rules of the repository, reminders) is the same
    for all sub-agents.
    """
    content = entry.get("content", None if "role" in entry else entry)
    texts = []
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, dict) and block.get("type") == "tool_result":
            yield _result(block.get("content"), ident(block.get("tool_use_id")), hinted=_hinted(block))
        elif block is not None:
            texts.append(block)
    for text in texts:
        yield Part("Turn", "user", canonical(_text_of(text)), _hinted(text))


def _answer(entry: dict[str, Any], ident: Ident) -> Iterator[Part]:
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
            calls.append(_call(fields.get("name"), fields.get("input"), ident(fields.get("id"))))
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
            yield _call(inner.get("name"), inner.get("arguments"), ident(call_id))


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


def _keep(value: object) -> object:
    return value


def _drop(_value: object) -> object:
    return None


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
