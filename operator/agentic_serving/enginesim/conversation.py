"""A request of any of the three chat APIs in one form: messages and tools as a chat template gets them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

__all__ = ["Conversation", "ToolChoice", "ToolSpec", "joined_text"]

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A tool that the model may call."""

    name: str
    parameters: Mapping[str, Any]
    template: Mapping[str, Any]  # as chat templates get it
    custom: bool = False  # of the Responses API: takes free text
    # Of the Responses API: the model calls `<namespace>__<name>`, clients get the two apart.
    namespace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """What the client wants: a call of its own accord, at least one, that one, or none."""

    kind: Literal["none", "auto", "required", "named"] = "none"
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages in the form of Chat Completions, with text contents joined."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None

    @property
    def turn(self) -> int:
        """1 for the first answer."""
        return 1 + sum(1 for message in self.messages if message.get("role") == "assistant")

    @property
    def last_sender(self) -> str:
        """`tool` where the last message brings a tool's result."""
        role = self.messages[-1].get("role") if self.messages else "user"
        return "tool" if role == "tool" else "user"

    @cached_property
    def last_text(self) -> str:
        return joined_text(self.messages[-1].get("content")) if self.messages else ""

    @cached_property
    def all_text(self) -> str:
        return "\n".join(joined_text(message.get("content")) for message in self.messages)


def joined_text(content: object) -> str:
    """Text of a content, whatever its form: vLLM joins text parts by line breaks for templates that take strings."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        return str(content)
    texts = [part if isinstance(part, str) else part.get("text") or "" for part in content]
    return "\n".join(texts)
