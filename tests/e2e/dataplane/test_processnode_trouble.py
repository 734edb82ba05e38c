"""What the process node does about pods that it cannot or must not run, and about what tests do to them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.processnode.network import unavailable
from tests.e2e.world import wait_until

from .bench import Bench, open_bench, shell, state, terminated

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench() as opened:
        yield opened


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "host-network": ({}, {"hostNetwork": True}, "spec.hostNetwork"),
    "privileged": ({"securityContext": {"privileged": True}}, {}, "spec.containers[0].securityContext.privileged"),
    "post-start": ({"lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}, {}, "spec.containers[0].lifecycle.postStart"),
    "volume-kind": ({}, {"volumes": [{"name": "v", "nfs": {"server": "a", "path": "/"}}]}, "spec.volumes[0].nfs"),
    "dns": ({}, {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}}, "spec.dnsConfig"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_field_that_is_not_carried_out_fails_the_pod_and_is_named(bench: Bench, case: str) -> None:
    fields, spec, path = REFUSED[case]
    pod = bench.pod(shell("main", "true", **fields), **spec)
    status = bench.phase(pod, "Failed")["status"]
    assert status["reason"] == "UnsupportedField"
    assert path in status["message"]
    assert path in bench.event(pod, "UnsupportedField")
    bench.delete(pod)
    bench.gone(pod)


def waits(bench: Bench, pod: str, reason: str) -> str:
    """Wait until the container waits for a reason; the message."""

    def waiting(obj: Manifest) -> dict[str, Any]:
        found: dict[str, Any] = state(obj, "main").get("state", {}).get("waiting", {})
        return found

    found = waiting(bench.wait(pod, lambda obj: waiting(obj).get("reason") == reason))
    return str(found["message"])


def test_an_unknown_image_is_named(bench: Bench) -> None:
    pod = bench.pod({**shell("main", "true"), "image": "docker.io/library/nobody:1"})
    assert "docker.io/library/nobody:1" in waits(bench, pod, "ErrImagePull")


def test_root_is_refused_where_the_pod_forbids_it(bench: Bench) -> None:
    pod = bench.pod(shell("main", "true"), securityContext={"runAsNonRoot": True})
    assert "runAsNonRoot" in waits(bench, pod, "CreateContainerConfigError")


def test_a_missing_config_map_is_waited_for(bench: Bench) -> None:
    reference = {"configMapKeyRef": {"name": "late", "key": "x"}}
    pod = bench.pod(
        shell("main", "echo $X", env=[{"name": "X", "valueFrom": reference}]), restartPolicy="Never"
    )
    assert '"late"' in waits(bench, pod, "CreateContainerConfigError")
    bench.config_map("late", x="here")
    bench.phase(pod, "Succeeded")
    assert bench.logs(pod, "main").strip() == "here"


def test_a_missing_volume_is_waited_for_and_told(bench: Bench) -> None:
    mount = {"name": "v", "mountPath": "/v"}
    volume = {"name": "v", "configMap": {"name": "later"}}
    pod = bench.pod(shell("main", "cat /v/x", volumeMounts=[mount]), volumes=[volume], restartPolicy="Never")
    assert '"later"' in bench.event(pod, "FailedMount")
    bench.config_map("later", x="here")
    bench.phase(pod, "Succeeded")
    assert bench.logs(pod, "main").strip() == "here"


def test_a_pod_that_still_waits_can_be_deleted(bench: Bench) -> None:
    pod = bench.pod(shell("main", "true"), volumes=[{"name": "v", "configMap": {"name": "never"}}])
    bench.event(pod, "FailedMount")
    bench.delete(pod)
    bench.gone(pod)


def test_the_eviction_api_ends_a_pod(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"))
    bench.ready(pod)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "pods"}}
    bench.api.call("POST", f"/api/v1/namespaces/pods/pods/{pod}/eviction", body)
    bench.gone(pod)


def test_pressure_fails_a_pod_at_once_and_leaves_its_object(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"), terminationGracePeriodSeconds=600)
    bench.ready(pod)
    bench.node.evict("pods", pod, "the node was low on resource: memory")
    found = bench.phase(pod, "Failed")
    assert (found["status"]["reason"], terminated(found, "main")["exitCode"]) == ("Evicted", 137)
    assert "low on resource" in found["status"]["message"]
    target = [c for c in found["status"]["conditions"] if c["type"] == "DisruptionTarget"]
    assert [c["status"] for c in target] == ["True"]


def test_a_folder_that_outgrows_its_limit_has_the_pod_evicted(bench: Bench) -> None:
    volumes = [{"name": "small", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "large", "emptyDir": {}}]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("small", "large")]
    script = "head -c 2M /dev/zero > /large/x; head -c 2M /dev/zero > /small/x; exec sleep 1000"
    pod = bench.pod(shell("main", script, volumeMounts=mounts), volumes=volumes)
    status = bench.phase(pod, "Failed")["status"]
    assert (status["reason"], '"small"' in status["message"]) == ("Evicted", True)


def test_a_deadline_ends_a_pod(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"), activeDeadlineSeconds=1)
    assert bench.phase(pod, "Failed")["status"]["reason"] == "DeadlineExceeded"


def test_a_killed_container_is_started_again(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"))
    bench.ready(pod)
    bench.node.kill("pods", pod, "main", signal.SIGKILL)
    found = bench.wait(
        pod, lambda obj: state(obj, "main")["restartCount"] == 1 and state(obj, "main")["ready"]
    )
    assert terminated(found, "main")["exitCode"] == 137


def test_a_paused_container_does_nothing_until_it_is_resumed(bench: Bench) -> None:
    probe = {"httpGet": {"port": 8000}, "periodSeconds": 1, "failureThreshold": 1}
    pod = bench.pod(shell("main", "exec python3 -m http.server 8000", readinessProbe=probe))
    bench.ready(pod)
    bench.node.pause("pods", pod, "main")
    bench.ready(pod, "False")
    bench.node.resume("pods", pod, "main")
    assert state(bench.ready(pod), "main")["restartCount"] == 0


def test_pods_of_a_deployment_are_replaced(bench: Bench) -> None:
    labels = {"app": "web"}
    template: Manifest = {
        "metadata": {"labels": labels},
        "spec": {"containers": [shell("main", "exec sleep 1000")]},
    }
    template["spec"]["terminationGracePeriodSeconds"] = 1
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    bench.api.apply(deployment, "pods")

    def rolled_out(obj: Manifest) -> bool:
        status = obj.get("status", {})
        current = status.get("observedGeneration") == obj["metadata"]["generation"]
        return bool(
            current
            and status.get("availableReplicas") == 2 == status.get("updatedReplicas") == status["replicas"]
        )

    bench.api.wait(kinds.DEPLOYMENT, "pods", "web", rolled_out)
    template["metadata"]["annotations"] = {"a": "b"}
    bench.api.apply(deployment, "pods")
    bench.api.wait(kinds.DEPLOYMENT, "pods", "web", rolled_out)
    bench.api.delete(kinds.DEPLOYMENT, "pods", "web")


def test_kubectl_logs_follow_a_container_to_its_end(bench: Bench) -> None:
    script = "echo one; until test -e /tmp/go; do sleep 0.05; done; echo two"
    pod = bench.pod(shell("main", script), restartPolicy="Never")
    bench.ready(pod)
    assert bench.cluster.kubectl("logs", "-n", "pods", pod) == "one\n"
    with ThreadPoolExecutor() as pool:
        followed = pool.submit(bench.cluster.kubectl, "logs", "-n", "pods", "-f", pod, timeout_s=30)
        bench.node.exec("pods", pod, "main", ["touch", "/tmp/go"])
        assert followed.result() == "one\ntwo\n"


def test_kubectl_logs_show_the_run_before(bench: Bench) -> None:
    pod = bench.pod(shell("main", "echo one; echo two; exit 1"))
    bench.wait(pod, lambda obj: state(obj, "main").get("restartCount", 0) > 0)
    assert bench.cluster.kubectl("logs", "-n", "pods", "--previous", "--tail=1", pod) == "two\n"


def test_pods_outlive_the_api_server(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"))
    before = state(bench.ready(pod), "main")["containerID"]
    bench.cluster.restart_apiserver()
    bench.api.close()
    assert bench.output("echo new").strip() == "new"
    assert state(bench.ready(pod), "main")["containerID"] == before
    bench.delete(pod)
    bench.gone(pod)


OWNER = """
import sys, time
from tests.e2e.dataplane.bench import open_bench, shell
with open_bench() as bench:
    volumes = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    # A daemon of its own session, as programs make that want to outlive their parent.
    pod = bench.pod(shell("main", "setsid sleep 98765 & exec sleep 98765"), volumes=volumes)
    bench.ready(pod)
    print(bench.node.folder, bench.cluster.folder, flush=True)
    time.sleep(1000)
