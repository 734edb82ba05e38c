"""The pod network: pods, Services and names as a cluster has them, and nothing left of it afterwards."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.localcluster.process import wait_until
from tests.e2e.processnode import netns
from tests.e2e.processnode.network import Network, NetworkFailed, PodNet, unavailable

from .netkit import PORT, Pods, Refused, ask, inside, node_object, resolve

_REASON = unavailable()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))

# EndpointSlice controller and kube-proxy each gather changes for up to a second.
_SYNC_TIMEOUT_S = 30.0

_BARE = Options(controllers=True, pods=False, process_nodes=True)


@contextlib.contextmanager
def _cluster(options: Options = _BARE) -> Iterator[tuple[ControlPlane, Network]]:
    with ControlPlane(options) as control_plane, Network(control_plane) as network:
        answer = control_plane.request("POST", "/api/v1/nodes", node_object(network))
        assert answer.code == 201, answer.body
        network.wait_ready()
        yield control_plane, network


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[ControlPlane, Network]]:
    with _cluster() as running:
        yield running


@pytest.fixture
def pods(cluster: tuple[ControlPlane, Network]) -> Iterator[Pods]:
    yield from _pods(*cluster)


def _pods(control_plane: ControlPlane, network: Network) -> Iterator[Pods]:
    namespace = f"t-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(namespace)
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    _eventually(lambda: control_plane.request("GET", account).code == 200, "the service account")
    made = Pods(cluster=control_plane, network=network, namespace=namespace)
    try:
        yield made
    finally:
        made.close()
        control_plane.kubectl("delete", "namespace", namespace, "--wait=false")


def _eventually(holds: Callable[[], bool], what: str) -> None:
    wait_until(holds, timeout_s=_SYNC_TIMEOUT_S, what=what)


def _answers(url: str) -> bool:
    try:
        return bool(ask(url))
    except OSError:
        return False


def _refused(url: str) -> bool:
    try:
        ask(url)
    except Refused:
        return True
    except OSError:
        return False
    return False


def test_pods_and_host_reach_each_other_under_their_own_addresses(pods: Pods) -> None:
    one, two = pods.create("one", app="a"), pods.create("two", app="a")
    network = pods.network
    assert ask(f"http://{two.ip}:{PORT}/", network=network, pod=one) == f"two {one.ip}"
    assert ask(f"http://{one.ip}:{PORT}/", network=network, pod=two) == f"one {two.ip}"
    assert ask(f"http://localhost:{PORT}/", network=network, pod=one) == "one 127.0.0.1"
    assert ask(f"http://{one.ip}:{PORT}/") == f"one {network.host_ip}"
    with _server_on(network.host_ip) as port:
        assert ask(f"http://{network.host_ip}:{port}/", network=network, pod=one) == f"host {one.ip}"


def test_pods_have_no_way_out(pods: Pods) -> None:
    pod = pods.create("one", app="a")
    routes = subprocess.run(
        ["ip", "-brief", "-4", "addr", "show", "dev", "eth0"], check=False, capture_output=True, text=True
    )
    outside = routes.stdout.split()[2].split("/")[0] if routes.returncode == 0 else "192.0.2.1"
    with pytest.raises(OSError, match="unreachable"):
        ask(f"http://{outside}:{PORT}/", network=pods.network, pod=pod)


def test_a_service_answers_pods_the_host_and_the_pod_behind_it(pods: Pods) -> None:
    server, client = pods.create("server", app="web"), pods.create("client", app="other")
    url = f"http://{pods.expose('web')}/"
    _eventually(lambda: _answers(url), "the Service to answer")
    assert ask(url, network=pods.network, pod=client) == f"server {client.ip}"
    # The way out and back of a pod that calls itself: its own address must have been replaced on the way.
    assert ask(url, network=pods.network, pod=server).startswith("server ")
    assert ask(url).startswith("server ")


def test_only_ready_pods_get_requests_and_without_any_they_are_refused(pods: Pods) -> None:
    one, two = pods.create("one", app="web"), pods.create("two", app="web")
    url = f"http://{pods.expose('web')}/"
    network = pods.network

    def answering(calls: int) -> set[str]:
        return {ask(url, network=network, pod=two).split()[0] for _ in range(calls)}

    _eventually(lambda: _answers(url), "the Service to answer")
    _eventually(lambda: answering(4) == {"one", "two"}, "both pods to answer")
    pods.report("one", one, ready=False)
    _eventually(lambda: answering(6) == {"two"}, "pod one to get no more requests")
    pods.report("two", two, ready=False)
    _eventually(lambda: _refused(url), "the Service to refuse")
    with pytest.raises(Refused):
        ask(url, network=network, pod=one)
    pods.report("two", two, ready=True)
    _eventually(lambda: _answers(url), "the Service to answer again")
    assert answering(3) == {"two"}


def test_network_policies_keep_out_whom_they_do_not_name(pods: Pods) -> None:
    control_plane, network = pods.cluster, pods.network
    guarded, friend, other = (pods.create(name, app=name) for name in ("guarded", "friend", "other"))
    service = f"http://{pods.expose('guarded')}/"
    own = f"http://{guarded.ip}:{PORT}/"
    _eventually(lambda: _answers(service), "the Service to answer")
    assert ask(own, network=network, pod=other).startswith("guarded")

    def kept_out(url: str, pod: PodNet) -> bool:
        try:
            ask(url, network=network, pod=pod, timeout_s=1)
        except OSError as error:
            return "timed out" in str(error)
        return False

    policies = f"/apis/networking.k8s.io/v1/namespaces/{pods.namespace}/networkpolicies"
    rule = {"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": "http"}]}
    spec = {"podSelector": {"matchLabels": {"app": "guarded"}}, "policyTypes": ["Ingress"], "ingress": [rule]}
    answer = control_plane.request("POST", policies, {"metadata": {"name": "guard"}, "spec": spec})
    assert answer.code == 201, answer.body
    _eventually(lambda: kept_out(own, other), "the policy to hold")
    assert kept_out(service, other), "a Service is no way round a policy"
    for pod in (friend, guarded):
        assert ask(service, network=network, pod=pod).startswith("guarded")
    assert ask(own).startswith("guarded"), "the host is where probes come from"
    control_plane.request("DELETE", f"{policies}/guard")
    _eventually(lambda: not kept_out(own, other), "the policy to be lifted")


def test_a_policy_beyond_us_lets_no_pod_start(pods: Pods) -> None:
    policies = f"/apis/networking.k8s.io/v1/namespaces/{pods.namespace}/networkpolicies"
    pods.create("one", app="one")
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}
    assert pods.cluster.request("POST", policies, {"metadata": {"name": "out"}, "spec": spec}).code == 201

    def starts() -> str:
        try:
            pods.network.attach("another")
        except NetworkFailed as error:
            return str(error)
        pods.network.detach("another")
        return ""

    _eventually(lambda: "out: egress is not translated" in starts(), "new pods to be refused")
    pods.cluster.request("DELETE", f"{policies}/out")
    _eventually(lambda: not starts(), "new pods to be let in again")


def test_names_resolve_as_in_the_pods_namespace_and_follow_what_changes(pods: Pods) -> None:
    control_plane, network = pods.cluster, pods.network
    pod = pods.create("one", app="peers")
    address = pods.expose("web")
    long = f"web.{pods.namespace}"
    names = ("web", long, f"{long}.svc", f"{long}.svc.cluster.local")
    _eventually(lambda: resolve(network, pod, "web")["web"] == {address}, "the Service's name")
    assert resolve(network, pod, *names) == {name: {address} for name in names}
    assert resolve(network, pod, "one", "kubernetes.default.svc", "kubernetes", "no-such") == {
        "one": {pod.ip},
        "kubernetes.default.svc": {network.service_host},
        "kubernetes": set(),
        "no-such": set(),
    }
    # A container has the file mounted for as long as it lives.
    with _mounted(network, pod) as container:
        pods.expose("peers", headless=True)
        _eventually(lambda: _hosts_line(container, "peers") == {pod.ip}, "a headless Service's pods")
        two = pods.create("two", app="peers")
        _eventually(lambda: _hosts_line(container, "peers") == {pod.ip, two.ip}, "its second pod")
        control_plane.request("DELETE", f"/api/v1/namespaces/{pods.namespace}/services/peers")
        _eventually(lambda: _hosts_line(container, "peers") == set(), "a removed Service to have no name")


def test_the_api_server_answers_in_cluster_clients(pods: Pods, tmp_path: Path) -> None:
    control_plane, network = pods.cluster, pods.network
    pod = pods.create("one", app="a")
    mounted = tmp_path / "run"
    account = mounted / "secrets" / "kubernetes.io" / "serviceaccount"
    account.mkdir(parents=True)
    token = control_plane.kubectl("create", "token", "default", "-n", pods.namespace)
    (account / "token").write_text(token.strip())
    (account / "ca.crt").write_bytes(control_plane.ca.read_bytes())
    (account / "namespace").write_text(pods.namespace)
    kubectl = [
        "env", f"KUBERNETES_SERVICE_HOST={network.service_host}", f"KUBERNETES_SERVICE_PORT={network.service_port}",
        "KUBECONFIG=/dev/null", str(control_plane.kubectl_path),
    ]  # fmt: skip
    files = [(mounted, "/var/run")]
    who = inside(network, pod, [*kubectl, "auth", "whoami", "-o", "name"], files=files)
    assert "selfsubjectreview" in who
    told = inside(network, pod, [*kubectl, "auth", "whoami"], files=files)
    assert f"system:serviceaccount:{pods.namespace}:default" in told


def test_a_restarted_api_server_is_found_again(pods: Pods) -> None:
    control_plane, network = pods.cluster, pods.network
    pod = pods.create("one", app="late")
    control_plane.stop_apiserver()
    with pytest.raises(OSError, match=r"."):
        ask(f"https://{network.service_host}/readyz", network=network, pod=pod)
    control_plane.start_apiserver()
    url = f"http://{pods.expose('late')}/"
    _eventually(lambda: _answers(url), "kube-proxy to follow again")
    _eventually(lambda: bool(resolve(network, pod, "late")["late"]), "names to follow again")


def test_a_detached_pod_is_gone_with_what_ran_in_it(cluster: tuple[ControlPlane, Network]) -> None:
    _, network = cluster
    pod = network.attach("a")
    assert network.attach("a") == pod
    running = subprocess.Popen(network.enter(pod.netns, ["setsid", "sleep", "600"]))
    _eventually(lambda: _ping(pod.ip), "the pod to answer")
    network.detach("a")
    assert not pod.netns.exists()
    assert running.wait(timeout=10) == -signal.SIGKILL
    assert not _ping(pod.ip)
    again = network.attach("a")
    network.detach("a")
    assert again.ip != pod.ip, "an address that others may still send to is not given away at once"
    network.detach("never-there")


def test_two_clusters_side_by_side_share_no_address_and_no_way(pods: Pods) -> None:
    here = pods.create("here", app="web")
    url = f"http://{pods.expose('web')}/"
    with (
        _cluster() as (other_plane, other_network),
        contextlib.contextmanager(_pods)(other_plane, other_network) as others,
    ):
        there = others.create("there", app="web")
        other_url = f"http://{others.expose('web')}/"
        assert not pods.network.ranges.pods.overlaps(other_network.ranges.pods)
        assert not pods.network.ranges.services.overlaps(other_network.ranges.services)
        _eventually(lambda: _answers(url) and _answers(other_url), "both Services to answer")
        assert (ask(url).split()[0], ask(other_url).split()[0]) == ("here", "there")
        with pytest.raises(OSError, match="unreachable"):
            ask(f"http://{there.ip}:{PORT}/", network=pods.network, pod=here)
    assert _traces(other_network) == []
    assert ask(url).startswith("here")


def test_nothing_is_left_when_the_test_process_is_killed() -> None:
    script = """
