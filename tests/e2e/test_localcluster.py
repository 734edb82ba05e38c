"""The local cluster itself: pods become Ready, writes are counted, faults reach the client, CRDs install."""

import http.client
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.localcluster import controlplane, process, providers
from tests.e2e.localcluster.calls import matching
from tests.e2e.localcluster.controlplane import ControlPlane, Options, Response
from tests.e2e.localcluster.faultproxy import FaultProxy
from tests.e2e.localcluster.faults import (
    Action,
    Answer,
    Close,
    Delay,
    Drop,
    EventAction,
    EventRule,
    Hang,
    Repeat,
    Reset,
    Rule,
    Run,
    When,
    event_of,
)
from tests.e2e.localcluster.process import wait_until

pytest_plugins = ("tests.e2e.localcluster.fixtures",)

REPOSITORY = Path(__file__).parents[2]


def deployment(name: str, *, gpus: int) -> dict[str, Any]:
    labels = {"app": name}
    limits = {"nvidia.com/gpu": str(gpus), "memory": "64Gi"}
    pod = {
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "initContainers": [{"name": "sidecar", "image": "none", "restartPolicy": "Always"}],
        "containers": [{"name": "main", "image": "none", "resources": {"limits": limits}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


class Client:
    """A plain HTTP client of the proxy, one connection per call."""

    def __init__(self, proxy: FaultProxy, cp: ControlPlane, namespace: str) -> None:
        url, ca_pem = proxy.endpoint()
        self.address = urlsplit(url).netloc
        self.tls = ssl.create_default_context(cadata=ca_pem.decode())
        self.headers = {"Authorization": f"Bearer {cp.admin_token}", "Content-Type": "application/json"}
        self.base = f"/api/v1/namespaces/{namespace}/configmaps"

    def create(self, name: str, *, timeout_s: float = 20) -> Response:
        return self.send("POST", self.base, config_map(name), timeout_s=timeout_s)[0]

    def send(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 20
    ) -> tuple[Response, dict[str, str]]:
        connection = http.client.HTTPSConnection(self.address, timeout=timeout_s, context=self.tls)
        try:
            connection.request(method, path, body=json.dumps(body) if body else None, headers=self.headers)
            answer = connection.getresponse()
            return Response(code=answer.status, body=answer.read()), dict(answer.headers)
        finally:
            connection.close()

    def watch(self, query: str = "watch=1") -> Iterator[dict[str, Any]]:
        """Events, until the other side ends the watch or 5 s pass without one."""
        connection = http.client.HTTPSConnection(self.address, timeout=5, context=self.tls)
        try:
            connection.request("GET", f"{self.base}?{query}", headers=self.headers)
            answer = connection.getresponse()
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()


@pytest.fixture
def client(fault_proxy: FaultProxy, control_plane: ControlPlane, namespace: str) -> Client:
    return Client(fault_proxy, control_plane, namespace)


def exists(cp: ControlPlane, namespace: str, name: str) -> bool:
    return cp.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{name}").code == 200


def test_pods_with_accelerators_and_sidecars_become_ready(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.apply([deployment("web", gpus=8)], namespace=namespace)
    control_plane.kubectl(
        "wait", "--for=condition=Available", "deployment/web", "-n", namespace, "--timeout=60s"
    )
    pods = control_plane.get("pods", "-n", namespace)["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running", "Running"]
    assert all(pod["spec"]["nodeName"].startswith("nvidia-") for pod in pods)


def test_a_service_account_may_do_what_rbac_grants_and_its_writes_are_counted(
    control_plane: ControlPlane, namespace: str
) -> None:
    cp = control_plane
    cp.kubectl("create", "serviceaccount", "writer", "-n", namespace)
    cp.kubectl("create", "role", "writer", "--verb=create", "--resource=configmaps", "-n", namespace)
    cp.kubectl(
        "create",
        "rolebinding",
        "writer",
        "--role=writer",
        f"--serviceaccount={namespace}:writer",
        "-n",
        namespace,
    )
    kubeconfig = cp.user_kubeconfig(namespace, "writer")
    mark = cp.mark()
    cp.kubectl("create", "configmap", "one", kubeconfig=kubeconfig)
    cp.kubectl("create", "configmap", "dry", "--dry-run=server", kubeconfig=kubeconfig)
    with pytest.raises(RuntimeError, match="forbidden"):
        cp.kubectl("create", "secret", "generic", "no", kubeconfig=kubeconfig)
    written = cp.writes(since=mark, user=f"system:serviceaccount:{namespace}:writer")
    assert [(w.verb, w.resource, w.code) for w in written] == [
        ("create", "configmaps", 201),
        ("create", "secrets", 403),
    ]


def test_third_party_crds_install_one_set_at_a_time(control_plane: ControlPlane) -> None:
    control_plane.install_third_party("inference-pool")
    assert "inferencepools" in control_plane.kubectl("api-resources", "-o", "name")
    control_plane.install_third_party()
    kinds = control_plane.kubectl("api-resources", "-o", "name").split()
    assert {
        "httproutes.gateway.networking.k8s.io",
        "inferencepools.inference.networking.k8s.io",
        "inferenceobjectives.inference.networking.x-k8s.io",
        "inferenceobjectives.llm-d.ai",
        "podmonitors.monitoring.coreos.com",
    } <= set(kinds)


def test_data_and_tokens_survive_a_restart_of_the_api_server(
    control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "stays", "-n", namespace)
    kubeconfig = control_plane.user_kubeconfig(namespace, "stays")
    control_plane.restart_apiserver()
    whoami = control_plane.kubectl("auth", "whoami", "-o", "json", kubeconfig=kubeconfig)
    assert json.loads(whoami)["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:stays"


@pytest.mark.parametrize("when", ["before", "after"])
def test_only_the_chosen_call_fails(
    client: Client, fault_proxy: FaultProxy, control_plane: ControlPlane, namespace: str, when: When
) -> None:
    creates = matching(verb="create", resource="configmaps", namespace=namespace)
    fault = Answer(code=429, retry_after_s=7, when=when)
    fault_proxy.plan(Rule(match=creates, nth={1}, action=fault))
    assert client.create("a").code == 201
    answer, headers = client.send("POST", client.base, config_map("b"))
    assert (answer.code, answer.json()["reason"], headers["Retry-After"]) == (429, "TooManyRequests", "7")
    assert client.create("c").code == 201
    assert exists(control_plane, namespace, "b") == (when == "after")
    assert [(s.code, s.injected) for s in fault_proxy.seen(creates)] == [
        (201, False),
        (429, True),
        (201, False),
    ]


@pytest.mark.parametrize("action", [Hang(), Hang(when="after"), Reset(), Reset(when="after")], ids=str)
def test_a_call_without_an_answer_is_an_error_to_the_client(
    client: Client, fault_proxy: FaultProxy, control_plane: ControlPlane, namespace: str, action: Action
) -> None:
    creates = matching(verb="create", namespace=namespace)
    fault_proxy.plan(Rule(match=creates, action=action))
    with pytest.raises(OSError, match=r"timed out|reset|without response|EOF occurred"):
        client.create("a", timeout_s=1)
    fault_proxy.wait_for(creates)
    assert exists(control_plane, namespace, "a") == (action.when == "after")


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_kill_switch_ends_a_process_at_its_nth_write(
    fault_proxy: FaultProxy, control_plane: ControlPlane, namespace: str, when: When
) -> None:
    """A shell that creates three ConfigMaps is killed at the second."""
    binary = control_plane.kubectl_path
    kubeconfig = control_plane.token_kubeconfig(control_plane.admin_token, via=fault_proxy)
    loop = f"for n in a b c; do {binary} --kubeconfig {kubeconfig} -n {namespace} create configmap $n; done"
    creates = matching(verb="create", resource="configmaps", namespace=namespace)
    victims: list[subprocess.Popen[bytes]] = []
    kill = Run(callback=lambda: os.killpg(victims[0].pid, signal.SIGKILL), when=when)
    fault_proxy.plan(Rule(match=creates, nth={1}, action=kill))
    victims.append(subprocess.Popen(["sh", "-c", loop], start_new_session=True, stdout=subprocess.DEVNULL))
    assert victims[0].wait(60) == -signal.SIGKILL
    assert [exists(control_plane, namespace, n) for n in "abc"] == [True, when == "after", False]


@pytest.mark.parametrize(
    ("action", "names"),
    [(Drop(), ["a", "c"]), (Repeat(times=2), ["a", "b", "b", "c"]), (Close(), ["a"])],
    ids=["lost", "repeated", "closed"],
)
def test_watch_events_can_be_lost_repeated_or_cut_off(
    client: Client, fault_proxy: FaultProxy, control_plane: ControlPlane, namespace: str,
    action: EventAction, names: list[str],
) -> None:  # fmt: skip
    listed = client.send("GET", client.base)[0].json()["metadata"]["resourceVersion"]
    for name in "abc":
        client.create(name)
    fault_proxy.plan(EventRule(match=event_of("configmaps", change="ADDED", name="b"), action=action))
    events = client.watch(f"watch=1&timeoutSeconds=1&resourceVersion={listed}")
    seen = [e["object"]["metadata"]["name"] for e in events]
    assert [name for name in seen if name in "abc"] == names


def test_a_delayed_event_holds_back_those_after_it(
    client: Client, fault_proxy: FaultProxy, namespace: str
) -> None:
    listed = client.send("GET", client.base)[0].json()["metadata"]["resourceVersion"]
    for name in "ab":
        client.create(name)
    fault_proxy.plan(EventRule(match=event_of("configmaps", name="a"), action=Delay(seconds=0.5)))
    started_s = time.monotonic()
    came_s = {
        event["object"]["metadata"]["name"]: time.monotonic() - started_s
        for event in client.watch(f"watch=1&timeoutSeconds=2&resourceVersion={listed}")
    }
    assert came_s["b"] >= came_s["a"] >= 0.5


def test_an_expired_watch_says_so(client: Client, fault_proxy: FaultProxy) -> None:
    client.create("a")
    rule = EventRule(match=event_of("configmaps", name="a"), action=Close(expired=True))
    fault_proxy.plan(rule)
    *_, last = client.watch()
    assert (last["type"], last["object"]["code"]) == ("ERROR", 410)


def test_a_given_cluster_is_used_and_left_running(
    control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(providers.GIVEN, str(control_plane.kubeconfig))
    with providers.open_cluster() as cluster:
        assert not isinstance(cluster, ControlPlane)
        cluster.apply([config_map("seen")], namespace=namespace)
        cluster.kubectl("create", "serviceaccount", "someone", "-n", namespace)
        assert cluster.user_kubeconfig(namespace, "someone").is_file()
    assert exists(control_plane, namespace, "seen")


def test_a_port_taken_meanwhile_is_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between choosing a free port and binding it, somebody else may bind it."""
    choose = process.free_ports
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        choices = [[*choose(2), thief.getsockname()[1]]]
        monkeypatch.setattr(controlplane, "free_ports", lambda n: choices.pop() if choices else choose(n))
        with ControlPlane(Options(controllers=False, pods=False)) as cp:
            assert cp.request("GET", "/readyz").code == 200
        assert choices == []


def test_the_command_line_keeps_a_cluster_until_sigterm_and_leaves_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "kubeconfig"
    command = [
        sys.executable,
        "-m",
        "tests.e2e.localcluster",
        "up",
        "--no-crds",
        "--kubeconfig-out",
        str(copy),
    ]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        printed = list(itertools.takewhile(lambda line: "Ctrl-C" not in line, up.stdout))
        assert f"  export KUBECONFIG={copy}\n" in printed
        (logs,) = (line for line in printed if "logs:" in line)
        assert copy.stat().st_mode & 0o077 == 0
        up.terminate()
        assert up.wait(30) == 128 + signal.SIGTERM
    assert not copy.exists()
    assert not Path(logs.split()[1]).parent.exists()


def test_nothing_is_left_when_the_test_process_is_killed() -> None:
    program = (
        "from tests.e2e.localcluster.controlplane import ControlPlane, Options\n"
        "cp = ControlPlane(Options(controllers=False, pods=False))\n"
        "cp.start()\n"
        "print(cp.folder, *cp.pids().values(), flush=True)\n"
        "import signal; signal.pause()\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        folder, *pids = child.stdout.readline().split()
        child.kill()
    wait_until(
        lambda: not Path(folder).exists() and not any(psutil.pid_exists(int(pid)) for pid in pids),
        timeout_s=10,
        what="the watchdog to clean up",
    )
