"""`agentic-serving scheduler run` against a real API server: what comes and goes there is seen, and one of two is active."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentic_serving import names
from agentic_serving.router.config import Config
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.routerkit.enginepool import POOL_NAMESPACE
from tests.e2e.routerkit.schedulers import RunningScheduler, running_scheduler

LABELS = {"app": "engine"}
CONFIG = Config(namespace=POOL_NAMESPACE, stack="chat", mode="Enforce", pod_labels=LABELS, engine_port=1)
#: The Lease of one that was killed is the other's after 6 s; one that gives it back is followed at once.
_TAKEOVER_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    with ControlPlane(ClusterOptions(controllers=False, pods=False)) as running:
        running.create_namespace(POOL_NAMESPACE)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        path = f"/api/v1/namespaces/{POOL_NAMESPACE}/serviceaccounts"
        assert running.request("POST", path, account).code == 201
        yield running


def engine(cluster: ControlPlane, name: str, address: str, *, ready: bool = True) -> None:
    """A pod as its kubelet would tell of it."""
    labels = {**LABELS, names.ROLE_LABEL: "aggregated"}
    spec = {"nodeName": "none", "containers": [{"name": "engine", "image": "engine"}]}
    metadata = {"name": name, "namespace": POOL_NAMESPACE, "labels": labels}
    path = f"/api/v1/namespaces/{POOL_NAMESPACE}/pods"
    made = cluster.request(
        "POST", path, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    )
    assert made.code == 201, made.body
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    told = cluster.request("PUT", f"{path}/{name}/status", {**made.json(), "status": status})
    assert told.code == 200, told.body


def written(folder: Path, config: Config) -> Path:
    path = folder / "scheduler.json"
    path.write_text(config.to_json())
    return path


def live(scheduler: RunningScheduler) -> dict[str, object]:
    found = json.loads(scheduler.client.get("/v1/live").text)
    assert isinstance(found, dict)
    return found


def replicas(scheduler: RunningScheduler) -> dict[str, bool]:
    """Pods by name, and whether they are Ready."""
    found = live(scheduler)["replicas"]
    assert isinstance(found, list)
    return {one["name"]: one["ready"] for one in found}


def test_pods_configuration_and_the_end(cluster: ControlPlane, tmp_path: Path) -> None:
    config = written(tmp_path, CONFIG)
    with running_scheduler(config, Path(cluster.kubeconfig), name="router-0") as scheduler:
        assert live(scheduler)["active"] is True
        engine(cluster, "one", "127.0.0.2")
        engine(cluster, "two", "127.0.0.3", ready=False)
        wait_until(
            lambda: replicas(scheduler) == {"one": True, "two": False}, timeout_s=20, what="pods that come"
        )
        path = f"/api/v1/namespaces/{POOL_NAMESPACE}/pods/one?gracePeriodSeconds=0"
        assert cluster.request("DELETE", path).code == 200
        wait_until(lambda: replicas(scheduler) == {"two": False}, timeout_s=20, what="a pod that goes")

        written(tmp_path, replace(CONFIG, mode="Observe"))
        wait_until(lambda: live(scheduler)["mode"] == "Observe", timeout_s=20, what="another mode")
        config.write_text("{")
        refused = 'agentic_serving_config_reloads_total{result="error"} 1.0'
        wait_until(
            lambda: refused in scheduler.client.get("/metrics").text, timeout_s=20, what="a refused file"
        )
        assert live(scheduler)["mode"] == "Observe", "what was in use stays"

        scheduler.process.terminate(20)
        assert '"exception"' not in scheduler.process.tail(100_000)


def test_an_api_server_that_restarts_is_followed_again(cluster: ControlPlane, tmp_path: Path) -> None:
    config = written(tmp_path, CONFIG)
    with running_scheduler(config, Path(cluster.kubeconfig), name="router-0") as scheduler:
        before = set(replicas(scheduler))
        cluster.restart_apiserver()
        assert set(replicas(scheduler)) == before, "what was known stays known"
        engine(cluster, "three", "127.0.0.4")
        wait_until(lambda: "three" in replicas(scheduler), timeout_s=60, what="a pod after the restart")


@pytest.mark.parametrize("end", ["asked to stop", "killed"])
def test_one_of_two_is_active_and_the_other_takes_over(
    cluster: ControlPlane, tmp_path: Path, end: str
) -> None:
    config = written(tmp_path, replace(CONFIG, stack=f"two-{len(end)}", router_replicas=2))
    kubeconfig = Path(cluster.kubeconfig)
    with (
        running_scheduler(config, kubeconfig, name="router-0") as first,
        running_scheduler(config, kubeconfig, name="router-1") as second,
    ):
        wait_until(
            lambda: bool(live(first)["active"] or live(second)["active"]),
            timeout_s=_TAKEOVER_S,
            what="an active one",
        )
        active, standby = (first, second) if live(first)["active"] else (second, first)
        assert live(standby)["active"] is False, "the standby is ready all the same"
        if end == "killed":
            active.process.kill()
        else:
            active.process.terminate(20)
        wait_until(lambda: bool(live(standby)["active"]), timeout_s=_TAKEOVER_S, what="the other one")
