"""docs/api.md and docs/conditions.md, written from the types."""

from collections.abc import Iterable, Iterator

from agentic_serving import names
from agentic_serving.api.conditions import (
    ConditionType,
    PolicyCondition,
    ProgramCondition,
    Reason,
    StackCondition,
)
from agentic_serving.api.crd import KIND_INFOS, KindInfo, object_schema
from agentic_serving.api.examples import EXAMPLES
from agentic_serving.api.patterns import HINTS
from agentic_serving.api.schema import Schema, is_opaque, nodes

__all__ = ["api_reference", "conditions_reference"]

_GENERATED = "<!-- Generated from operator/agentic_serving/api by `make generate`. Do not edit. -->\n"
_HEAD = "| field | type | default | meaning |\n|---|---|---|---|"
_CONDITIONS = {
    "AgenticServingStack": StackCondition,
    "AgentProgram": ProgramCondition,
    "KVTierPolicy": PolicyCondition,
}


def api_reference() -> str:
    """The page that says what every field is."""
    intro = (
        f"# API reference\n\n{_GENERATED}\n"
        f"Group `{names.GROUP}`, version `{names.VERSION}`; all kinds are namespaced, and references stay in one"
        f" namespace. `kubectl get {names.CATEGORY}` lists all three. Conditions and their reasons:"
        " [conditions.md](conditions.md). JSON schemas for editors: [schemas/](schemas/).\n\n"
        "A field with *required* must be there if the object around it is; a field without a default may be left"
        " out. Durations are written like `1h30m` (GEP-2257), quantities like `100Gi`.\n"
    )
    return intro + "".join(_kind(info) for info in KIND_INFOS.values())


def conditions_reference() -> str:
    """The page that says what every condition and reason means."""
    parts = [
        f"# Conditions and reasons\n\n{_GENERATED}\n"
        "Conditions follow kstatus: `Ready` is always there, and `Reconciling`, `Stalled` and `Overlapping` are"
        " bad news when True. The reason is a stable word, the message says what to do next.\n"
    ]
    for kind, types in _CONDITIONS.items():
        rows = [f"| `{t}` | {_polarity(t)} | {_cell(t.doc)} |" for t in types]
        parts.append(
            f"\n## {kind}\n\n| condition | good when | True means |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    rows = [f"| `{r}` | {_cell(r.doc)} |" for r in sorted(Reason)]
    parts.append("\n## Reasons\n\n| reason | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _polarity(type_: ConditionType) -> str:
    return "False" if type_.abnormal_true else "True"


def _kind(info: KindInfo) -> str:
    schema = object_schema(info.model)
    text = (
        f"\n## {info.kind}\n\n{schema['description']} Short name `{info.short_name}`.\n\n"
        f"```yaml\n{EXAMPLES[info.kind]}```\n"
    )
    for part in ("spec", "status"):
        text += "".join(_sections(schema["properties"][part], part))
    rules = list(_rules(schema))
    return text + "\n### Rules\n\n" + "\n".join(rules) + "\n"


def _sections(schema: Schema, path: str) -> Iterator[str]:
    """A table of the plain fields, then one for each field that is an object."""
    required = schema.get("required", ())
    plain = {n: c for n, c in schema["properties"].items() if "properties" not in c}
    objects = {n: c for n, c in schema["properties"].items() if "properties" in c}
    rows = [row for name, child in plain.items() for row in _rows(child, name, required=name in required)]
    if path == "status":
        rows += [row for n, c in objects.items() for row in _rows(c, n, required=n in required)]
        objects = {}
    if rows:
        yield f"\n### {path}\n\n{_HEAD}\n" + "\n".join(rows) + "\n"
    for name, child in objects.items():
        need = " Required." if name in required else ""
        inner = child.get("required", ())
        rows = [r for n, c in child["properties"].items() for r in _rows(c, n, required=n in inner)]
        yield f"\n### {path}.{name}\n\n{child['description']}{need}\n\n{_HEAD}\n" + "\n".join(rows) + "\n"


def _rows(schema: Schema, path: str, *, required: bool) -> Iterator[str]:
    """The row of a field, and of all fields below it."""
    default = "*required*" if required else _default(schema)
    yield f"| `{path}` | {_type(schema)} | {default} | {_cell(schema.get('description', ''))} |"
    inner, mark = schema, ""
    if "properties" in schema.get("items", {}):
        inner, mark = schema["items"], "[]"
    for name, child in inner.get("properties", {}).items():
        yield from _rows(child, f"{path}{mark}.{name}", required=name in inner.get("required", ()))


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default is None or "properties" in schema else f"`{default}`"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "")
    if kind == "integer":
        return _span("integer", schema.get("minimum"), schema.get("maximum"), "")
    if kind == "string":
        return _string(schema)
    if kind == "array":
        inner = schema["items"]
        what = "objects" if "properties" in inner else f"({_type(inner)})"
        return _span(f"list of {what}", schema.get("minItems"), schema.get("maxItems"), "entries")
    if "additionalProperties" in schema:
        return _span("map of strings", None, schema.get("maxProperties"), "entries")
    return "part of a pod template" if is_opaque(schema) else "object"


def _string(schema: Schema) -> str:
    if "format" in schema:
        return str(schema["format"])
    hint = HINTS.get(schema.get("pattern", ""), "")
    limit = f"at most {schema['maxLength']} characters" if "maxLength" in schema else ""
    return "string: " + ", ".join(filter(None, (_cell(hint), limit)))


def _span(what: str, low: int | None, high: int | None, unit: str) -> str:
    if low is None and high is None:
        return what
    bounds = (
        f"{low} to {high}"
        if None not in (low, high)
        else f"at least {low}"
        if high is None
        else f"at most {high}"
    )
    return f"{what}, {bounds} {unit}".rstrip()


def _rules(schema: Schema) -> Iterable[str]:
    """Cross-field rules, once for each message and field."""
    seen: dict[str, list[str]] = {}
    for path, node in nodes(schema):
        for rule in node.get("x-kubernetes-validations", ()):
            seen.setdefault(rule["message"], []).append(f"`{(path or '.metadata.name').lstrip('.')}`")
    return [f"- {', '.join(paths)}: {_cell(message)}." for message, paths in seen.items()]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