"""


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{_ROOT / 'operator'}:{_ROOT}"}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], env=environment, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )
    try:
        assert owner.stdout is not None
        folders = [Path(word) for word in owner.stdout.readline().split()]
        assert len(folders) == 2
        assert len(_sleepers()) == 2
    finally:
        owner.kill()
        owner.wait()
        if owner.stdout is not None:
            owner.stdout.close()
    wait_until(lambda: not _sleepers(), what="the pod's processes to be gone")
    wait_until(lambda: not any(at.exists() for at in folders), what="the folders to be gone")
    mounts = Path("/proc/self/mountinfo").read_text()
    assert not any(str(at) in mounts for at in folders)


def _sleepers() -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [])[:2] == ["sleep", "98765"]:
            found.append(process.pid)
    return found


def test_closing_the_node_takes_everything_along() -> None:
    began_s = time.monotonic()
    with open_bench() as bench:
        pod = bench.pod(shell("main", "exec sleep 87654"), terminationGracePeriodSeconds=600)
        bench.ready(pod)
        folder = bench.node.folder
    assert not folder.exists()
    assert time.monotonic() - began_s < 60  # no grace period is waited for
    assert not [p for p in psutil.process_iter(["cmdline"]) if "87654" in (p.info["cmdline"] or [])]
