"""api.validate: the table of good and bad objects, what the server does on its own, and no input that raises."""

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentic_serving.api.base import ApiModel, ApiObject
from agentic_serving.api.crd import object_schema
from agentic_serving.api.findings import errors
from agentic_serving.api.schema import nodes
from agentic_serving.api.stack import AgenticServingStack, EnvVar, PodTemplates, Pool
from agentic_serving.api.validate import KINDS, cross_field_findings, dump, parse, unknown_fields
from tests.crd_cases.cases import BAD, GOOD, BadCase, GoodCase
from tests.crd_cases.strategies import hostile_objects, json_values, legal_objects

kinds = pytest.mark.parametrize("model", KINDS.values(), ids=KINDS)
# Objects of the stack's schema are large; building them is the slow part.
slow = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])

STACK = next(case.obj for case in GOOD if case.kind == "AgenticServingStack")


@pytest.mark.parametrize("case", GOOD, ids=lambda c: c.name)
def test_good_objects_are_accepted(case: GoodCase) -> None:
    model, findings = parse(KINDS[case.kind], case.obj)
    assert model is not None
    assert findings == ()


@pytest.mark.parametrize("case", BAD, ids=lambda c: c.name)
def test_bad_objects_are_refused_with_path_and_message(case: BadCase) -> None:
    _, findings = parse(KINDS[case.kind], case.obj)
    assert {f.path: f.message for f in errors(findings)} == case.findings


@kinds
def test_every_rule_between_fields_has_a_bad_object(model: type[ApiObject]) -> None:
    rules = {
        r["message"] for _, n in nodes(object_schema(model)) for r in n.get("x-kubernetes-validations", ())
    }
    assert rules == rules & {message for case in BAD for message in case.findings.values()}


def changed(path: str, value: object) -> dict[str, Any]:
    obj = copy.deepcopy(STACK)
    *parents, last = path.split(".")
    at = obj
    for part in parents:
        at = at[part]
    at[last] = value
    return obj


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("spec.modle", "is not a field of the API; did you mean model?"),
        ("spec.model.context_length", "is not a field of the API; did you mean contextLength?"),
        ("spec.model.Name", "is not a field of the API; did you mean name?"),
        ("spec.topology.aggregated.zebra", "is not a field of the API"),
        ("Status", "is not a field of the API; did you mean status?"),
    ],
)
def test_an_unknown_field_warns_with_the_nearest_name_and_has_no_effect(path: str, message: str) -> None:
    obj = changed(path, 9999)
    model, (finding,) = parse(AgenticServingStack, obj)
    assert model == parse(AgenticServingStack, STACK)[0]
    assert (finding.path, finding.message, finding.severity) == (path, message, "Warning")
    assert unknown_fields(AgenticServingStack, obj) == (finding,)


def test_an_unknown_field_is_an_error_where_the_caller_says_so() -> None:
    _, (finding,) = parse(AgenticServingStack, changed("spec.modle", 1), unknown="Error")
    assert finding.severity == "Error"


def test_fields_of_pod_templates_and_metadata_are_not_ours_to_know() -> None:
    obj = changed("spec.podTemplate", {"aggregated": {"spec": {"anything": {"goes": None}}}})
    obj["metadata"] |= {"managedFields": [{"manager": "x"}], "generateName": "x", "labels": None}
    model, findings = parse(AgenticServingStack, obj)
    assert findings == ()
    assert model is not None
    assert model.spec.pod_template.aggregated == {"spec": {"anything": {"goes": None}}}


@pytest.mark.parametrize("field", ["kind", "apiVersion"])
def test_an_object_of_another_kind_is_not_read(field: str) -> None:
    model, (finding,) = parse(AgenticServingStack, changed(field, "Pod"))
    assert model is None
    assert finding.path == field


def test_all_errors_are_found_at_once() -> None:
    obj = changed("spec.engine", {"type": "x", "args": [1]})
    obj["spec"]["router"] = {"mode": "y", "replicas": -1}
    _, findings = parse(AgenticServingStack, obj)
    assert [f.path for f in findings] == [
        "spec.engine.type",
        "spec.engine.args[0]",
        "spec.router.mode",
        "spec.router.replicas",
    ]


