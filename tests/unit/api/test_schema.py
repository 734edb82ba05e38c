"""api.schema and api.crd: what the API server demands of a CRD, what we demand beyond that, and what is refused."""

import copy
import json
import re
from typing import Annotated, Any, ClassVar

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

from agentic_serving.api.base import ApiModel, ApiObject, CelRule
from agentic_serving.api.conditions import Reason
from agentic_serving.api.crd import KIND_INFOS, KindInfo, crd, object_schema
from agentic_serving.api.examples import EXAMPLES
from agentic_serving.api.generate import editor_schema
from agentic_serving.api.patterns import HINTS
from agentic_serving.api.schema import Schema, apply_defaults, is_opaque, nodes, structural_schema
from agentic_serving.api.stack import AgenticServingStackSpec
from agentic_serving.api.validate import KINDS, dump, parse
from agentic_serving.errors import Bug
from tests.crd_cases.cases import GOOD, GoodCase
from tests.crd_cases.strategies import legal_objects

infos = pytest.mark.parametrize("info", KIND_INFOS.values(), ids=KIND_INFOS)

#: Formats that apiextensions knows (`pkg/apiserver/validation/formats.go`) and we use.
FORMATS = {"date-time", "int64"}
ALLOWED = {
    "additionalProperties", "default", "description", "enum", "format", "items", "maxItems", "maxLength",
    "maxProperties", "maximum", "minItems", "minLength", "minimum", "pattern", "properties", "required", "type",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
}  # fmt: skip


def complaints(schema: Schema) -> list[str]:
    """What keeps a schema from being structural, bounded and documented."""
    found = []
    for path, node in nodes(schema):
        found += [f"{path}: {key} is not allowed" for key in set(node) - ALLOWED]
        if path not in (".metadata", ".apiVersion", ".kind", ""):
            found += [f"{path}: {text}" for text in _of_node(path, node)]
    return found


def _of_node(path: str, node: Schema) -> list[str]:
    bounds = {
        "string": ("enum" in node or "maxLength" in node, "string without maxLength or enum"),
        "integer": (
            "minimum" in node and ("maximum" in node or node.get("format") == "int64"),
            "integer without bounds",
        ),
        "array": ({"maxItems", "x-kubernetes-list-type"} <= set(node), "list without maxItems or list type"),
        "object": (
            bool({"properties", "maxProperties"} & set(node)) or is_opaque(node),
            "object without properties or a map without maxProperties",
        ),
    }
    keys = set(node.get("x-kubernetes-list-map-keys", ()))
    checks = [
        bounds.get(str(node.get("type")), (False, f"type {node.get('type')}")),
        ("description" in node or path.endswith(("[]", "{}")), "no description"),
        (len(node.get("description", "")) <= 1024, "description over 1 kB"),
        (node.get("format", "int64") in FORMATS, f"unknown format {node.get('format')}"),
        (keys <= set(node.get("items", {}).get("required", ())), "list keys that are not required"),
    ]
    return [text for holds, text in checks if not holds]


@infos
def test_schemas_are_structural_bounded_and_documented(info: KindInfo) -> None:
    assert complaints(object_schema(info.model)) == []


