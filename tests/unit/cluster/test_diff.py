"""cluster.diff: an object as kube-apiserver 1.36 really answered, each kind of reason, and two laws on the fake."""

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving import names
from agentic_serving.cluster.diff import needs_apply
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.kinds import DEPLOYMENT
from agentic_serving.cluster.port import Manifest

DESIRED: Manifest = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "default", "labels": {"app": "d"}, "finalizers": ["a/b"]},
    "spec": {
        "paused": False,
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "args": ["--x", "1"],
                        "env": [
                            {"name": "E", "value": ""},
                            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        ],
                        "ports": [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53}],
                        "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi", "nvidia.com/gpu": 1}},
                        "volumeMounts": [],
                    }
                ],
                "securityContext": {},
                "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "2048Mi"}}],
            },
        },
    },
}

#: What the API server made of it: quantities rewritten, zeros dropped, defaults added.
LIVE: Manifest = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "d",
        "namespace": "default",
        "uid": "1",
        "resourceVersion": "2",
        "generation": 1,
        "labels": {"app": "d"},
        "finalizers": ["a/b"],
        "managedFields": [
            {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {}},
            {
                "manager": names.FIELD_MANAGER,
                "operation": "Apply",
                "apiVersion": "apps/v1",
                "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:app": {}}, "f:finalizers": {'v:"a/b"': {}}},
                    "f:spec": {
                        "f:paused": {},
                        "f:selector": {},
                        "f:template": {
                            "f:metadata": {"f:labels": {"f:app": {}}},
                            "f:spec": {
                                "f:containers": {
                                    'k:{"name":"c"}': {
                                        ".": {},
                                        "f:name": {},
                                        "f:args": {},
                                        "f:env": {
                                            'k:{"name":"E"}': {".": {}, "f:name": {}, "f:value": {}},
                                            'k:{"name":"IP"}': {
                                                ".": {},
                                                "f:name": {},
                                                "f:valueFrom": {"f:fieldRef": {}},
                                            },
                                        },
                                        "f:ports": {
                                            'k:{"containerPort":53,"protocol":"TCP"}': {
                                                ".": {},
                                                "f:containerPort": {},
                                            },
                                            'k:{"containerPort":53,"protocol":"UDP"}': {
                                                ".": {},
                                                "f:containerPort": {},
                                                "f:protocol": {},
                                            },
                                        },
                                        "f:resources": {
                                            "f:limits": {"f:cpu": {}, "f:memory": {}, "f:nvidia.com/gpu": {}}
                                        },
                                    }
                                },
                                "f:securityContext": {},
                                "f:volumes": {
                                    'k:{"name":"shm"}': {
                                        ".": {},
                                        "f:name": {},
                                        "f:emptyDir": {"f:sizeLimit": {}},
                                    }
                                },
                            },
                        },
                    },
                },
            },
        ],
    },
    "spec": {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "args": ["--x", "1"],
                        "env": [
                            {"name": "E"},
                            {
                                "name": "IP",
                                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}},
                            },
                        ],
                        "ports": [
                            {"containerPort": 53, "protocol": "UDP"},
                            {"containerPort": 53, "protocol": "TCP"},
                        ],
                        "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}},
                        "imagePullPolicy": "IfNotPresent",
                    }
                ],
                "restartPolicy": "Always",
                "securityContext": {},
                "volumes": [{"name": "shm", "emptyDir": {"sizeLimit": "2Gi"}}],
            },
        },
        "strategy": {"type": "RollingUpdate"},
    },
    "status": {},
}

CONTAINER = ("spec", "template", "spec", "containers", 0)


def changed(manifest: Manifest, path: tuple[Any, ...], value: Any) -> Manifest:  # noqa: ANN401 - any JSON value
    """A copy with one field set; `...` removes it."""
    twin = copy.deepcopy(manifest)
    node: Any = twin
    for step in path[:-1]:
        node = node[step]
    if value is ...:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return twin


