"""Conversation to prompt text: the model's chat template, as vLLM applies it, or a built-in ChatML.

Sources: vLLM 0.33.0, vllm/renderers/hf.py and chat_utils/chat_message.py (text parts joined by line breaks unless the
template takes parts, arguments of earlier calls as objects, `developer` as `system` where the template does
not know it); transformers' apply_chat_template (sandbox, block trimming, `tojson` without ASCII escapes).
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agentic_serving.enginesim.conversation import Conversation, joined_text

__all__ = ["ChatRenderer", "TemplateProblem", "load_renderer"]

_TAKES_PARTS = re.compile(r"for\s+\w+\s+in\s+\w+(?:\.content|\[['\"]content['\"]\])")


class TemplateProblem(Exception):
    """The template refuses the conversation."""


class ChatRenderer:
    """Renders prompts.

    Args:
        template: Jinja source; None: the built-in ChatML.
        special: special tokens by name (`bos_token`), for the template.
    """

    def __init__(self, template: str | None, special: Mapping[str, str]) -> None:
        self._source = template
        self._special = dict(special)
        self._environment = _environment()
        self._compiled: dict[str, jinja2.Template] = {}
        self.merges_system = self._must_merge_system()

    def render(self, conversation: Conversation) -> str:
        """The prompt's text.

        Raises:
            TemplateProblem: the template refuses it; the message is the template's own.
        """
        source = conversation.chat_template or self._source
        if source is None:
            return _chatml(conversation)
        messages = _prepared(conversation.messages, source)
        tools = [dict(tool.template) for tool in conversation.tools] or None
        values: dict[str, Any] = {
            **self._special,
            "add_generation_prompt": conversation.add_generation_prompt,
            "continue_final_message": conversation.continue_final_message,
            **conversation.template_kwargs,
        }
        try:
            text = self._template(source).render(messages=messages, tools=tools, documents=None, **values)
        except (jinja2.TemplateError, TypeError) as error:
            raise TemplateProblem(str(error)) from None
        return _continued(text, messages) if conversation.continue_final_message else text

    def _template(self, source: str) -> jinja2.Template:
        if source not in self._compiled:
            self._compiled[source] = self._environment.from_string(source)
        return self._compiled[source]

    def _must_merge_system(self) -> bool:
        """Whether system messages must come first: then the Messages API merges later ones into the first, as vLLM does."""
        if self._source is None:
            return False
        probe = [{"role": role, "content": "t"} for role in ("system", "user", "system", "user")]
        try:
            self._template(self._source).render(messages=probe, add_generation_prompt=False)
        except jinja2.TemplateError:
            return True
        return False


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    return environment


def _tojson(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - called by templates, with these names
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002 - as above
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _prepared(messages: Sequence[Mapping[str, Any]], source: str) -> list[dict[str, Any]]:
    takes_parts = _TAKES_PARTS.search(source) is not None
    prepared = [_message(message, takes_parts=takes_parts) for message in messages]
    if any(m["role"] == "developer" for m in prepared) and "developer" not in source:
        return _system_first([{**m, "role": "system"} if m["role"] == "developer" else m for m in prepared])
    return prepared


def _system_first(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All system messages as one at the beginning."""
    texts = [joined_text(m.get("content")) for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    return [{"role": "system", "content": "\n\n".join(texts)}, *rest]


def _message(message: Mapping[str, Any], *, takes_parts: bool) -> dict[str, Any]:
    prepared = {key: value for key, value in message.items() if value is not None}
    content = message.get("content")
    if takes_parts:
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content or ())
        prepared["content"] = parts
    else:
        prepared["content"] = joined_text(content)
    if reasoning := message.get("reasoning") or message.get("reasoning_content"):
        prepared["reasoning"] = prepared["reasoning_content"] = reasoning
    if message.get("role") != "assistant" or "tool_calls" not in prepared:
        return prepared
    if prepared["tool_calls"]:
        prepared["tool_calls"] = [_call(call) for call in prepared["tool_calls"]]
    else:
        del prepared["tool_calls"]
    return prepared


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of an earlier turn with its arguments as an object, as templates expect."""
    function = dict(call.get("function") or {})
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    function["arguments"] = arguments if isinstance(arguments, dict) else {}
    return {**call, "function": function}


def _continued(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """The prompt up to the end of the last message's text, for `continue_final_message`."""
    last = joined_text(messages[-1].get("content")).strip() if messages else ""
    end = text.rfind(last)
    return text[: end + len(last)] if last and end >= 0 else text


def _chatml(conversation: Conversation) -> str:
    """The built-in format: ChatML with tools and calls in Hermes form."""
    parts: list[str] = []
    if conversation.tools:
        listed = "\n".join(json.dumps(tool.template, ensure_ascii=False) for tool in conversation.tools)
        parts.append(f"<|im_start|>system\n# Tools\n{listed}<|im_end|>\n")
    for message in conversation.messages:
        text = joined_text(message.get("content"))
        calls = "".join(_chatml_call(call) for call in message.get("tool_calls") or ())
        parts.append(f"<|im_start|>{message.get('role')}\n{text}{calls}<|im_end|>\n")
    if conversation.continue_final_message and parts:
        parts[-1] = parts[-1].removesuffix("<|im_end|>\n")
    elif conversation.add_generation_prompt:
        parts.append("<|im_start|>assistant\n")
    return "".join(parts)


def _chatml_call(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return f'<tool_call>\n{{"name": "{function.get("name")}", "arguments": {written}}}\n</tool_call>'


def load_renderer(model: str, chat_template: str | None) -> ChatRenderer:
    """The renderer of a model's folder; `chat_template` (`--chat-template`) is a file or the template itself."""
    folder = Path(model)
    config = _json(folder / "tokenizer_config.json")
    special = {
        name: _token(config[name])
        for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        if config.get(name)
    }
    template = _given(chat_template) or _read(folder / "chat_template.jinja") or _default(config)
    return ChatRenderer(template, special)


def _given(chat_template: str | None) -> str | None:
    if chat_template is None or "{" in chat_template:
        return chat_template
    return Path(chat_template).read_text(encoding="utf-8")


def _default(config: Mapping[str, Any]) -> str | None:
    """`chat_template` of tokenizer_config.json: one, or several by name."""
    found = config.get("chat_template")
    if isinstance(found, list):
        named = {entry["name"]: str(entry["template"]) for entry in found}
        return named.get("default")
    return None if found is None else str(found)


def _token(value: object) -> str:
    return str(value["content"] if isinstance(value, Mapping) else value)


def _read(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _json(file: Path) -> dict[str, Any]:
    found = json.loads(_read(file) or "{}")
    return found if isinstance(found, dict) else {}
