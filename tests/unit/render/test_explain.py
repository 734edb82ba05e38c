"""render.explain: nothing is generated without a reason and a source."""

import pytest

from agentic_serving.render.explain import explain
from agentic_serving.render.plan import render
from tests.unit.render.builders import EXAMPLE_NAMES, container, example_inputs

ALL = pytest.mark.parametrize("example", EXAMPLE_NAMES)


@ALL
def test_every_object_option_and_variable_has_a_rule(example: str) -> None:
    plan = render(example_inputs(example))
    explained = explain(plan)
    assert {e.object for e in explained} == {f"{m.key[1]}/{m.key[2]}" for m in plan.manifests}
    for role in plan.roles[:-1]:
        items = {e.item for e in explained if e.object == f"Deployment/{role.deployment}"}
        engine = container(plan, role.deployment, "engine")
        own = set(example_inputs(example).stack.spec.engine.args)
        assert set(engine["args"][1:]) - own <= items
        assert {f"env {variable['name']}" for variable in engine["env"]} <= items


@ALL
def test_rules_give_reason_and_source(example: str) -> None:
    for one in explain(render(example_inputs(example))):
        assert one.rule.id.count("/") == 1, one.rule.id
        assert len(one.rule.reason) > 10
        assert one.rule.source
