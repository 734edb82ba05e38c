"""examples/: strictly valid, accepted, and complete; each as a user would apply it."""

from pathlib import Path

import jsonschema
import pytest

from agentic_serving.api.crd import crd
from agentic_serving.api.findings import errors
from agentic_serving.api.validate import KINDS, parse
from agentic_serving.capacity.accelerator import load_accelerators
from agentic_serving.engines.options import check
from agentic_serving.engines.versions import resolve
from agentic_serving.render.plan import render
from agentic_serving.render.releases import release_names
from tests.unit.render.builders import EXAMPLE_NAMES, EXAMPLES, container, example_inputs, objects

ALL = pytest.mark.parametrize("example", EXAMPLE_NAMES)


@ALL
def test_every_object_is_strictly_valid(example: str) -> None:
    for body in objects(example):
        schema = crd(KINDS[body["kind"]])["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        jsonschema.validate(body, schema)
        _, findings = parse(KINDS[body["kind"]], body, unknown="Error")
        assert findings == ()


@ALL
def test_it_is_accepted(example: str) -> None:
    plan = render(example_inputs(example))
    assert errors(plan.findings) == ()
    assert all(outcome.accepted for outcome in plan.programs)
    assert len(plan.programs) == sum(body["kind"] == "AgentProgram" for body in objects(example))


@ALL
def test_every_engine_argument_is_one_that_the_engine_knows(example: str) -> None:
    inputs = example_inputs(example)
    plan = render(inputs)
    for role in plan.roles[:-1]:
        args = container(plan, role.deployment, "engine")["args"]
        table = resolve(plan.resolved.engine_version).table
        assert table is not None
        assert check(args[1:], table) == []


@ALL
def test_its_kv_tiers_are_carried_out(example: str) -> None:
    """An example that asks for what its own stack cannot do would teach the wrong thing."""
    plan = render(example_inputs(example))
    tiers = [c for c in plan.capabilities if c.intent.endswith("Tier")]
    assert [c for c in tiers if c.state == "Unsupported"] == []


def test_examples_cover_every_preset_and_release() -> None:
    stacks = [example_inputs(example).stack.spec for example in EXAMPLE_NAMES]
    assert {spec.accelerator.preset for spec in stacks} == set(load_accelerators())
    assert {spec.router.endpoint_picker.release for spec in stacks} == set(release_names())


@pytest.mark.parametrize("file", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_file_says_what_it_is_for(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_every_folder_of_examples_is_tested() -> None:
    assert len(EXAMPLE_NAMES) == 6
