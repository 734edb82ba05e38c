"""render.podtemplate: what users may merge into pods, and what is refused by path."""

from typing import Any

import pytest

from tests.unit.render.builders import container, plan_of, pod, reasons


def engine(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


OWNED = "PodTemplateOwned"
IN_ENGINE = "spec.podTemplate.aggregated.spec.containers[0]"


@pytest.mark.parametrize(
    ("patch", "path", "reason"),
    [
        pytest.param(engine(args=["--x"]), f"{IN_ENGINE}.args", OWNED, id="args"),
        pytest.param(engine(command=["sh"]), f"{IN_ENGINE}.command", OWNED, id="command"),
        pytest.param(engine(image="x"), f"{IN_ENGINE}.image", OWNED, id="image"),
        pytest.param(engine(lifecycle={}), f"{IN_ENGINE}.lifecycle", OWNED, id="lifecycle"),
        pytest.param(engine(env=[{"name": "HOME", "value": "/"}]), f"{IN_ENGINE}.env[0]", OWNED, id="env"),
        pytest.param(engine(ports=[{"containerPort": 8000}]), f"{IN_ENGINE}.ports[0]", OWNED, id="port"),
        pytest.param(
            engine(volumeMounts=[{"name": "x", "mountPath": "/dev/shm"}]),
            f"{IN_ENGINE}.volumeMounts[0]",
            OWNED,
            id="mount",
        ),
        pytest.param(
            {"metadata": {"labels": {"llm-d.ai/role": "decode"}}},
            "spec.podTemplate.aggregated.metadata.labels[llm-d.ai/role]",
            OWNED,
            id="label",
        ),
        pytest.param(
            {"metadata": {"annotations": {"agentic-serving.dev/config-hash": "x"}}},
            "spec.podTemplate.aggregated.metadata.annotations[agentic-serving.dev/config-hash]",
            OWNED,
            id="annotation",
        ),
        pytest.param(
            {"metadata": {"name": "x"}}, "spec.podTemplate.aggregated.metadata.name", OWNED, id="metadata"
        ),
        pytest.param(
            {"spec": {"terminationGracePeriodSeconds": 1}},
            "spec.podTemplate.aggregated.spec.terminationGracePeriodSeconds",
            OWNED,
            id="grace",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "dshm", "emptyDir": {}}]}},
            "spec.podTemplate.aggregated.spec.volumes[0]",
            OWNED,
            id="volume",
        ),
        pytest.param({"kind": "Pod"}, "spec.podTemplate.aggregated.kind", "InvalidSpec", id="not-a-template"),
        pytest.param({"spec": []}, "spec.podTemplate.aggregated.spec", "InvalidSpec", id="spec-not-a-map"),
        pytest.param(
            {"spec": {"containers": {}}},
            "spec.podTemplate.aggregated.spec.containers",
            "InvalidSpec",
            id="list",
        ),
        pytest.param(
            {"spec": {"containers": [{}]}},
            "spec.podTemplate.aggregated.spec.containers[0]",
            "InvalidSpec",
            id="nameless",
        ),
        pytest.param(engine(env=["HOME"]), f"{IN_ENGINE}.env[0]", "InvalidSpec", id="env-shape"),
    ],
)
def test_what_the_operator_owns_is_refused_by_path(patch: dict[str, Any], path: str, reason: str) -> None:
    plan = plan_of({"podTemplate": {"aggregated": patch}})
    assert reasons(plan) == [(path, reason)]
    assert not plan.manifests


def test_what_is_the_users_is_merged_last() -> None:
    patch = engine(
        env=[{"name": "NCCL_DEBUG", "value": "INFO"}],
        resources={"limits": {"rdma/ib": 1}},
        startupProbe={"failureThreshold": 999},
        securityContext={"capabilities": {"add": ["IPC_LOCK"]}},
    )
    patch["spec"] |= {"priorityClassName": "high", "tolerations": [{"key": "spot", "operator": "Exists"}]}
    patch["metadata"] = {"labels": {"team": "a"}, "annotations": {"k8s.v1.cni.cncf.io/networks": "rdma"}}
    patch["spec"]["containers"].append({"name": "sidecar", "image": "x"})
    plan = plan_of({"podTemplate": {"aggregated": patch}})
    merged, engine_container = pod(plan, "chat-engine"), container(plan, "chat-engine", "engine")
    assert merged["metadata"]["labels"]["team"] == "a"
    assert merged["metadata"]["labels"]["llm-d.ai/inference-serving"] == "true"
    assert [c["name"] for c in merged["spec"]["containers"]] == ["engine", "sidecar"]
    assert {"key": "spot", "operator": "Exists"} in merged["spec"]["tolerations"]
    assert engine_container["startupProbe"]["failureThreshold"] == 999
    assert engine_container["startupProbe"]["httpGet"]["path"] == "/health"
    assert engine_container["resources"]["limits"] == {"nvidia.com/gpu": "1", "rdma/ib": 1}
    assert engine_container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]}


def test_a_template_for_a_pool_that_is_not_there_is_reported() -> None:
    plan = plan_of({"podTemplate": {"decode": {"spec": {"priorityClassName": "high"}}}})
    assert reasons(plan) == [("spec.podTemplate.decode", "NoEffect")]
    assert plan.accepted
