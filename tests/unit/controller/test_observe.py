"""controller.observe and pods: what Deployments and pods say, and never more than that. Check 13 of docs/checks.md."""

import pytest

from agentic_serving.api.conditions import Reason
from agentic_serving.cluster.port import Manifest
from agentic_serving.controller.observe import PodTrouble, observe, rollout
from agentic_serving.controller.pods import trouble_of
from agentic_serving.render.plan import PlannedRole


def deployment(
    name: str = "e", *, wanted: int = 2, ready: int = 2, updated: int = 2, total: int = 2, seen: int = 3
) -> Manifest:
    """At generation 3; `seen` is what its controller has seen."""
    status = {
        "observedGeneration": seen, "readyReplicas": ready, "updatedReplicas": updated, "replicas": total
    }  # fmt: skip
    return {
        "metadata": {"name": name, "generation": 3},
        "spec": {"replicas": wanted, "selector": {"matchLabels": {"app": name}}},
        "status": {k: v for k, v in status.items() if v},
    }


@pytest.mark.parametrize(
    ("live", "wanted", "complete"),
    [
        (deployment(), 2, True),
        (deployment(seen=2), 2, False),
        (deployment(ready=1), 2, False),
        (deployment(updated=1), 2, False),
        (deployment(total=3), 2, False),
        (deployment(ready=1, updated=1, total=1), 2, False),
        (deployment(wanted=0, ready=0, updated=0, total=0), 0, True),
        (deployment(wanted=0, ready=1, updated=0, total=1), 0, False),
        ({"metadata": {"generation": 1}, "spec": {}}, 0, False),
        (None, 0, False),
    ],
    ids=[
        "as asked", "spec not seen yet", "one not ready", "one old", "one too many", "one missing",
        "zero", "zero but one still runs", "no status", "does not exist",
    ],
)  # fmt: skip
def test_complete_is_exactly_what_was_asked(live: Manifest | None, wanted: int, complete: bool) -> None:
    assert rollout("e", wanted, live).complete is complete


ROLES = (
    PlannedRole(name="Prefill", deployment="p", replicas=1),
    PlannedRole(name="Decode", deployment="d", replicas=2),
    PlannedRole(name="Router", deployment="r", replicas=1),
)
ONE = {"wanted": 1, "ready": 1, "updated": 1, "total": 1}
ALL = {"p": deployment("p", **ONE), "d": deployment("d"), "r": deployment("r", **ONE), "t": deployment("t")}


@pytest.mark.parametrize(
    ("changed", "ready", "reason"),
    [
        ({}, True, Reason.READY),
        ({"p": deployment("p", wanted=1, ready=0, updated=1, total=1)}, False, Reason.REPLICAS_UNAVAILABLE),
        ({"r": deployment("r", wanted=1, ready=0, updated=1, total=1)}, False, Reason.ROUTER_UNAVAILABLE),
        ({"d": deployment("d", ready=1)}, False, Reason.PROGRESSING),
        ({"t": deployment("t", ready=0)}, False, Reason.PROGRESSING),
        ({"t": None}, False, Reason.PROGRESSING),
    ],
    ids=["all", "no prefill", "no router", "one decode of two", "supporting not ready", "supporting missing"],
)
def test_ready_needs_every_deployment(changed: dict[str, Manifest], ready: bool, reason: Reason) -> None:
    live = {k: v for k, v in {**ALL, **changed}.items() if v is not None}
    seen = observe(ROLES, ("t",), live, {})
    assert (seen.ready.holds, seen.ready.reason) == (ready, reason)


def test_replicas_count_engines_only() -> None:
    seen = observe(ROLES, (), {**ALL, "d": deployment("d", ready=1)}, {})
    assert seen.replicas == "2/3"
    assert [(r.name, r.replicas, r.ready, r.updated) for r in seen.roles] == [
        ("Prefill", 1, 1, 1),
        ("Decode", 2, 1, 2),
        ("Router", 1, 1, 1),
    ]


def test_a_pod_in_trouble_gives_the_reason_and_its_words() -> None:
    trouble = {"d": PodTrouble(reason=Reason.UNSCHEDULABLE, message="pod d-1 fits on no node: 0/3 nodes")}
    seen = observe(ROLES, (), {**ALL, "d": deployment("d", ready=0)}, trouble)
    assert seen.available.reason == Reason.UNSCHEDULABLE
    assert "0/3 nodes" in seen.available.message
    assert "d: 0 of 2 ready" in seen.available.message


def test_pods_that_cannot_be_created_are_told_by_the_deployment() -> None:
    live = deployment("d", ready=0, updated=0, total=0)
    live["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: gpus"}
    ]
    seen = observe(ROLES, (), {**ALL, "d": live}, {})
    assert seen.available.reason == Reason.PODS_FAILING
    assert "exceeded quota: gpus" in seen.available.message


def pod(name: str, *, app: str = "e", **status: object) -> Manifest:
    return {"metadata": {"name": name, "labels": {"app": app, "more": "x"}}, "status": status}


UNSCHEDULABLE = [
    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes: no gpu"}
]
CRASHING = [
    {
        "name": "vllm",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "CUDA out of memory"}},
    }
]
STARTING = [{"name": "vllm", "state": {"waiting": {"reason": "ContainerCreating"}}}]


@pytest.mark.parametrize(
    ("pods", "reason", "words"),
    [
        ([pod("a", conditions=UNSCHEDULABLE)], Reason.UNSCHEDULABLE, ["pod a", "0/3 nodes: no gpu"]),
        (
            [pod("a", containerStatuses=CRASHING)],
            Reason.PODS_FAILING,
            ["container vllm of pod a", "CrashLoopBackOff", "last exit code 1", "CUDA out of memory"],
        ),
        ([pod("a", initContainerStatuses=CRASHING)], Reason.PODS_FAILING, ["CrashLoopBackOff"]),
        (
            [pod("a", containerStatuses=STARTING), pod("b", conditions=UNSCHEDULABLE)],
            Reason.UNSCHEDULABLE,
            ["pod b"],
        ),
    ],
    ids=["unschedulable", "crash loop", "init container", "the first with something to say"],
)
def test_why_pods_are_not_ready(pods: list[Manifest], reason: Reason, words: list[str]) -> None:
    found = trouble_of(deployment(), pods)
    assert found is not None
    assert found.reason == reason
    assert all(word in found.message for word in words)


@pytest.mark.parametrize(
    "pods",
    [
        [],
        [pod("a", containerStatuses=STARTING)],
        [pod("a", app="other", conditions=UNSCHEDULABLE)],
        [{**pod("a", conditions=UNSCHEDULABLE), "metadata": {"name": "a", "labels": {"app": "e"}, "deletionTimestamp": "x"}}],
    ],
    ids=["none", "starting", "another Deployment's", "going away"],
)  # fmt: skip
def test_no_trouble(pods: list[Manifest]) -> None:
    assert trouble_of(deployment(), pods) is None


def test_words_are_cut() -> None:
    long = [{**UNSCHEDULABLE[0], "message": "x" * 5000}]
    found = trouble_of(deployment(), [pod("a", conditions=long)])
    assert found is not None
    assert len(found.message) == 400
