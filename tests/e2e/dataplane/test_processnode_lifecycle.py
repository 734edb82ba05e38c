"""How pods on the process node start, are probed, are started again, and end."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.processnode.network import unavailable

from .bench import Bench, container, open_bench, shell, state, terminated

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with open_bench() as opened:
        yield opened


#: Follows a file that tests write to: exists means healthy.
_IF_HEALTHY = {"exec": {"command": ["cat", "/tmp/healthy"]}, "periodSeconds": 1}
_HEALTHY = "touch /tmp/healthy; exec sleep 1000"
#: Ends on SIGTERM as a good program does; process 1 gets no signal that it does not handle.
_POLITE = "trap 'echo asked; exit 0' TERM; touch /tmp/healthy; while :; do sleep 0.05; done"


def run(bench: Bench, pod: str, *argv: str) -> None:
    code, output = bench.node.exec(bench.namespace, pod, "main", argv)
    assert code == 0, output


def condition(pod: Manifest, type_: str) -> dict[str, Any]:
    return next((c for c in pod.get("status", {}).get("conditions", ()) if c["type"] == type_), {})


def test_init_containers_run_one_after_another_before_the_others(bench: Bench) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]
    before = [shell(n, f"sleep 0.1; echo {n} >> /v/order", volumeMounts=mounts) for n in ("first", "second")]
    spec = {"volumes": [{"name": "v", "emptyDir": {}}]}
    assert bench.output("cat /v/order", before=before, spec=spec, volumeMounts=mounts).split() == [
        "first",
        "second",
    ]


def test_an_init_container_is_repeated_until_it_succeeds(bench: Bench) -> None:
    flaky = shell(
        "flaky", "test -e /v/x || { touch /v/x; exit 7; }", volumeMounts=[{"name": "v", "mountPath": "/v"}]
    )
    volumes = [{"name": "v", "emptyDir": {}}]
    pod = bench.pod(shell("main", "true"), initContainers=[flaky], volumes=volumes, restartPolicy="OnFailure")
    ended = bench.phase(pod, "Succeeded")
    assert state(ended, "flaky")["restartCount"] == 1
    assert state(ended, "flaky")["lastState"]["terminated"]["exitCode"] == 7


def test_a_failed_init_container_fails_a_pod_that_is_never_restarted(bench: Bench) -> None:
    pod = bench.pod(shell("main", "true"), initContainers=[shell("bad", "exit 3")], restartPolicy="Never")
    ended = bench.phase(pod, "Failed")
    assert terminated(ended, "bad")["exitCode"] == 3
    assert state(ended, "main")["state"]["waiting"]["reason"] == "PodInitializing"


def test_a_sidecar_starts_before_and_stops_after_the_others(bench: Bench) -> None:
    mounts = [{"name": "v", "mountPath": "/v"}]
    sidecar = shell(
        "beside", "trap 'echo sidecar-ends >> /v/order; exit 0' TERM; sleep 0.2; echo sidecar-up >> /v/order;"
        "touch /tmp/healthy; while :; do sleep 0.05; done",
        restartPolicy="Always", startupProbe=_IF_HEALTHY, volumeMounts=mounts,
    )  # fmt: skip
    main = shell(
        "main", "trap 'sleep 0.3; echo main-ends >> /v/order; exit 0' TERM; echo main-up >> /v/order;"
        "while :; do sleep 0.05; done", volumeMounts=mounts,
    )  # fmt: skip
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    bench.create({"kind": "PersistentVolumeClaim", "metadata": {"name": "order"}, "spec": claim})
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "order"}}]
    pod = bench.pod(main, initContainers=[sidecar], volumes=volumes, terminationGracePeriodSeconds=10)
    bench.ready(pod)
    bench.delete(pod)
    bench.gone(pod)
    order = (bench.node.claim_folder("pods", "order") / "order").read_text().split()
    assert order == ["sidecar-up", "main-up", "main-ends", "sidecar-ends"]


def test_a_pod_succeeds_although_its_sidecar_would_go_on(bench: Bench) -> None:
    beside = shell("beside", _POLITE, restartPolicy="Always", startupProbe=_IF_HEALTHY)
    pod = bench.pod(shell("main", "true"), initContainers=[beside], restartPolicy="Never")
    bench.phase(pod, "Succeeded")
    assert "asked" in bench.logs(pod, "beside")


def test_a_crashing_container_is_held_back_longer_each_time(bench: Bench) -> None:
    pod = bench.pod(shell("main", "echo words of $$$$; echo why > /dev/termination-log; exit 9"))

    def held_back(obj: Manifest) -> object:
        waiting = state(obj, "main").get("state", {}).get("waiting", {})
        return waiting.get("reason") == "CrashLoopBackOff" and state(obj, "main")["restartCount"] == 2

    found = state(bench.wait(pod, held_back), "main")
    assert "back-off 2s" in found["state"]["waiting"]["message"]
    last = found["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"], last["message"].strip()) == (9, "Error", "why")
    assert bench.logs(pod, "main", previous=True) == "words of 1\n"
    assert "main" in bench.event(pod, "BackOff")


ENDINGS: dict[str, tuple[str, str, str, int, str]] = {
    "succeeds": ("exit 0", "Never", "Succeeded", 0, "Completed"),
    "fails": ("exit 4", "Never", "Failed", 4, "Error"),
    "succeeds-under-on-failure": ("exit 0", "OnFailure", "Succeeded", 0, "Completed"),
    "no-such-program": ("", "Never", "Failed", 128, "StartError"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_pod_ends_as_its_containers_do(bench: Bench, case: str) -> None:
    script, policy, phase, code, reason = ENDINGS[case]
    main = shell("main", script) if script else container("main", "no-such-program")
    pod = bench.pod(main, restartPolicy=policy)
    ended = terminated(bench.phase(pod, phase), "main")
    assert (ended["exitCode"], ended["reason"]) == (code, reason)
    assert script or "no-such-program" in ended["message"]


def test_on_failure_starts_again_only_what_failed(bench: Bench) -> None:
    volumes, mounts = [{"name": "v", "emptyDir": {}}], [{"name": "v", "mountPath": "/v"}]
    once = shell("once", "exit 0")
    twice = shell("twice", "test -e /v/x || { touch /v/x; exit 1; }", volumeMounts=mounts)
    ended = bench.phase(bench.pod(once, twice, volumes=volumes, restartPolicy="OnFailure"), "Succeeded")
    assert (state(ended, "once")["restartCount"], state(ended, "twice")["restartCount"]) == (0, 1)


def test_readiness_follows_the_probe_both_ways(bench: Bench) -> None:
    probe = {**_IF_HEALTHY, "failureThreshold": 1}
    pod = bench.pod(shell("main", "exec sleep 1000", readinessProbe=probe))
    bench.event(pod, "Unhealthy")
    assert condition(bench.ready(pod, "False"), "Ready")["reason"] == "ContainersNotReady"
    run(bench, pod, "touch", "/tmp/healthy")
    bench.ready(pod)
    run(bench, pod, "rm", "/tmp/healthy")
    assert state(bench.ready(pod, "False"), "main")["restartCount"] == 0


LISTENING = "exec python3 -m http.server 8000"
PROBES: dict[str, dict[str, Any]] = {
    "http-by-port-name": {
        "httpGet": {"path": "/", "port": "web", "httpHeaders": [{"name": "x-a", "value": "b"}]}
    },
    "tcp": {"tcpSocket": {"port": 8000}},
    "exec": {
        "exec": {"command": ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000))"]}
    },
}


@pytest.mark.parametrize("case", PROBES)
def test_a_probe_that_succeeds_makes_ready(bench: Bench, case: str) -> None:
    probe = {**PROBES[case], "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 60}
    ports = [{"name": "web", "containerPort": 8000}]
    pod = bench.pod(shell("main", LISTENING, ports=ports, startupProbe=probe, readinessProbe=probe))
    found = state(bench.ready(pod), "main")
    assert (found["started"], found["ready"], found["restartCount"]) == (True, True, 0)


@pytest.mark.parametrize("kind", ["startup", "liveness"])
def test_a_probe_that_fails_has_the_container_killed_and_started_again(bench: Bench, kind: str) -> None:
    probe = {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 2}
    pod = bench.pod(shell("main", _POLITE, **{f"{kind}Probe": probe}))
    bench.wait(pod, lambda obj: state(obj, "main").get("restartCount", 0) > 0)
    assert "asked" in bench.logs(pod, "main", previous=True)
    assert f"{kind} probe" in bench.event(pod, "Killing")


def test_liveness_waits_for_the_startup_probe(bench: Bench) -> None:
    never = {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1}
    pod = bench.pod(shell("main", "exec sleep 1000", startupProbe=_IF_HEALTHY, livenessProbe=never))
    bench.event(pod, "Unhealthy")
    assert state(bench.api.get(kinds.POD, "pods", pod), "main")["restartCount"] == 0
    run(bench, pod, "touch", "/tmp/healthy")
    bench.wait(pod, lambda obj: state(obj, "main").get("restartCount", 0) > 0)


def test_a_readiness_gate_holds_the_pod_back(bench: Bench) -> None:
    gate = "example.com/registered"
    pod = bench.pod(shell("main", _HEALTHY), readinessGates=[{"conditionType": gate}])
    found = bench.wait(pod, lambda obj: condition(obj, "ContainersReady").get("status") == "True")
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    patch = {"status": {"conditions": [{"type": gate, "status": "True"}]}}
    path = f"/api/v1/namespaces/pods/pods/{pod}/status"
    bench.api.call("PATCH", path, patch, content="application/strategic-merge-patch+json")
    bench.ready(pod)


def ending(bench: Bench, pod: str) -> tuple[Manifest, float]:
    """Delete a pod; its last state, and the seconds until its container had ended."""
    began_s = time.monotonic()
    bench.delete(pod)
    ended = bench.wait(pod, lambda obj: terminated(obj, "main"))
    return ended, time.monotonic() - began_s


def test_pre_stop_comes_before_sigterm(bench: Bench) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo draining > /proc/1/fd/1"]}}}
    pod = bench.pod(
        shell("main", _POLITE, lifecycle=hook, readinessProbe=_IF_HEALTHY), terminationGracePeriodSeconds=20
    )
    bench.ready(pod)
    ended, _ = ending(bench, pod)
    assert terminated(ended, "main")["exitCode"] == 0
    assert bench.logs(pod, "main").split() == ["draining", "asked"]
    bench.gone(pod)


def test_what_does_not_end_is_killed_when_the_grace_period_is_over(bench: Bench) -> None:
    hook = {"preStop": {"exec": {"command": ["sleep", "60"]}}}
    pod = bench.pod(shell("main", "exec sleep 1000", lifecycle=hook), terminationGracePeriodSeconds=1)
    bench.ready(pod)
    ended, took_s = ending(bench, pod)
    assert terminated(ended, "main")["exitCode"] == 128 + signal.SIGKILL
    assert took_s >= 3  # the grace period, and the two seconds that SIGTERM is given in any case


def test_a_second_deletion_may_shorten_the_grace_period(bench: Bench) -> None:
    pod = bench.pod(shell("main", "exec sleep 1000"), terminationGracePeriodSeconds=600)
    bench.ready(pod)
    bench.delete(pod)
    bench.wait(pod, lambda obj: "deletionTimestamp" in obj["metadata"])
    bench.delete(pod, 1)
    bench.gone(pod)


def test_a_pod_that_is_being_deleted_is_not_ready(bench: Bench) -> None:
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "until test -e /tmp/go; do sleep 0.05; done"]}}}
    probe = {**_IF_HEALTHY, "failureThreshold": 1}
    pod = bench.pod(
        shell("main", "touch /tmp/healthy; " + _POLITE, lifecycle=hook, readinessProbe=probe),
        terminationGracePeriodSeconds=60,
    )
    bench.ready(pod)
    bench.delete(pod)
    run(bench, pod, "rm", "/tmp/healthy")
    bench.ready(pod, "False")  # readiness is asked until the end
    run(bench, pod, "touch", "/tmp/go")
    bench.gone(pod)
    assert "asked" in bench.logs(pod, "main")


def test_a_deleted_namespace_takes_its_pods_along(bench: Bench) -> None:
    bench.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "doomed"}})
    elsewhere = Bench(
        cluster=bench.cluster, network=bench.network, node=bench.node, api=bench.api, namespace="doomed"
    )
    pod = elsewhere.pod(
        shell("main", _POLITE), serviceAccountName="default", automountServiceAccountToken=False
    )
    elsewhere.ready(pod)
    bench.api.call("DELETE", "/api/v1/namespaces/doomed")
    elsewhere.gone(pod)
