"""The manifests' templates: Jinja2 over YAML, where values enter as JSON only.

Two guards keep what users write from becoming structure. Every expression must end in `| tojson` (a test
reads the templates, and rendering refuses anything else), and JSON is written so that YAML reads it back as
the same value. The environment is sandboxed and strict: a missing value is an error of ours, not an empty string.
"""

import json
import re
from functools import cache
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agentic_serving.assets import templates_dir
from agentic_serving.errors import Bug

__all__ = ["fill", "to_json"]

_SURROGATES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})")


class _Json(str):
    """Text that came out of `tojson`."""

    __slots__ = ()


def to_json(value: object) -> str:
    """JSON that YAML reads as the same value.

    YAML is nearly a superset of JSON. Nearly: JSON writes characters beyond the basic plane as two
    surrogates, which YAML refuses; there they become one `\\UXXXXXXXX`. The rest is ASCII.
    """
    return _Json(_SURROGATES.sub(_join_surrogates, json.dumps(value)))


def fill(template: str, **values: object) -> dict[str, Any]:
    """The object that `templates/manifests/<template>.yaml.j2` describes with these values.

    Raises:
        Bug: the template lacks a value or does not make a mapping.
    """
    try:
        body = yaml.load(_template(template).render(values), Loader=yaml.CSafeLoader)
    except Exception as error:
        raise Bug(f"template {template}: {error}") from error
    if not isinstance(body, dict):
        raise Bug(f"template {template} made a {type(body).__name__}, not a mapping")
    return body


def _join_surrogates(match: re.Match[str]) -> str:
    high, low = (int(group, 16) for group in match.groups())
    return f"\\U{0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00):08x}"


def _only_json(value: object) -> str:
    """Refuses an expression whose value did not pass through `tojson`."""
    if not isinstance(value, _Json):
        raise Bug(f"a template printed {value!r} without tojson")
    return value


@cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(templates_dir() / "manifests"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_only_json,
    )
    environment.filters["tojson"] = to_json
    return environment


@cache
def _template(name: str) -> Template:
    return _environment().get_template(f"{name}.yaml.j2")
