"""controller.references: who is woken by whom."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.keys import Key, owner_key
from agentic_serving.controller.references import References, references_of
from tests.unit.controller.world import NS, policy, program, stack

STACK = Key("AgenticServingStack", NS, "chat")
POLICY = Key("KVTierPolicy", NS, "host")
PROGRAM = Key("AgentProgram", NS, "coding")


@pytest.mark.parametrize(
    ("key", "obj", "expected"),
    [
        (STACK, stack(policy="host"), {POLICY}),
        (STACK, stack(), set()),
        (PROGRAM, program(stacks=("chat", "chat")), {STACK}),
        (POLICY, policy(), set()),
        (STACK, {"spec": {"kvTierPolicyRef": "host"}}, set()),
        (PROGRAM, {"spec": {"agents": [7, {"stackRef": {"name": 3}}]}}, set()),
        (PROGRAM, {"spec": []}, set()),
        (PROGRAM, {}, set()),
    ],
    ids=["policy", "none", "twice", "leaf", "text-for-map", "wrong-types", "list-for-map", "empty"],
)
def test_references_of_any_shape(key: Key, obj: Manifest, expected: set[Key]) -> None:
    assert references_of(key, obj) == expected


def test_a_changed_reference_names_the_old_and_the_new_target() -> None:
    refs = References()
    refs.update(STACK, [POLICY])
    other = Key("KVTierPolicy", NS, "other")
    assert refs.update(STACK, [other]) == {POLICY, other}
    assert refs.referrers(POLICY) == []
    assert refs.referrers(other) == [STACK]
    assert refs.remove(STACK) == {other}
    assert refs.referrers(other) == []


names = st.sampled_from("abcd")


@given(st.lists(st.tuples(names, st.frozensets(names, max_size=3))))
def test_both_directions_agree(updates: list[tuple[str, frozenset[str]]]) -> None:
    refs, expected = References(), {}
    for source, targets in updates:
        refs.update(Key("s", NS, source), [Key("t", NS, t) for t in targets])
        expected[source] = targets
    for target in "abcd":
        referrers = {k.name for k in refs.referrers(Key("t", NS, target))}
        assert referrers == {s for s, targets in expected.items() if target in targets}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (
            {"apiVersion": "agentic-serving.dev/v1alpha1", "kind": "AgenticServingStack", "name": "chat"},
            STACK,
        ),
        ({"apiVersion": "agentic-serving.dev/v9", "kind": "AgenticServingStack", "name": "chat"}, STACK),
        ({"apiVersion": "apps/v1", "kind": "AgenticServingStack", "name": "chat"}, None),
        ({"apiVersion": "agentic-serving.dev/v1alpha1", "kind": "Other", "name": "chat"}, None),
    ],
    ids=["ours", "newer-version", "other-group", "other-kind"],
)
def test_the_owner_of_a_child(reference: Manifest, expected: Key | None) -> None:
    child = {
        "metadata": {"namespace": NS, "name": "x", "ownerReferences": [{**reference, "controller": True}]}
    }
    assert owner_key(child) == expected


def test_an_owner_that_does_not_control_is_nobody() -> None:
    reference = {"apiVersion": "agentic-serving.dev/v1alpha1", "kind": "AgenticServingStack", "name": "chat"}
    assert owner_key({"metadata": {"name": "x", "ownerReferences": [reference]}}) is None
    assert owner_key({"metadata": {"name": "x"}}) is None
