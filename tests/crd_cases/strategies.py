"""Random objects from a structural schema: legal ones, and ones with a part replaced by something hostile."""

import copy
from typing import Any

from hypothesis import strategies as st

from agentic_serving.api.base import ApiObject
from agentic_serving.api.crd import object_schema
from agentic_serving.api.schema import Schema, is_opaque
from tests.crd_cases.cases import GOOD

__all__ = ["grafted_objects", "hostile_objects", "json_values", "legal_objects"]

_NAMES = st.sampled_from(["chat", "a", "a-1", "team.x", "7b", "x" * 63, "x" * 64])
_DURATIONS = st.sampled_from(["1ms", "30s", "5m", "1h30m", "99999h"])
_HOLDS = st.sampled_from(["0s", "1ms", "30s", "5m", "10m"])
_QUANTITIES = st.sampled_from(["1", "100Gi", "1.5Ti", "0.001", "500G", "999Pi"])
#: What people and programs write by mistake, and what breaks parsers.
_HOSTILE = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 7, 10**12, 1.5, 2.0, -0.0, "", "0", "0s", "0Gi", "1h", "A_b", "a b", "true",
        "é\u202e\U0001f600", "a\n", "{{ x }}", "x" * 5000, [], [None], ["a", "a"], {}, {"a": None}, {"name": "x"},
    ]
)  # fmt: skip

_TEMPLATES = st.dictionaries(
    st.sampled_from(["spec", "metadata", "é\u202e", ""]),
    st.sampled_from([None, {"a": None}, {"b": [{}, [], ""]}, -1, 2**53, 1.5, "{{ x }}", True]),
    max_size=2,
)

_leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)


def legal_objects(model: type[ApiObject]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of the form that the schema demands; rules between fields may not hold."""
    spec = _values(object_schema(model)["properties"]["spec"])
    return st.fixed_dictionaries({"metadata": st.fixed_dictionaries({"name": _NAMES}), "spec": spec})


@st.composite
def grafted_objects(draw: st.DrawFn, model: type[ApiObject]) -> dict[str, Any]:
    """A good object with one field of its spec, at any depth, replaced by a legal value or added."""
    obj: dict[str, Any] = copy.deepcopy(
        draw(st.sampled_from([c.obj for c in GOOD if c.kind == model.__name__]))
    )
    at, schema = obj["spec"], object_schema(model)["properties"]["spec"]
    name = draw(st.sampled_from(sorted(schema["properties"])))
    while (
        "properties" in schema["properties"][name] and isinstance(at.get(name), dict) and draw(st.booleans())
    ):
        at, schema = at[name], schema["properties"][name]
        name = draw(st.sampled_from(sorted(schema["properties"])))
    at[name] = draw(_values(schema["properties"][name]))
    return obj


@st.composite
def hostile_objects(draw: st.DrawFn, model: type[ApiObject]) -> dict[str, Any]:
    """A good or a grafted object with a part of its spec replaced, removed or misnamed."""
    good = st.sampled_from([c.obj for c in GOOD if c.kind == model.__name__]).map(copy.deepcopy)
    obj: dict[str, Any] = draw(good | grafted_objects(model))
    holder, key = draw(st.sampled_from([(obj, "spec"), *_places(obj["spec"])]))
    change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "misname"]))
    if change == "replace" or not isinstance(holder, dict):
        holder[key] = draw(_HOSTILE)
    else:
        value = holder.pop(key)
        if change == "misname":
            holder[f"{key}s"] = value
    return obj


def _places(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any JSON value
    """Every (container, key) below a value."""
    inner = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [(value, key) for key, _ in inner] + [place for _, child in inner for place in _places(child)]


def _values(schema: Schema) -> st.SearchStrategy[Any]:
    if is_opaque(schema):
        return _TEMPLATES
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema.get("maximum", 2**53))
    if schema["type"] == "string":
        return _strings(schema)
    if schema["type"] == "array":
        most = min(schema["maxItems"], 3)
        return st.lists(_values(schema["items"]), min_size=schema.get("minItems", 0), max_size=most)
    if "properties" not in schema:
        return st.dictionaries(
            st.sampled_from(["a", "a.b/c"]), _values(schema["additionalProperties"]), max_size=2
        )
    required = set(schema.get("required", ()))
    children = {name: _values(child) for name, child in schema["properties"].items()}
    return st.fixed_dictionaries(
        {n: s for n, s in children.items() if n in required},
        optional={n: s for n, s in children.items() if n not in required},
    )


def _strings(schema: Schema) -> st.SearchStrategy[str]:
    rules = [rule["rule"] for rule in schema.get("x-kubernetes-validations", ())]
    if rules:
        if "10m" in rules[0]:
            return _HOLDS
        return _DURATIONS if "duration(" in rules[0] else _QUANTITIES
    least, most = schema.get("minLength", 0), schema["maxLength"]
    if "pattern" not in schema:
        return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=min(most, 20))
    return st.from_regex(schema["pattern"].strip("^$"), fullmatch=True).filter(
        lambda s: least <= len(s) <= most
    )
