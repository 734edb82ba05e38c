"""`top` and `explain run` through a real API server's pod proxy: names survive its escaping, rights decide, and refusals say what to do."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agentic_serving.cli.scheduler_source import PORT
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.unit.cli.test_explain_run import Scheduler, served
from tests.unit.router.story import Turn

pytest_plugins = ("tests.e2e.localcluster.fixtures",)

#: As the desk names a session whose client sent `a/b`: a slash of its own, escaped, below the program's.
ESCAPED = "review/a%2Fb"
LABELS = {
    "app.kubernetes.io/managed-by": "agentic-serving",
    "app.kubernetes.io/component": "router",
    "agentic-serving.dev/stack": "chat",
}


def own_address() -> str:
    """An address of this machine that is not loopback's: the API server's proxy goes to no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def cluster(bare_api_server: ControlPlane) -> Iterator[ControlPlane]:
    """A namespace with a router pod whose address is this machine's, where a scheduler's pages are served."""
    scheduler = Scheduler()
    scheduler.story.turn(Turn(session=ESCAPED, run=ESCAPED))
    bare_api_server.create_namespace("proxied")
    account = {"metadata": {"name": "default"}}  # else a controller's work, and pods want it
    assert bare_api_server.request("POST", "/api/v1/namespaces/proxied/serviceaccounts", account).code == 201
    pods = "/api/v1/namespaces/proxied/pods"
    spec = {"containers": [{"name": "envoy", "image": "none"}]}
    pod = {"metadata": {"name": "chat-router-0", "labels": LABELS}, "spec": spec}
    assert bare_api_server.request("POST", pods, pod).code == 201
    with served(scheduler.app, host=own_address(), port=PORT):
        status = {"phase": "Running", "podIP": own_address(), "podIPs": [{"ip": own_address()}]}
        body = {"metadata": pod["metadata"], "status": status}
        assert bare_api_server.request("PUT", f"{pods}/chat-router-0/status", body).code == 200
        yield bare_api_server


def asked(kubeconfig: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "agentic_serving",
        *args,
        "-n",
        "proxied",
        "--kubeconfig",
        str(kubeconfig),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_top(cluster: ControlPlane) -> None:
    done = asked(cluster.kubeconfig, "top")
    assert done.returncode == 0, done.stderr
    assert "chat-0 is full until r2 rests" in done.stdout


@pytest.mark.parametrize("name", ["review/r1", ESCAPED, "review/r1/child"])
def test_explain_run_by_any_name(name: str, cluster: ControlPlane) -> None:
    done = asked(cluster.kubeconfig, "explain", "run", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"run {ESCAPED if name == ESCAPED else 'review/r1'}")


def test_a_run_that_nobody_remembers(cluster: ControlPlane) -> None:
    done = asked(cluster.kubeconfig, "explain", "run", "nobody")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such run is remembered; the newest are" in done.stderr


def test_a_user_without_the_right_is_told_which(cluster: ControlPlane, tmp_path: Path) -> None:
    """One who may list pods and no more."""
    name = "looker"
    metadata = {"name": name, "namespace": "proxied"}
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/proxied"
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "proxied"}]
    for path, body in (
        ("/api/v1/namespaces/proxied/serviceaccounts", {"metadata": metadata}),
        (f"{rbac}/roles", {"metadata": metadata, "rules": rules}),
        (f"{rbac}/rolebindings", {"metadata": metadata, "roleRef": reference, "subjects": subjects}),
    ):
        assert cluster.request("POST", path, body).code == 201
    path = f"/api/v1/namespaces/proxied/serviceaccounts/{name}/token"
    token = cluster.request("POST", path, {"spec": {"expirationSeconds": 600}}).json()["status"]["token"]
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    done = asked(kubeconfig, "top")
    assert done.returncode == 2
    assert "you may not get pods/proxy in namespace proxied: ask for that right" in done.stderr


def test_a_pod_that_does_not_answer_leads_to_a_port_forward(cluster: ControlPlane) -> None:
    """Its scheduler is off: nothing listens on the port."""
    pods = "/api/v1/namespaces/proxied/pods"
    labels = {**LABELS, "agentic-serving.dev/stack": "silent"}
    pod = {"metadata": {"name": "silent-router-0", "labels": labels}}
    spec = {"containers": [{"name": "envoy", "image": "none"}]}
    assert cluster.request("POST", pods, {**pod, "spec": spec}).code == 201
    status = {"phase": "Running", "podIP": "192.0.2.254", "podIPs": [{"ip": "192.0.2.254"}]}
    cluster.request("PUT", f"{pods}/silent-router-0/status", {**pod, "status": status})
    done = asked(cluster.kubeconfig, "top", "silent")
    assert done.returncode == 2
    assert "kubectl port-forward -n proxied pod/silent-router-0 9005" in done.stderr