@pytest.mark.parametrize(
    ("node", "complaint"),
    [
        ({"type": "string", "description": "x"}, "string without maxLength"),
        ({"type": "integer", "minimum": 0, "description": "x"}, "integer without bounds"),
        ({"type": "number", "description": "x"}, "type number"),
        ({"type": "boolean", "description": "x"}, "type boolean"),
        ({"anyOf": [], "type": "object", "description": "x", "properties": {}}, "anyOf is not allowed"),
        (
            {"type": "array", "items": {"type": "string", "enum": ["a"]}, "description": "x"},
            "list without maxItems",
        ),
        (
            {"type": "object", "additionalProperties": {"type": "string", "maxLength": 1}},
            "map without maxProperties",
        ),
        ({"type": "string", "maxLength": 1}, "no description"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_the_linter_sees(node: Schema, complaint: str) -> None:
    assert any(complaint in c for c in complaints({"type": "object", "properties": {"field": node}}))


@infos
def test_a_crd_fits_client_side_apply(info: KindInfo) -> None:
    # The annotation that kubectl apply writes may hold 256 KiB.
    assert len(json.dumps(crd(info.model))) < 256 * 1024


@infos
def test_printer_columns_name_fields_that_exist(info: KindInfo) -> None:
    schema = object_schema(info.model)
    known = {re.sub(r"\[\]", "", path) for path, _ in nodes(schema)} | {".metadata.creationTimestamp"}
    for column in crd(info.model)["spec"]["versions"][0]["additionalPrinterColumns"]:
        assert re.sub(r"\[[^\]]*\]", "", column["jsonPath"]) in known


def test_what_is_asked_of_the_columns_and_names() -> None:
    by_kind = {
        kind: ([c.name for c in info.columns if not c.priority], info.short_name)
        for kind, info in KIND_INFOS.items()
    }
    assert by_kind == {
        "AgenticServingStack": (["Ready", "Reason", "Model", "Preset", "Replicas", "Age"], "astack"),
        "AgentProgram": (
            ["Ready", "Reason", "SLOMet", "P95", "Attained", "Stack", "Priority", "Age"],
            "aprog",
        ),
        "KVTierPolicy": (["Ready", "Reason", "Enforced", "Stacks", "Age"], "kvtp"),
    }


def test_every_pattern_is_said_in_words_and_no_words_are_left_over() -> None:
    used = {n["pattern"] for m in KINDS.values() for _, n in nodes(object_schema(m)) if "pattern" in n}
    assert used == set(HINTS)


def test_the_patterns_of_conditions_admit_every_reason() -> None:
    conditions = object_schema(KINDS["KVTierPolicy"])["properties"]["status"]["properties"]["conditions"]
    pattern = conditions["items"]["properties"]["reason"]["pattern"]
    assert all(re.fullmatch(pattern, reason) for reason in Reason)


@pytest.mark.parametrize("case", GOOD, ids=lambda c: c.name)
def test_defaults_of_the_schema_are_those_of_the_types(case: GoodCase) -> None:
    model, _ = parse(KINDS[case.kind], case.obj)
    filled, findings = parse(KINDS[case.kind], apply_defaults(case.obj, object_schema(KINDS[case.kind])))
    assert findings == ()
    assert filled == model


def test_a_default_object_is_written_out_in_full() -> None:
    router = structural_schema(AgenticServingStackSpec)["properties"]["router"]
    assert router["default"]["mode"] == "Standalone"
    assert (
        router["default"]["endpointPicker"]["release"]
        == router["properties"]["endpointPicker"]["default"]["release"]
    )


@infos
def test_statuses_set_nothing_by_themselves(info: KindInfo) -> None:
    status = object_schema(info.model)["properties"]["status"]
    assert [path for path, node in nodes(status) if "default" in node] == []


@pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_we_write_fits_the_schema(model: type[ApiObject], data: st.DataObject) -> None:
    found, _ = parse(model, data.draw(legal_objects(model)))
    assert found is not None
    jsonschema.validate(dump(found), object_schema(model))


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_are_good_and_fit_the_editor_schema(kind: str) -> None:
    obj = yaml.safe_load(EXAMPLES[kind])
    assert parse(KINDS[kind], obj, unknown="Error")[1] == ()
    jsonschema.validate(obj, editor_schema(KINDS[kind]))


def test_the_editor_schema_underlines_a_misspelt_field() -> None:
    obj = yaml.safe_load(EXAMPLES["AgenticServingStack"])
    obj["spec"]["modle"] = {}
    with pytest.raises(jsonschema.ValidationError, match="'modle' was unexpected"):
        jsonschema.validate(obj, editor_schema(KINDS["AgenticServingStack"]))


class Recursive(ApiModel):
    child: "Recursive | None" = None


class Union(ApiModel):
    value: int | str


class Map(ApiModel):
    values: dict[str, Any]


class Multiple(ApiModel):
    value: Annotated[int, Field(multiple_of=2)]


class Inner(ApiModel):
    size: Annotated[int, Field(ge=0, le=9)] = 1


class OtherDefault(ApiModel):
    inner: Inner = Inner(size=2)


@pytest.mark.parametrize("model", [Recursive, Union, Map, Multiple, OtherDefault], ids=lambda m: m.__name__)
def test_what_has_no_structural_counterpart_fails_the_build(model: type[ApiModel]) -> None:
    with pytest.raises(Bug):
        structural_schema(model)


class Ruled(ApiModel):
    """A type with a rule."""

    first: Annotated[int, Field(ge=0, le=9)]
    """The first."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(cel="self.first > 1", holds=lambda s: s.first > 1, message="must grow", field_path=".first"),
    )


class Ruler(ApiModel):
    ruled: Ruled | None = None
    """What the field says wins."""


def test_rules_and_descriptions_reach_the_schema() -> None:
    assert structural_schema(Ruler)["properties"]["ruled"] == {
        "description": "What the field says wins.",
        "type": "object",
        "required": ["first"],
        "x-kubernetes-validations": [
            {"rule": "self.first > 1", "message": "must grow", "fieldPath": ".first"}
        ],
        "properties": {
            "first": {"description": "The first.", "type": "integer", "maximum": 9, "minimum": 0},
        },
    }


def test_apply_defaults_leaves_its_input_alone() -> None:
    obj: dict[str, Any] = {"topology": {"aggregated": {}}}
    before = copy.deepcopy(obj)
    filled = apply_defaults(obj, structural_schema(AgenticServingStackSpec))
    assert obj == before
    assert filled["topology"]["aggregated"]["replicas"] == 1
