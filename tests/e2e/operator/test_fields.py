"""Every field of the three kinds, on the real control plane: it has its effect or is refused, and leaves no trace.

Check 07 (each spec field mutated has an effect or is rejected; removing it removes it from children) and check 05
(A to B and back equals A; A to B equals a fresh B). All cases go through the same phases together, so that the whole
table costs a minute; each test then looks at what its case came to. No pods: a quota of 0 keeps it about objects.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from agentic_serving import names
from agentic_serving.assets import crds_dir
from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient, ApiError, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator.field_cases import BASES, CASES, REFUSED_BY_SERVER, Case
from tests.e2e.operator_process import OperatorProcess
from tests.e2e.world import CHILD_KINDS, World, condition, edited, essence, fresh_world, identities, observed

#: Pods never come, so nobody needs to ask again and again why.
SETTINGS = {"pod_report_after_s": 600}
_ALL = [(kind, case) for kind, cases in CASES.items() for case in cases]
_PHASE_TIMEOUT_S = 120
each_case = pytest.mark.parametrize(
    ("number", "case"),
    [pytest.param(i, case, id=f"{kind}-{case}") for i, (kind, case) in enumerate(_ALL)],
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was there after a phase, of one case. The stack is called `chat` in it, whatever its name was."""

    wishes: Mapping[str, Manifest]
    ids: Mapping[str, tuple[str, int]]
    stack: Manifest
    edited: Manifest


@dataclass(slots=True)
class Table:
    """The outcome of all cases by phase: before (A), after (B), back (A), fresh (B)."""

    world: World
    phases: dict[str, list[Snapshot]] = field(default_factory=dict)


def name_of(number: int) -> str:
    return f"f{number:03d}"


def base_of(number: int, case: Case) -> list[Manifest]:
    return BASES[case.base](name_of(number))


def edit_of(number: int, case: Case) -> Manifest:
    return edited(base_of(number, case)[0], case.edits)


