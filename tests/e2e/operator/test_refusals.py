"""Specs that the schema accepts and the operator refuses: a stable reason, what to change, and nothing touched.

Check 6 of docs/checks.md: an invalid spec becomes a condition, previous children stay, and fixing it recovers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import ApiClient, Manifest
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.operator_process import OperatorProcess
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import World, condition, edited, fresh_world, identities, reports


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An edit of a stack that runs, and what the user must be told.

    Attributes:
        says: parts of the message: the field's path, what is wrong, what to write instead.
        waits: something may come that makes it right, so the stack is not stalled.
    """

    name: str
    edits: Mapping[str, object]
    reason: str
    says: tuple[str, ...]
    base: str = "aggregated"
    waits: bool = False

    def __str__(self) -> str:
        return self.name


_ARGS = "spec.engine.args"
_TEMPLATE = "spec.podTemplate.aggregated"
REFUSALS = [
    Refusal(
        name="unknown-preset",
        edits={"spec.accelerator.preset": "nvidia-h20x"},
        reason="UnknownPreset",
        says=("spec.accelerator.preset", "nvidia-h20x", "nvidia-h200"),
    ),
    Refusal(
        name="missing-policy",
        edits={"spec.kvTierPolicyRef": {"name": "absent"}},
        reason="PolicyNotFound",
        says=("KVTierPolicy absent does not exist", "create it"),
        waits=True,
    ),
    Refusal(
        name="model-does-not-fit",
        edits={"spec.accelerator.overrides.memory": "40Gi"},
        reason="ModelDoesNotFit",
        says=("spec.topology.aggregated", "Qwen/Qwen3-32B", "set tensor to 4"),
    ),
    Refusal(
        name="wider-than-a-node",
        edits={"spec.topology.aggregated.parallelism.tensor": 16},
        reason="TooManyDevices",
        says=(
            "spec.topology.aggregated.parallelism",
            "16 devices",
            "lower the parallelism and raise replicas",
        ),
    ),
    Refusal(
        name="argument-of-the-operator",
        edits={_ARGS: ["--max-num-batched-tokens=4096", "--served-model-name=mine"]},
        reason="ArgumentOwned",
        says=("spec.engine.args[1]", "--served-model-name", "spec.model.name"),
    ),
    Refusal(
        name="argument-that-does-not-exist",
        edits={_ARGS: ["--max-model-length=4096"]},
        reason="UnknownArgument",
        says=("spec.engine.args[0]", "--max-model-length"),
    ),
    Refusal(
        name="variable-of-the-operator",
        edits={"spec.engine.env": [{"name": "HF_HOME", "value": "/tmp"}]},
        reason="EnvironmentOwned",
        says=("spec.engine.env[0]", "HF_HOME"),
    ),
    Refusal(
        name="unknown-release",
        edits={"spec.router.endpointPicker.release": "llm-d-9.9"},
        reason="UnknownRelease",
        says=("spec.router.endpointPicker.release", "llm-d-9.9", "llm-d-0.10"),
    ),
    Refusal(
        name="split-on-a-release-without-it",
        base="disaggregated",
        edits={"spec.router.endpointPicker.release": "gie-1.5"},
        reason="DisaggregationUnsupported",
        says=("spec.topology.disaggregated", "gie-1.5", "use topology.aggregated"),
    ),
    Refusal(
        name="precise-on-a-release-without-it",
        edits={"spec.router": {"endpointPicker": {"release": "gie-1.5"}, "prefixRouting": "Precise"}},
        reason="PrecisePrefixRoutingUnsupported",
        says=("spec.router.prefixRouting", "gie-1.5", "use Approximate"),
    ),
    Refusal(
        name="two-routers-that-do-not-share",
        edits={"spec.router.replicas": 2, "spec.programScheduling": {"mode": "Off"}},
        reason="PickerStatePerPod",
        says=("spec.router.replicas", "prefixRouting: Precise"),
    ),
    Refusal(
        name="tier-that-the-engine-lacks",
        base="small",
        edits={"spec.kvTierPolicyRef": {"name": "strict"}},
        reason="TierUnsupported",
        says=("spec.kvTierPolicyRef", "onUnsupported is Reject", "change the policy or the stack"),
    ),
    Refusal(
        name="template-of-owned-labels",
        edits={_TEMPLATE: {"metadata": {"labels": {"agentic-serving.dev/role": "decode"}}}},
        reason="PodTemplateOwned",
        says=(f"{_TEMPLATE}.metadata.labels", "agentic-serving.dev/role", "remove it"),
    ),
    Refusal(
        name="template-of-owned-arguments",
        edits={_TEMPLATE: {"spec": {"containers": [{"name": "engine", "args": ["--x"]}]}}},
        reason="PodTemplateOwned",
        says=(f"{_TEMPLATE}.spec.containers[0].args", "use spec.engine.args"),
    ),
    Refusal(
        name="template-of-an-owned-grace-period",
        edits={_TEMPLATE: {"spec": {"terminationGracePeriodSeconds": 1}}},
        reason="PodTemplateOwned",
        says=(f"{_TEMPLATE}.spec.terminationGracePeriodSeconds", "spec.disruption.drainTimeout"),
    ),
    Refusal(
        name="template-of-the-wrong-shape",
        edits={_TEMPLATE: {"spec": {"containers": "engine"}}},
        reason="InvalidSpec",
        says=(f"{_TEMPLATE}.spec.containers", "write a list here"),
    ),
]
_SMALL = {"name": "small", "source": {"huggingFace": {"repository": "Qwen/Qwen3-0.6B"}}}
BASES: Mapping[str, Callable[[str], Manifest]] = {
    "aggregated": aggregated,
    "disaggregated": disaggregated,
    "small": lambda name: aggregated(name, accelerator={"preset": "cpu"}, model=_SMALL),
}


