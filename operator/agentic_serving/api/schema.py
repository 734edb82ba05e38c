"""From a pydantic type to the OpenAPI v3 structural schema that the API server takes.

pydantic writes JSON Schema 2020-12 with references, unions with null and titles; a structural schema has none
of them (https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/).
Whatever this module does not know it refuses with `Bug`, so that a new kind of field fails the build rather
than being mangled by the server.

Defaults: scalars as they are; objects written out in full, and only where something below them has a default.
(`{}` would be filled in as well when objects are created, but the server evaluates the CEL rules on the bare `{}`
when the CRD is, and refuses it: "no such key".) Empty lists, maps and strings are not written: absent means
empty. Statuses get no defaults, for the operator writes them in full.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from agentic_serving.api.base import ApiModel
from agentic_serving.errors import Bug

__all__ = ["Schema", "apply_defaults", "is_opaque", "nodes", "structural_schema", "without_defaults"]

#: One node of a schema: plain JSON values.
Schema = dict[str, Any]

#: In the order in which they are written.
_KEPT = (
    "description",
    "type",
    "format",
    "enum",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "minProperties",
    "pattern",
    "required",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
)
#: Handled below, or without a counterpart: `title` repeats the name, `propertyNames` is enforced by pydantic.
_HANDLED = ("$ref", "$defs", "additionalProperties", "anyOf", "const", "default", "items", "properties")
_DROPPED = ("title", "propertyNames")
#: Deeper than any type that people could still write.
_MAX_DEPTH = 20


@cache
def structural_schema(model: type[ApiModel]) -> Schema:
    """The structural schema of a type, with camelCase names. Shared between callers: do not change it."""
    raw = model.model_json_schema(by_alias=True, mode="validation")
    return _convert(raw, raw.get("$defs", {}), model.__name__)


def is_opaque(schema: Schema) -> bool:
    """Whether the schema says nothing about what is inside."""
    return bool(schema.get("x-kubernetes-preserve-unknown-fields"))


def apply_defaults(value: dict[str, Any], schema: Schema) -> dict[str, Any]:
    """The object with absent properties filled in as the API server does it."""
    filled = dict(value)
    for name, child in schema.get("properties", {}).items():
        if name not in filled and "default" in child:
            filled[name] = copy.deepcopy(child["default"])
        if "properties" in child and isinstance(filled.get(name), dict):
            filled[name] = apply_defaults(filled[name], child)
    return filled


def without_defaults(schema: Schema) -> Schema:
    """A copy that sets nothing by itself: for statuses."""
    bare = copy.deepcopy(schema)
    for _, node in nodes(bare):
        node.pop("default", None)
    return bare


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every node of a schema with its path: `.a.b[]` for items, `.a{}` for the values of a map."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


def _convert(raw: Mapping[str, Any], defs: Mapping[str, Any], where: str) -> Schema:
    if where.count(".") > _MAX_DEPTH:
        raise Bug(f"{where}: a type inside itself is not structural")
    node = _resolve(raw, defs, where)
    unknown = set(node) - {*_KEPT, *_HANDLED, *_DROPPED}
    if unknown:
        raise Bug(f"{where}: no structural counterpart of {', '.join(sorted(unknown))}")
    schema = {key: copy.deepcopy(node[key]) for key in _KEPT if key in node}
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if "const" in node:
        schema["enum"] = [node["const"]]
    _convert_inner(node, schema, defs, where)
    if schema.get("type") == "integer" and "maximum" not in schema:
        # Only there: with a format the server's messages say "int32" where people expect "integer".
        schema["format"] = "int64"
    default = _default(node, schema, where)
    if default is not None:
        schema["default"] = default
    return schema


def _convert_inner(node: Mapping[str, Any], schema: Schema, defs: Mapping[str, Any], where: str) -> None:
    """Properties, items and values."""
    if "properties" in node:
        schema["properties"] = {
            name: _convert(child, defs, f"{where}.{name}") for name, child in node["properties"].items()
        }
    if "items" in node:
        schema["items"] = _convert(node["items"], defs, f"{where}[]")
        schema.setdefault("x-kubernetes-list-type", "atomic")
    values = node.get("additionalProperties")
    if isinstance(values, Mapping):
        schema["additionalProperties"] = _convert(values, defs, f"{where}{{}}")
    elif values is not None and not is_opaque(schema):
        raise Bug(f"{where}: a map needs a type for its values")


def _resolve(raw: Mapping[str, Any], defs: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The node with its reference and its `or null` taken in; what stands beside them wins."""
    node = dict(raw)
    while "$ref" in node or "anyOf" in node:
        if "$ref" in node:
            target = defs[node.pop("$ref").removeprefix("#/$defs/")]
        else:
            branches = [b for b in node.pop("anyOf") if b.get("type") != "null"]
            if len(branches) != 1:
                raise Bug(f"{where}: a union of types is not structural")
            target = branches[0]
        node = {**target, **node}
    return node


def _default(node: Mapping[str, Any], schema: Schema, where: str) -> object:
    """What the server shall fill in, or None."""
    default = node.get("default")
    if "properties" not in schema:
        return None if default in (None, "", [], {}) else default
    if not isinstance(default, Mapping):
        return None
    filled = apply_defaults({}, schema)
    if filled != _stripped(default):
        raise Bug(
            f"{where}: the default object differs from the defaults of its fields, which the server applies"
        )
    return filled or None


def _stripped(value: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: _stripped(v) if isinstance(v, Mapping) else v for k, v in value.items()}
    return {k: v for k, v in inner.items() if v not in (None, "", [], {})}
