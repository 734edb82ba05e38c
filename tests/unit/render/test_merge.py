"""render.merge: by name, by hand, and the laws of a patch."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.render.merge import merge_pod_template

BASE: dict[str, Any] = {
    "spec": {
        "nodeSelector": {"gpu": "h200"},
        "containers": [
            {"name": "engine", "args": ["a"], "env": [{"name": "A", "value": "1"}]},
            {"name": "other"},
        ],
        "tolerations": [{"key": "gpu"}],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    }
}


@pytest.mark.parametrize(
    ("patch", "path", "want"),
    [
        pytest.param(
            {"nodeSelector": {"zone": "b"}}, ("nodeSelector",), {"gpu": "h200", "zone": "b"}, id="map"
        ),
        pytest.param({"nodeSelector": {"gpu": None}}, ("nodeSelector",), {}, id="null-removes"),
        pytest.param({"priorityClassName": "high"}, ("priorityClassName",), "high", id="new-field"),
        pytest.param(
            {"tolerations": [{"key": "gpu"}, {"key": "spot"}]},
            ("tolerations",),
            [{"key": "gpu"}, {"key": "spot"}],
            id="tolerations-grow",
        ),
        pytest.param(
            {"volumes": [{"name": "extra", "emptyDir": {}}]},
            ("volumes",),
            [{"name": "cache", "emptyDir": {}}, {"name": "extra", "emptyDir": {}}],
            id="named-list-grows",
        ),
        pytest.param(
            {"containers": [{"name": "engine", "env": [{"name": "B", "value": "2"}]}]},
            ("containers",),
            [
                {
                    "name": "engine",
                    "args": ["a"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                },
                {"name": "other"},
            ],
            id="container-by-name",
        ),
        pytest.param(
            {"containers": [{"name": "engine", "args": ["b"]}]},
            ("containers",),
            [{"name": "engine", "args": ["b"], "env": [{"name": "A", "value": "1"}]}, {"name": "other"}],
            id="plain-list-replaced",
        ),
    ],
)
def test_a_patch_is_merged(patch: dict[str, Any], path: tuple[str, ...], want: object) -> None:
    merged = merge_pod_template(BASE, {"spec": patch})
    value: Any = merged["spec"]
    for key in path:
        value = value[key]
    assert value == want


NAMED = st.fixed_dictionaries(
    {"name": st.sampled_from("abcd")}, optional={"value": st.text(max_size=3), "image": st.text(max_size=3)}
)
SPEC = st.fixed_dictionaries(
    {},
    optional={
        "containers": st.lists(NAMED, max_size=4, unique_by=lambda item: item["name"]),
        "volumes": st.lists(NAMED, max_size=4, unique_by=lambda item: item["name"]),
        "tolerations": st.lists(NAMED, max_size=3, unique_by=repr),
        "nodeSelector": st.dictionaries(st.sampled_from("xyz"), st.text(max_size=3)),
        "schedulerName": st.text(max_size=3),
    },
)
TEMPLATE = st.fixed_dictionaries({}, optional={"spec": SPEC})


@given(TEMPLATE, TEMPLATE)
def test_merging_twice_is_merging_once_and_changes_no_argument(
    base: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy((base, patch))
    once = merge_pod_template(base, patch)
    assert merge_pod_template(once, patch) == once
    assert (base, patch) == before


@given(TEMPLATE)
def test_an_empty_patch_and_an_empty_base_are_neutral(template: dict[str, Any]) -> None:
    assert merge_pod_template(template, {}) == template
    assert merge_pod_template({}, template) == template


@given(TEMPLATE, TEMPLATE)
def test_nothing_named_is_lost(base: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge_pod_template(base, patch)
    for key in ("containers", "volumes"):
        want = {c["name"] for t in (base, patch) for c in t.get("spec", {}).get(key, [])}
        assert {c["name"] for c in merged.get("spec", {}).get(key, [])} == want