@pytest.fixture(scope="module")
def running(plane: ControlPlane, api: ApiClient, operator: OperatorProcess) -> Iterator[World]:
    """A Ready stack for each refusal, called as it is."""
    with fresh_world(plane, api, operator) as made:
        made.apply(policy("strict", onUnsupported="Reject"))
        made.apply(*(BASES[refusal.base](refusal.name) for refusal in REFUSALS))
        names = [refusal.name for refusal in REFUSALS]
        made.api.wait_all(kinds.STACK, made.namespace, names, reports("Ready", "True"))
        yield made


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_check_06_refused_told_untouched_and_recovered(running: World, refusal: Refusal) -> None:
    """Check 6, and `kubectl describe` alone tells what to write instead."""
    good, name = BASES[refusal.base](refusal.name), refusal.name
    before = identities(running.children(name))
    running.apply(edited(good, refusal.edits))
    stack = running.wait(kinds.STACK, name, reports("Accepted", "False", refusal.reason))
    _assert_told(running, stack, refusal)
    assert identities(running.children(name)) == before
    running.apply(good)
    running.ready(name)
    assert identities(running.children(name)) == before


def _assert_told(world: World, stack: Manifest, refusal: Refusal) -> None:
    assert condition(stack, "Ready")["status"] == "False"
    assert condition(stack, "Stalled")["status"] == ("False" if refusal.waits else "True")
    described = world.kubectl("describe", "astack", refusal.name)
    for part in (*refusal.says, refusal.reason, "what ran before keeps running"):
        assert part in described
    assert {"Accepted", "Applied"} <= {c["type"] for c in stack["status"]["conditions"]}
    # The engine still serves, and the status does not pretend otherwise.
    assert condition(stack, "Available")["status"] == "True"


def test_check_06_a_stack_that_was_never_right_makes_nothing(world: World) -> None:
    """Check 6 from the start: all that is wrong is told at once, and the first right spec is carried out."""
    wrong = {"spec.accelerator.preset": "abacus", "spec.router.endpointPicker.release": "none-1"}
    world.apply(edited(aggregated("chat"), wrong))
    message = world.refused("chat")
    assert "spec.accelerator.preset" in message
    assert "spec.router.endpointPicker.release" in message
    assert world.children("chat") == {}
    world.apply(aggregated("chat"))
    world.ready("chat")


def test_check_06_a_program_that_cannot_be_matched_harms_no_other(world: World) -> None:
    """Check 6 for programs: refused with path and reason; the stack and the other programs serve."""
    headers = [{"name": "x-app", "type": "RegularExpression", "value": "(?=ahead)"}]
    world.apply(aggregated("chat"), program("fine"), program("broken", match={"headers": headers}))
    world.ready("chat")
    world.ready("fine", kinds.PROGRAM)
    message = world.refused("broken", kind=kinds.PROGRAM)
    assert "RE2" in message
    assert "header" in world.kubectl("describe", "aprog", "broken")
    assert "InferenceObjective/chat.broken" not in world.children("chat")
    world.apply(program("broken", match={"headers": [{"name": "x-app", "value": "mended"}]}))
    world.ready("broken", kinds.PROGRAM)


def test_what_is_taken_with_a_note_is_told_with_it(world: World) -> None:
    """A warning does not stop the stack, and is not lost either."""
    unknown = {"name": "m", "source": {"huggingFace": {"repository": "acme/unknown"}}}
    world.apply(aggregated("chat", model=unknown, podTemplate={"decode": {"spec": {}}}))
    stack = world.ready("chat")
    message = condition(stack, "Accepted")["message"]
    assert "spec.model.profile is not set" in message
    assert "spec.podTemplate.decode: this topology has no such pool" in message
