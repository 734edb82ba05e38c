"""Scripted answers: a file of rules, so that real agent clients can run their tool loops against the simulator.

The first rule whose conditions all hold answers; where none does, the answer is made up as usual. A rule that calls
tools applies only to requests that offer all of them.
"""

import json
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentic_serving.enginesim.conversation import Conversation
from agentic_serving.errors import InvalidInput

__all__ = ["Call", "Script", "Scripted", "load_script"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _When(_Model):
    turn: int | None = None
    sender: Annotated[Literal["user", "tool"] | None, Field(alias="from")] = None
    last: str | None = None
    matches: str | None = None
    anywhere: str | None = None
    without: str | None = None
    tool: str | None = None


class _Call(_Model):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class _Rule(_Model):
    when: _When = _When()
    reasoning: str = ""
    answer: str = ""
    calls: tuple[_Call, ...] = ()


class _File(_Model):
    rules: tuple[_Rule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call; arguments as JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripted:
    """What a rule answers."""

    reasoning: str
    text: str
    calls: tuple[Call, ...]


class Script:
    """Rules in order."""

    def __init__(self, rules: Sequence[_Rule] = ()) -> None:
        self._rules = tuple(rules)

    def answer(self, conversation: Conversation) -> Scripted | None:
        """What the first rule that matches says; None: none does."""
        for rule in self._rules:
            groups = _matched(rule, conversation)
            if groups is not None:
                return _filled(rule, groups)
        return None


def _matched(rule: _Rule, conversation: Conversation) -> dict[str, str] | None:
    """The groups of its regular expression; None: the rule does not apply."""
    when = rule.when
    offered = {tool.name for tool in conversation.tools}
    if not offered.issuperset(call.name for call in rule.calls):
        return None
    conditions = (
        when.turn in (None, conversation.turn),
        when.sender in (None, conversation.last_sender),
        when.last is None or when.last in conversation.last_text,
        when.anywhere is None or when.anywhere in conversation.all_text,
        when.without is None or when.without not in conversation.all_text,
        when.tool is None or when.tool in offered,
    )
    if not all(conditions):
        return None
    if when.matches is None:
        return {}
    found = re.search(when.matches, conversation.last_text)
    if found is None:
        return None
    groups = {str(i): text or "" for i, text in enumerate(found.groups(), start=1)}
    return {**groups, **{name: text or "" for name, text in found.groupdict().items()}}


class _Template(string.Template):
    braceidpattern = r"(?:[_a-z][_a-z0-9]*|[0-9]+)"
    idpattern = r"(?!)"  # only ${name}: a bare $ is text, as in shell commands


def _filled(rule: _Rule, groups: dict[str, str]) -> Scripted:
    def fill(text: str) -> str:
        return _Template(text).safe_substitute(groups)

    calls = tuple(Call(name=c.name, arguments=json.dumps(_walk(c.arguments, fill))) for c in rule.calls)
    return Scripted(reasoning=fill(rule.reasoning), text=fill(rule.answer), calls=calls)


def _walk(value: object, fill: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, dict):
        return {key: _walk(item, fill) for key, item in value.items()}
    return [_walk(item, fill) for item in value] if isinstance(value, list) else value


def load_script(file: Path | None) -> Script:
    """The rules of a YAML or JSON file; no file: no rules.

    Raises:
        InvalidInput: it cannot be read or holds something else.
    """
    if file is None:
        return Script()
    try:
        content = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        for rule in content.rules:
            re.compile(rule.when.matches or "")
    except (OSError, yaml.YAMLError, ValidationError, re.error) as error:
        raise InvalidInput("ENGINESIM_SCRIPT", f"{file}: {error}") from None
    return Script(content.rules)
