"""processnode.podmonitors: which pods a monitor selects, how their series are labelled, and fields that are refused."""

from typing import Any

import pytest

from tests.e2e.processnode.podmonitors import NotTranslated, jobs


def _monitor(**spec: Any) -> dict[str, Any]:
    endpoints = [{"port": "http", "path": "/stats", "interval": "15s"}, {"port": "metrics"}]
    return {
        "metadata": {"namespace": "agents", "name": "engine"},
        "spec": {"selector": {"matchLabels": {"a/b": "c"}}, "podMetricsEndpoints": endpoints, **spec},
    }


def _pod(
    name: str = "chat-0", *, namespace: str = "agents", phase: str = "Running", **labels: str
) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"a/b": "c", **labels}},
        "spec": {
            "initContainers": [{"name": "proxy", "ports": [{"name": "metrics", "containerPort": 9090}]}],
            "containers": [{"name": "engine", "ports": [{"name": "http", "containerPort": 8000}]}],
        },
        "status": {"podIP": "198.18.0.3", "phase": phase},
    }


def test_each_endpoint_is_a_job_with_the_port_of_its_name() -> None:
    http, metrics = jobs([_monitor()], [_pod()])
    assert (http.name, metrics.name) == ("podMonitor/agents/engine/0", "podMonitor/agents/engine/1")
    assert (http.interval, metrics.interval) == ("15s", "30s")
    assert (http.scrape["metrics_path"], metrics.scrape["metrics_path"]) == ("/stats", "/metrics")
    assert [t["targets"] for t in http.targets] == [["198.18.0.3:8000"]]
    assert [t["labels"]["container"] for t in metrics.targets] == ["proxy"], "native sidecars are scraped too"


def test_series_are_labelled_as_prometheus_operator_does() -> None:
    (job, _) = jobs([_monitor(podTargetLabels=["a/b", "missing"])], [_pod()])
    assert job.targets[0]["labels"] == {
        "job": "agents/engine", "namespace": "agents", "pod": "chat-0", "container": "engine", "endpoint": "http",
        "a_b": "c",
    }  # fmt: skip


@pytest.mark.parametrize(
    "pod",
    [_pod(namespace="other"), _pod(phase="Succeeded"), _pod(phase="Failed"), _pod() | {"status": {}}],
    ids=["another namespace", "succeeded", "failed", "no address yet"],
)
def test_other_pods_are_not_scraped(pod: dict[str, Any]) -> None:
    assert [job.targets for job in jobs([_monitor()], [pod])] == [[], []]


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        ({}, {"one", "two"}),
        ({"matchLabels": {"x": "1"}}, {"one"}),
        ({"matchLabels": {"x": "2"}}, set()),
        ({"matchExpressions": [{"key": "x", "operator": "In", "values": ["1", "2"]}]}, {"one"}),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["1"]}]}, {"two"}),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, {"one"}),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, {"two"}),
        ({"matchLabels": {"x": "1"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, set()),
    ],
    ids=["all", "label", "other value", "In", "NotIn", "Exists", "DoesNotExist", "both"],
)
def test_selectors_mean_what_kubernetes_says(selector: dict[str, Any], selected: set[str]) -> None:
    (job, _) = jobs([_monitor(selector=selector)], [_pod("one", x="1"), _pod("two")])
    assert {target["labels"]["pod"] for target in job.targets} == selected


@pytest.mark.parametrize(
    "monitor",
    [
        _monitor(namespaceSelector={"any": True}),
        _monitor(podMetricsEndpoints=[{"port": "a", "bearerTokenSecret": {}}]),
    ],
    ids=["of the monitor", "of an endpoint"],
)
def test_a_field_that_is_not_translated_is_refused(monitor: dict[str, Any]) -> None:
    with pytest.raises(NotTranslated, match=r"(namespaceSelector|bearerTokenSecret) is not translated"):
        jobs([monitor], [])