def test_nothing_to_do_right_after_an_apply() -> None:
    assert needs_apply(DESIRED, LIVE) is None


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("metadata", "labels", "app"), "e", 'metadata.labels.app: is "d", should be "e"'),
        (("metadata", "labels", "new"), "e", 'metadata.labels.new: not ours yet, should be "e"'),
        (("metadata", "labels"), ..., "metadata.labels: no longer wanted"),
        (("metadata", "finalizers"), ["c/d"], 'metadata.finalizers: "c/d" is not ours yet'),
        (("spec", "paused"), True, "spec.paused: is absent, should be true"),
        (("spec", "replicas"), 1, "spec.replicas: not ours yet, should be 1"),
        (
            ("spec", "selector"),
            {},
            'spec.selector: is {"matchLabels":{"app":"d"}}, should be {}',
        ),
        (
            (*CONTAINER, "args"),
            ["--x"],
            'spec.template.spec.containers[name=c].args: is ["--x","1"], should be ["--x"]',
        ),
        ((*CONTAINER, "name"), "e", 'spec.template.spec.containers: {"name":"e"'),
        (
            (*CONTAINER, "env", 0, "value"),
            "1",
            'spec.template.spec.containers[name=c].env[name=E].value: is absent, should be "1"',
        ),
        (
            (*CONTAINER, "env", 1, "valueFrom", "fieldRef", "fieldPath"),
            "status.hostIP",
            "spec.template.spec.containers[name=c].env[name=IP].valueFrom.fieldRef: is ",
        ),
        (
            (*CONTAINER, "ports"),
            [{"containerPort": 53}],
            "spec.template.spec.containers[name=c].ports[containerPort=53,protocol=UDP]: no longer wanted",
        ),
        (
            (*CONTAINER, "ports"),
            [{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}],
            "spec.template.spec.containers[name=c].ports: is in another order",
        ),
        (
            (*CONTAINER, "resources", "limits", "memory"),
            "1025Mi",
            'spec.template.spec.containers[name=c].resources.limits.memory: is "1Gi", should be "1025Mi"',
        ),
    ],
    ids=str,
)
def test_a_changed_wish_is_named(path: tuple[Any, ...], value: Any, reason: str) -> None:  # noqa: ANN401 - any JSON value
    found = needs_apply(changed(DESIRED, path, value), LIVE)
    assert found is not None
    assert found.startswith(reason)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "template", "spec", "securityContext"), {"runAsUser": 1}),
        (("spec", "template", "spec", "restartPolicy"), "Never"),
        (("metadata", "annotations"), {"theirs": "1"}),
        (
            (*CONTAINER, "env"),
            [*LIVE["spec"]["template"]["spec"]["containers"][0]["env"], {"name": "THEIRS"}],
        ),
    ],
    ids=str,
)
def test_what_is_not_ours_is_no_reason(path: tuple[Any, ...], value: Any) -> None:  # noqa: ANN401 - any JSON value
    assert needs_apply(DESIRED, changed(LIVE, path, value)) is None


def test_an_object_that_we_never_applied_needs_it() -> None:
    live = changed(LIVE, ("metadata", "managedFields"), [])
    assert needs_apply(DESIRED, live) == f"{names.FIELD_MANAGER} has not applied this object yet"


def test_a_map_replaced_as_a_whole_may_hold_defaults_but_nothing_else() -> None:
    live = copy.deepcopy(LIVE)
    reference = live["spec"]["template"]["spec"]["containers"][0]["env"][1]["valueFrom"]["fieldRef"]
    reference["apiVersion"] = "v2"
    assert "fieldRef" in (needs_apply(DESIRED, live) or "")


# Two laws, on small Deployments. Maps and lists that are merged into are never empty here: whether an empty one
# is stored depends on the type in Go, which the fake does not know (the real one is asked in `tests/e2e`).
WORD = st.sampled_from(["a", "b", "c"])
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": WORD, "image": WORD},
        optional={
            "args": st.lists(WORD, max_size=2),
            "env": st.lists(
                st.fixed_dictionaries({"name": WORD, "value": WORD}),
                min_size=1,
                max_size=3,
                unique_by=lambda e: e["name"],
            ),
            "resources": st.fixed_dictionaries({"limits": st.dictionaries(WORD, st.just("1"), min_size=1)}),
        },
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda c: c["name"],
)
DEPLOYMENTS = st.fixed_dictionaries(
    {"labels": st.dictionaries(WORD, WORD, min_size=1), "containers": CONTAINERS},
    optional={"nodeSelector": st.dictionaries(WORD, WORD), "replicas": st.integers(0, 2)},
)


def deployment(drawn: dict[str, Any]) -> Manifest:
    pod = {name: drawn[name] for name in ("containers", "nodeSelector") if name in drawn}
    spec = {"replicas": drawn["replicas"]} if "replicas" in drawn else {}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "ns", "labels": drawn["labels"]},
        "spec": {**spec, "template": {"spec": pod}},
    }


@given(first=DEPLOYMENTS, second=DEPLOYMENTS)
def test_there_is_a_reason_exactly_when_an_apply_changes_something(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    async def play() -> None:
        cluster = FakeCluster()
        live = await cluster.apply(DEPLOYMENT, deployment(first))
        assert needs_apply(deployment(first), live) is None
        reason = needs_apply(deployment(second), live)
        after = await cluster.apply(DEPLOYMENT, deployment(second))
        changed_it = after["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"]
        assert changed_it is (reason is not None), reason
        assert needs_apply(deployment(second), after) is None

    asyncio.run(play())


@given(first=DEPLOYMENTS, second=DEPLOYMENTS)
def test_what_was_applied_before_leaves_no_trace(first: dict[str, Any], second: dict[str, Any]) -> None:
    async def play() -> None:
        cluster, fresh = FakeCluster(), FakeCluster()
        await cluster.apply(DEPLOYMENT, deployment(first))
        live = await cluster.apply(DEPLOYMENT, deployment(second))
        expected = await fresh.apply(DEPLOYMENT, deployment(second))
        assert live["spec"] == expected["spec"]
        assert live["metadata"].get("labels") == expected["metadata"].get("labels")

    asyncio.run(play())
