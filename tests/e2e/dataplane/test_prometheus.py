"""Prometheus as equipment: it scrapes what PodMonitors select, from the moment they select it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.processnode.network import Network, unavailable
from tests.e2e.processnode.prometheus import Prometheus, QueryFailed

from .netkit import Pods, node_object

_REASON = unavailable()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))

_MONITORS = "/apis/monitoring.coreos.com/v1/namespaces/default/podmonitors"


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    options = Options(pods=False, crds=("pod-monitor",), process_nodes=True)
    with ControlPlane(options) as cluster, Network(cluster) as network:
        cluster.request("POST", "/api/v1/nodes", node_object(network))
        made = Pods(cluster=cluster, network=network, namespace="default")
        yield made
        made.close()


def _monitor(app: str) -> dict[str, Any]:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": app},
        "spec": {
            "selector": {"matchLabels": {"app": app}},
            "podTargetLabels": ["app"],
            "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}],
        },
    }


def test_what_podmonitors_select_is_scraped_and_nothing_else(pods: Pods) -> None:
    pods.create("one", app="web")
    pods.create("other", app="unseen")
    with Prometheus(pods.cluster, interval="1s") as prometheus:
        assert prometheus.query("up") == []
        assert pods.cluster.request("POST", _MONITORS, _monitor("web")).code == 201
        (sample,) = prometheus.wait("pod_number")
        assert sample.value == 7
        assert {k: sample.labels[k] for k in ("namespace", "pod", "container", "endpoint", "job", "app")} == {
            "namespace": "default", "pod": "one", "container": "server", "endpoint": "http",
            "job": "default/web", "app": "web",
        }  # fmt: skip
        two = pods.create("two", app="web")
        assert {s.labels["pod"] for s in prometheus.wait("up == 1", count=2)} == {"one", "two"}
        pods.network.detach(pods.uid("two"))
        (down,) = prometheus.wait("up == 0")
        assert down.labels["instance"] == f"{two.ip}:8000"
        with pytest.raises(QueryFailed, match="parse error"):
            prometheus.query("sum(")
        assert pods.cluster.request("DELETE", f"{_MONITORS}/web").code == 200
        prometheus.wait("absent_over_time(up[2s])")