@pytest.fixture(scope="module")
def table(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> Iterator[Table]:
    """Take every case from A to B, back, away, and to B afresh."""
    with fresh_world(plane, api, operator) as world:
        yield _through_all_phases(world)


def _through_all_phases(world: World) -> Table:
    quota = {"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}}
    world.api.call("POST", f"/api/v1/namespaces/{world.namespace}/resourcequotas", quota)
    run = Table(world)
    bases = [base_of(i, case) for i, (_, case) in enumerate(_ALL)]
    edits = [edit_of(i, case) for i, (_, case) in enumerate(_ALL)]
    _phase(run, "before", [obj for base in bases for obj in base])
    _phase(run, "after", edits)
    _phase(run, "back", [base[0] for base in bases])
    _delete_all(world)
    _phase(run, "fresh", [*edits, *(obj for base in bases for obj in base[1:])])
    return run


def _phase(run: Table, name: str, objects: list[Manifest]) -> None:
    world = run.world
    world.apply(*objects)
    stacks = [name_of(i) for i in range(len(_ALL))]
    world.api.wait_all(kinds.STACK, world.namespace, stacks, observed, timeout_s=_PHASE_TIMEOUT_S)
    world.settled()  # edits of programs and policies do not show in the stack's generation
    run.phases[name] = _snapshots(world)


def _snapshots(world: World) -> list[Snapshot]:
    """One list per kind, shared out among the cases."""
    children: dict[str, dict[str, Manifest]] = {name_of(i): {} for i in range(len(_ALL))}
    for kind in CHILD_KINDS:
        for item in world.api.list(kind, world.namespace, selector=names.STACK_LABEL):
            owner = item["metadata"]["labels"][names.STACK_LABEL]
            children[owner][f"{kind.kind}/{item['metadata']['name']}"] = item
    own = {
        (kind.kind, obj["metadata"]["name"]): obj
        for kind in (kinds.STACK, kinds.PROGRAM, kinds.POLICY)
        for obj in world.api.list(kind, world.namespace)
    }
    found = []
    for i, (target_kind, case) in enumerate(_ALL):
        stack = own[kinds.STACK.kind, name_of(i)]
        target = own[target_kind, base_of(i, case)[0]["metadata"]["name"]]
        found.append(_snapshot(children[name_of(i)], stack, target))
    return found


def _snapshot(children: Mapping[str, Manifest], stack: Manifest, target: Manifest) -> Snapshot:
    name, uid = stack["metadata"]["name"], stack["metadata"]["uid"]

    def renamed(value: Manifest) -> Manifest:
        alike: Manifest = json.loads(json.dumps(value).replace(name, "chat"))
        return alike

    wishes = {key: essence(child, uid=uid) for key, child in children.items()}
    return Snapshot(renamed(wishes), identities(children), renamed(stack), renamed(target))


def _delete_all(world: World) -> None:
    for kind in (kinds.STACK, kinds.PROGRAM, kinds.POLICY):
        world.api.call("DELETE", kind.collection_path(world.namespace))
    for kind in CHILD_KINDS:
        for item in world.api.list(kind, world.namespace, selector=names.STACK_LABEL):
            world.api.wait_gone(kind, world.namespace, item["metadata"]["name"], timeout_s=_PHASE_TIMEOUT_S)


@each_case
def test_check_07_a_field_has_its_effect_or_is_refused(table: Table, number: int, case: Case) -> None:
    """Check 07."""
    before, after = table.phases["before"][number], table.phases["after"][number]
    if case.refused is not None:
        _assert_refused(before, after, case.refused)
        return
    assert condition(after.stack, "Accepted")["status"] == "True", condition(after.stack, "Accepted")[
        "message"
    ]
    assert _differing(before.wishes, after.wishes) == case.changes
    old, new = (json.dumps([s.wishes.get(key) for key in sorted(case.changes)]) for s in (before, after))
    if case.shows:
        assert case.shows in new
        assert case.shows not in old
    if case.hides:
        assert case.hides in old
        assert case.hides not in new
    _assert_reported(before, after, case)


@each_case
def test_check_05_back_to_where_it_was(table: Table, number: int, case: Case) -> None:
    """Check 05, A to B to A: nothing of B stays behind."""
    assert table.phases["back"][number].wishes == table.phases["before"][number].wishes


@each_case
def test_check_05_an_edit_equals_a_fresh_object(table: Table, number: int, case: Case) -> None:
    """Check 05, A to B equals B: the way there leaves no trace."""
    fresh = table.phases["fresh"][number]
    if case.refused is not None:
        assert not fresh.wishes, "objects were made for a stack that is not accepted"
        return
    assert table.phases["after"][number].wishes == fresh.wishes


def test_check_07_every_field_has_a_case() -> None:
    """A new field of the API needs a case here before it can be merged."""
    cases = {f"{kind} {case.path}" for kind, case in _ALL} | set(REFUSED_BY_SERVER)
    assert cases == {f"{kind} {path}" for kind in CASES for path in leaves(kind)}


@pytest.mark.parametrize("field_path", REFUSED_BY_SERVER)
def test_check_07_the_server_refuses_what_has_one_value(table: Table, field_path: str) -> None:
    base, edits, message = REFUSED_BY_SERVER[field_path]
    obj = edited(BASES[base]("refused")[0], edits)
    with pytest.raises(ApiError) as refusal:
        table.world.apply(obj)
    assert message in refusal.value.message


def leaves(kind: str) -> Iterator[str]:
    """Paths of all fields of a spec that hold values: `spec.engine.args[]`, `...nodeSelector{}`."""
    for path in crds_dir().glob(f"*.{names.GROUP}.yaml"):
        crd = yaml.safe_load(path.read_text(encoding="utf-8"))
        if crd["spec"]["names"]["kind"] == kind:
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
            yield from _leaves(schema["properties"]["spec"], "spec")


def _leaves(schema: Mapping[str, Any], path: str) -> Iterator[str]:
    if "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from _leaves(inner, f"{path}.{name}")
    elif schema.get("type") == "array":
        yield from _leaves(schema["items"], f"{path}[]")
    else:
        yield path + ("{}" if "additionalProperties" in schema else "")


def _assert_refused(before: Snapshot, after: Snapshot, refused: tuple[str, str]) -> None:
    accepted = condition(after.stack, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", refused[0]), accepted["message"]
    assert refused[1] in accepted["message"]
    assert after.ids == before.ids, "a spec that is not accepted touched what was running"


def _assert_reported(before: Snapshot, after: Snapshot, case: Case) -> None:
    if case.status:
        assert case.status in json.dumps(after.edited["status"])
        assert case.status not in json.dumps(before.edited["status"])
    if case.resolves:
        old, new = (s.stack["status"]["resolved"].get(case.resolves) for s in (before, after))
        assert old != new
    # What has no effect on any child must at least be told.
    assert case.changes or case.status or case.resolves


def _differing(a: Mapping[str, Manifest], b: Mapping[str, Manifest]) -> frozenset[str]:
    return frozenset(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
