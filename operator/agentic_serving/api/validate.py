"""The door for objects from the API server and from files: strict, complete, and it never raises.

An object passes three checks, as it does in the API server: its form (types, bounds, patterns, duplicate keys),
then the rules between fields, and beside both, fields that the API does not know. All that is wrong is found
at once and reported with the path that users write.

As the API server does, a null means that the field is absent, and 3.0 is a whole number. Two things the server
accepts and this refuses, so that the controller must report them: keys of maps beyond their length (structural
schemas have no `propertyNames`), and pod templates nested deeper than pydantic's JSON parser goes (200 levels).
"""

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from agentic_serving.api.base import ApiModel, ApiObject
from agentic_serving.api.conditions import Reason
from agentic_serving.api.crd import KIND_INFOS, object_schema
from agentic_serving.api.explain import join, path_of, say
from agentic_serving.api.findings import Finding
from agentic_serving.api.schema import Schema, is_opaque
from agentic_serving.names import API_VERSION

__all__ = ["KINDS", "cross_field_findings", "dump", "parse", "unknown_fields"]

M = TypeVar("M", bound=ApiObject)
Severity = Literal["Error", "Warning"]

#: The kinds' types by name.
KINDS: dict[str, type[ApiObject]] = {name: info.model for name, info in KIND_INFOS.items()}

_schema = cache(object_schema)


def parse(
    model: type[M], obj: object, *, unknown: Severity = "Warning"
) -> tuple[M | None, tuple[Finding, ...]]:
    """An object as its type, with everything that is wrong with it.

    Returns:
        The model, or None if the object does not fit it, and all findings. With errors between fields there
        is a model as well as errors: ask `findings.errors` before acting on it. A status that does not fit is
        dropped with a warning, for it is written anew anyway.
    """
    if not isinstance(obj, Mapping):
        return None, (_invalid(model.__name__, "must be an object"),)
    identity = tuple(_wrong_identity(model, obj))
    if identity:
        return None, identity
    findings = [*unknown_fields(model, obj, severity=unknown), *_duplicates(_schema(model), obj, "")]
    found, wrong = _fit(model, _prepared(_schema(model), obj))
    if found is None and wrong and all(f.severity == "Warning" for f in wrong):
        without_status = {k: v for k, v in obj.items() if k != "status"}
        found, _ = _fit(model, _prepared(_schema(model), without_status))
    findings += wrong
    if found is not None:
        findings += cross_field_findings(found)
    return found, tuple(findings)


def cross_field_findings(model: ApiModel, path: str = "") -> tuple[Finding, ...]:
    """What breaks a rule between fields, in the model and in everything inside it."""
    return tuple(_broken_rules(model, path))


def unknown_fields(
    model: type[ApiObject], obj: object, *, severity: Severity = "Warning"
) -> tuple[Finding, ...]:
    """Fields that the API does not have, each with the nearest name that it has."""
    return tuple(
        Finding(path=path, reason=Reason.UNKNOWN_FIELD, message=message, severity=severity)
        for path, message in _unknown(_schema(model), obj, "")
    )


def dump(model: ApiModel) -> dict[str, Any]:
    """The JSON object of a model; fields that are empty by default are left out while they are empty."""
    result = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        plain = _plain(value)
        empty = plain is None or plain in ("", [], {})
        if not (empty and not field.is_required() and value == field.get_default()):
            result[field.alias or name] = plain
    return result


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, ApiModel):
        return dump(value)
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _invalid(path: str, message: str, *, reason: str = Reason.INVALID_SPEC) -> Finding:
    return Finding(path=path, reason=reason, message=message)