def test_a_status_that_does_not_fit_is_dropped_with_a_warning() -> None:
    obj = changed("status", {"conditions": [{"type": "Ready"}], "endpoint": "http://x"})
    model, findings = parse(AgenticServingStack, obj)
    assert model is not None
    assert model.status.endpoint is None
    assert findings
    assert errors(findings) == ()


def test_a_bad_status_does_not_hide_a_bad_spec() -> None:
    obj = changed("status", 7)
    obj["spec"]["topology"] = {}
    model, findings = parse(AgenticServingStack, obj)
    assert model is not None
    assert [f.path for f in errors(findings)] == ["spec.topology"]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "obj",
    [
        None,
        [],
        "text",
        {},
        {"metadata": 1, "spec": []},
        changed("spec.podTemplate", {"aggregated": nested(100_000)}),
        changed("spec.podTemplate", {"aggregated": nested(500)}),
        changed("spec.model.contextLength", 10**5000),
        changed("spec.podTemplate", {"aggregated": {"a": 10**5000}}),
        changed("spec.model.name", "\ud800"),
        changed("spec.model.name", date(2026, 1, 1)),
        changed("spec.topology.aggregated.replicas", float("inf")),
        changed("spec.topology.aggregated.replicas", float("nan")),
    ],
    ids=lambda o: str(o)[:20] if not isinstance(o, dict) else f"object {len(o)}",
)
def test_what_no_api_server_sends_is_a_finding(obj: object) -> None:
    model, findings = parse(AgenticServingStack, obj)
    assert model is None
    assert errors(findings)


@kinds
@given(obj=json_values)
def test_any_json_is_parsed_or_refused(model: type[ApiObject], obj: object) -> None:
    for value in (
        obj,
        {"metadata": {"name": "x"}, "spec": obj},
        {"metadata": obj, "spec": obj, "status": obj},
    ):
        found, findings = parse(model, value)
        assert found is not None or errors(findings)


@kinds
@given(data=st.data())
@slow
def test_hostile_parts_are_parsed_or_refused_by_path(model: type[ApiObject], data: st.DataObject) -> None:
    obj = data.draw(hostile_objects(model))
    found, findings = parse(model, obj)
    assert found is not None or errors(findings)
    assert all(f.path and f.message for f in findings)


@kinds
@given(data=st.data())
@slow
def test_what_the_schema_allows_fits_the_types(model: type[ApiObject], data: st.DataObject) -> None:
    obj = data.draw(legal_objects(model))
    # Without the rules between fields, which the schema's form says nothing about.
    found = model.model_validate_json(json.dumps(obj), strict=True)
    again = model.model_validate_json(json.dumps(dump(found)), strict=True)
    assert again == found


class Nested(ApiModel):
    pool: Pool = Pool()
    optional: Pool | None = None
    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    text: str = ""


@pytest.mark.parametrize(
    ("model", "plain"),
    [
        (Nested(), {"pool": {"replicas": 1, "parallelism": dump(Pool().parallelism)}}),
        (EnvVar(name="A", value=""), {"name": "A", "value": ""}),
        (PodTemplates(aggregated={}), {"aggregated": {}}),
        (PodTemplates(), {}),
        (
            PodTemplates(router={"spec": {"a": None, "b": [], "c": ""}}),
            {"router": {"spec": {"a": None, "b": [], "c": ""}}},
        ),
    ],
    ids=["empty by default", "set to empty", "template set to empty", "nothing", "opaque"],
)
def test_dump_leaves_out_what_is_empty_by_default_only(model: ApiModel, plain: dict[str, Any]) -> None:
    assert dump(model) == plain


def test_rules_inside_lists_are_found_by_index() -> None:
    obj = changed("spec.engine", {"env": [{"name": "A", "value": "x"}, {"name": "B"}]})
    model, _ = parse(AgenticServingStack, obj)
    assert model is not None
    (finding,) = cross_field_findings(model)
    assert finding.path == "spec.engine.env[1]"