import subprocess, sys, threading
from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.processnode.network import Network
with ControlPlane(Options(controllers=False, pods=False, process_nodes=True)) as cluster, Network(cluster) as network:
    pod = network.attach("a")
    escaped = subprocess.Popen(network.enter(pod.netns, ["setsid", "sleep", "600"]))
    print(network.node.name, cluster.folder, escaped.pid, *cluster.pids().values(), flush=True)
    threading.Event().wait()
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[3]) as process:  # fmt: skip
        assert process.stdout is not None
        name, folder, *pids = process.stdout.readline().split()
        process.kill()
    _eventually(lambda: not _left(name), "namespaces and links to be removed")
    _eventually(lambda: not any(psutil.pid_exists(int(pid)) for pid in pids), "processes to be killed")
    _eventually(lambda: not Path(folder).exists(), "the folder to be removed")


def test_without_rights_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in str(netns.unavailable())


def _traces(network: Network) -> list[str]:
    with contextlib.suppress(TimeoutError):
        _eventually(lambda: not _left(network.node.name), "the network to be removed")
    return _left(network.node.name)


def _left(name: str) -> list[str]:
    """Namespaces and links that carry the name of a cluster's node."""
    token = name.removeprefix("agentic-")
    folders = (Path("/sys/class/net"), Path("/run/netns"))
    return [entry.name for folder in folders for entry in folder.iterdir() if token in entry.name]


def _ping(ip: str) -> bool:
    """Whether the address has a host: a closed port refuses, a missing pod does not."""
    return _refused(f"http://{ip}:9/")


@contextlib.contextmanager
def _mounted(network: Network, pod: PodNet) -> Iterator[int]:
    """A process that holds the pod's hosts file mounted as a container does; yields its id."""
    shell = f"mount --bind {pod.hosts} /etc/hosts && echo mounted && exec sleep 600"
    command = network.enter(pod.netns, ["unshare", "--mount", "sh", "-ec", shell])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "mounted\n"
            yield process.pid
        finally:
            process.kill()


def _hosts_line(container: int, name: str) -> set[str]:
    """The addresses that a container's /etc/hosts has for a name."""
    lines = Path(f"/proc/{container}/root/etc/hosts").read_text().splitlines()
    return {line.split()[0] for line in lines if name in line.split()[1:]}


@contextlib.contextmanager
def _server_on(address: str) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = f"host {self.client_address[0]}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer((address, 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