def _wrong_identity(model: type[ApiObject], obj: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings where `apiVersion` or `kind` are there and name something else; lists leave them out."""
    for field, expected in (("apiVersion", API_VERSION), ("kind", model.__name__)):
        if obj.get(field, expected) != expected:
            yield _invalid(field, f"must be {expected}")


def _fit(model: type[M], obj: Mapping[str, Any]) -> tuple[M | None, list[Finding]]:
    """The object as the type, or what keeps it from being one; findings in `status` are warnings."""
    try:
        return model.model_validate_json(json.dumps(obj), strict=True), []
    except ValidationError as error:
        return None, [_finding(model, e) for e in error.errors(include_url=False)]
    except (TypeError, ValueError, RecursionError) as error:
        # What JSON cannot hold: dates of YAML, integers of thousands of digits, a bottomless pod template.
        return None, [_invalid(model.__name__, f"cannot be written as JSON: {error}")]


def _finding(model: type[ApiObject], error: Mapping[str, Any]) -> Finding:
    path = path_of(error["loc"]) or model.__name__
    if error["loc"][:1] == ("status",):
        message = f"{say(error)}; the status is ignored and will be written anew"
        return Finding(path=path, reason=Reason.INVALID_SPEC, message=message, severity="Warning")
    return _invalid(path, say(error))


def _prepared(schema: Schema, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value as the API server would hand it on: no nulls for fields, no unknown fields, 3 for 3.0."""
    if is_opaque(schema):
        return value
    if isinstance(value, Mapping):
        known = schema.get("properties")
        if known is None:  # a map, or metadata
            return {k: v for k, v in value.items() if v is not None}
        return {k: _prepared(known[k], v) for k, v in value.items() if k in known and v is not None}
    if isinstance(value, list) and "items" in schema:
        return [_prepared(schema["items"], v) for v in value]
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    return value


def _unknown(schema: Schema, value: object, path: str) -> Iterator[tuple[str, str]]:
    known = schema.get("properties")
    if isinstance(value, Mapping) and known:
        for key, inner in value.items():
            if key in known:
                yield from _unknown(known[key], inner, join(path, str(key)))
            else:
                near = get_close_matches(str(key).lower(), {k.lower(): k for k in known}, n=1, cutoff=0.7)
                hint = next((f"; did you mean {k}?" for k in known if k.lower() in near), "")
                yield join(path, str(key)), f"is not a field of the API{hint}"
    elif isinstance(value, list) and "items" in schema:
        for i, inner in enumerate(value):
            yield from _unknown(schema["items"], inner, f"{path}[{i}]")


def _duplicates(schema: Schema, value: object, path: str) -> Iterator[Finding]:
    """Entries of a set, or of a list with keys, that are there twice; the API server refuses them too."""
    if isinstance(value, Mapping):
        for key, child in schema.get("properties", {}).items():
            yield from _duplicates(child, value.get(key), join(path, key))
    elif isinstance(value, list) and "items" in schema:
        seen: set[str] = set()
        for i, inner in enumerate(value):
            identity = _identity(schema, inner)
            if identity is not None and identity in seen:
                yield _invalid(f"{path}[{i}]", f"is there twice: {identity}", reason=Reason.DUPLICATE)
            seen.add(identity or "")
            yield from _duplicates(schema["items"], inner, f"{path}[{i}]")


def _identity(schema: Schema, entry: object) -> str | None:
    """What must not be equal in two entries, as text; None where nothing must."""
    if schema.get("x-kubernetes-list-type") == "set":
        return repr(entry)
    keys = schema.get("x-kubernetes-list-map-keys", ())
    if not keys or not isinstance(entry, Mapping) or any(k not in entry for k in keys):
        return None
    return ", ".join(f"{k} {entry[k]!r}" for k in keys)


def _broken_rules(value: object, path: str) -> Iterator[Finding]:
    if isinstance(value, ApiModel):
        for rule in type(value).cel_rules:
            if not rule.holds(value):
                yield _invalid((path + rule.field_path).lstrip("."), rule.message)
        for name, field in type(value).model_fields.items():
            yield from _broken_rules(getattr(value, name), join(path, field.alias or name))
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _broken_rules(inner, f"{path}[{i}]")
