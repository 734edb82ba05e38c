"""Output items of the Responses API, and the events by which they are streamed.

Source: vLLM 0.33.0, vllm/entrypoints/openai/responses/streaming_events.py (the simple, non-Harmony path).
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentic_serving.enginesim.answer import Answer, Delta
from agentic_serving.enginesim.chatanswer import new_call_id
from agentic_serving.enginesim.conversation import ToolSpec

__all__ = ["Item", "ItemStream", "items_of"]

Event = dict[str, Any]
Status = Literal["completed", "incomplete", "cancelled"]

_PREFIX = {"text": "msg_", "reasoning": "rs_", "call": "fc_"}


@dataclass(slots=True)
class Item:
    """One output item in the making."""

    kind: str  # text, reasoning, call
    name: str = ""
    custom: bool = False  # a call whose input is free text
    namespace: str | None = None  # a call's
    text: str = ""
    id: str = ""
    call_id: str = field(default_factory=new_call_id)

    def __post_init__(self) -> None:
        prefix = "ctc_" if self.custom else _PREFIX[self.kind]
        self.id = self.id or f"{prefix}{uuid.uuid4().hex[:16]}"

    @property
    def payload(self) -> str:
        """A custom call's free text."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return self.text
        return str(found["input"]) if isinstance(found, dict) and "input" in found else self.text

    def body(self, status: str, *, streamed: bool = False) -> dict[str, Any]:
        """The item as it is now."""
        if self.kind == "text":
            part: dict[str, Any] = {
                "annotations": [],
                "text": self.text,
                "type": "output_text",
                "logprobs": None,
            }
            content = [part] if self.text else []
            return {
                "id": self.id, "content": content, "role": "assistant", "status": status, "type": "message",
                "phase": None,
            }  # fmt: skip
        if self.kind == "reasoning":
            thoughts = [{"text": self.text, "type": "reasoning_text"}] if self.text else None
            return {
                "id": self.id, "summary": [], "type": "reasoning", "content": thoughts, "encrypted_content": None,
                "status": status if streamed else None,
            }  # fmt: skip
        if self.custom:
            return {
                "id": self.id, "call_id": self.call_id, "input": self.payload if self.text else "",
                "name": self.name, "type": "custom_tool_call", "namespace": None,
            }  # fmt: skip
        return {
            "arguments": self.text, "call_id": self.call_id, "name": self.name, "type": "function_call",
            "id": self.id, "namespace": self.namespace, "status": status, "async": None, "caller": None,
        }  # fmt: skip


class ItemStream:
    """Deltas to events.

    Args:
        tools: what is offered, by the name the model calls it.
        cut_shows: whether the last item of a cut answer is `incomplete` (vLLM 0.33 and later).
    """

    def __init__(self, tools: Mapping[str, ToolSpec], *, cut_shows: bool = True) -> None:
        self.items: list[Item] = []
        self._tools = tools
        self._cut_shows = cut_shows
        self._open: tuple[str, int] | None = None

    def add(self, delta: Delta) -> Iterable[Event]:
        if self._open != (delta.kind, delta.index):
            yield from self.close("completed")
            self._open = (delta.kind, delta.index)
            name = delta.name or ""
            item = _called(name, self._tools) if delta.kind == "call" else Item(delta.kind, name=name)
            self.items.append(item)
            yield from self._opened(item)
        if delta.text:
            item = self.items[-1]
            item.text += delta.text
            if not item.custom:
                yield self._grown(item, delta.text)

    def close(self, status: Status) -> Iterable[Event]:
        """End the open item, if there is one."""
        if self._open is None:
            return
        self._open = None
        item = self.items[-1]
        shown = status if self._cut_shows else "completed"
        yield from self._ended(item)
        done = self._at({"type": "response.output_item.done"}, item)
        del done["item_id"]
        yield {**done, "item": item.body(shown, streamed=True)}

    def _at(self, event: Event, _: Item) -> Event:
        return {**event, "item_id": self.items[-1].id, "output_index": len(self.items) - 1}

    def _opened(self, item: Item) -> Iterable[Event]:
        body = item.body("in_progress", streamed=True)
        yield {"type": "response.output_item.added", "item": body, "output_index": len(self.items) - 1}
        if item.kind != "call":
            yield {
                **self._at({"type": "response.content_part.added"}, item),
                "content_index": 0,
                "part": _part(item, added=True),
            }

    def _grown(self, item: Item, text: str) -> Event:
        names = {"text": "output_text", "reasoning": "reasoning_text", "call": "function_call_arguments"}
        event = self._at({"type": f"response.{names[item.kind]}.delta", "delta": text}, item)
        if item.kind == "call":
            return event
        return {**event, "content_index": 0, **({"logprobs": []} if item.kind == "text" else {})}

    def _ended(self, item: Item) -> Iterable[Event]:
        if item.custom:
            yield self._at({"type": "response.custom_tool_call_input.delta", "delta": item.payload}, item)
            yield self._at({"type": "response.custom_tool_call_input.done", "input": item.payload}, item)
            return
        if item.kind == "call":
            event = {
                "type": "response.function_call_arguments.done",
                "arguments": item.text,
                "name": item.name,
            }
            yield self._at(event, item)
            return
        name = "output_text" if item.kind == "text" else "reasoning_text"
        more: dict[str, Any] = {"logprobs": []} if item.kind == "text" else {}
        yield {
            **self._at({"type": f"response.{name}.done", "text": item.text}, item),
            "content_index": 0,
            **more,
        }
        yield {
            **self._at({"type": "response.content_part.done"}, item),
            "content_index": 0,
            "part": _part(item),
        }


def _part(item: Item, *, added: bool = False) -> Mapping[str, Any]:
    if item.kind == "reasoning":
        return {"text": item.text, "type": "reasoning_text"}
    return {"annotations": [], "text": item.text, "type": "output_text", "logprobs": [] if added else None}


def _called(name: str, tools: Mapping[str, ToolSpec], text: str = "") -> Item:
    """A call as clients get it: the namespace apart from the name."""
    tool = tools.get(name)
    if tool is None:
        return Item("call", name=name, text=text)
    if not tool.namespace:
        return Item("call", name=name, custom=tool.custom, text=text)
    return Item("call", name=name.removeprefix(f"{tool.namespace}__"), namespace=tool.namespace, text=text)


def items_of(answer: Answer, tools: Mapping[str, ToolSpec]) -> Sequence[Item]:
    """The whole answer's items."""
    found: list[Item] = []
    for kind in ("reasoning", "text"):
        text = answer.text("reasoning" if kind == "reasoning" else "text")
        if text:
            found.append(Item(kind, text=text))
    calls = [_called(c.name, tools, c.arguments) for c in answer.calls()]
    return [*found, *calls]
