"""The pod network of one cluster of this machine.

    with ControlPlane(Options(process_nodes=True)) as cluster, Network(cluster) as network:
        pod = network.attach(uid, namespace="agents", hostname="chat-0")
        subprocess.Popen(network.enter(pod.netns, ["python3", "-m", "http.server", "8000"]))

The node is a network namespace: pods have links into it, kube-proxy programs Service addresses in it, and the host
reaches pods and Services through it. Pods reach each other as NetworkPolicies let them, Services, the API server and the
host, and nothing else.
"""

import secrets
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.process import Workplace, wait_until
from tests.e2e.localcluster.ranges import Ranges
from tests.e2e.localcluster.watchdog import remove_namespace

from . import hosts, netns, policies
from .follow import Follower
from .hosts import HostsFiles, Reader
from .netns import NetworkFailed, unavailable
from .policies import PolicyRules
from .services import KubeProxy

__all__ = ["Network", "NetworkFailed", "PodNet", "unavailable"]

_ROOT = Path(__file__).parents[3]
_RELAY_TIMEOUT_S = 20.0  # a Python that only imports asyncio: 0.2 s

# No server is named: without one a resolver asks 127.0.0.1, where nobody listens, and fails at once.
_RESOLV_CONF = "# Names are in /etc/hosts.\noptions timeout:1 attempts:1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNet:
    """What one pod got."""

    netns: Path  # for `nsenter --net=`
    ip: str
    hosts: Path  # to mount as /etc/hosts: kept current in place
    resolv_conf: Path  # to mount as /etc/resolv.conf


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attached:
    """A pod's entry in our books."""

    net: PodNet
    name: str  # of its namespace
    link: str  # in the node's namespace
    number: int


class Network:
    """See the module. Attributes: `ranges`; `node`, the path of the node's namespace."""

    def __init__(self, cluster: ControlPlane, *, node_name: str = "node-local") -> None:
        if cluster.ranges is None:
            raise ValueError("the control plane has no address ranges: Options(process_nodes=True)")
        self.ranges: Ranges = cluster.ranges
        self._cluster = cluster
        self._node_name = node_name
        self._name = f"agentic-{secrets.token_hex(4)}"
        self.node = netns.path_of(self._name)
        self._lock = threading.Lock()
        self._pods: dict[str, _Attached] = {}
        self._next = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._place = stack.enter_context(Workplace(prefix="agentic-network-"))
            stack.callback(self._remove_namespaces)
            self._place.own_namespace(self._name)
            netns.new_node(self._name, self.ranges, f"ag{self._name.removeprefix('agentic-')}")
            self._start_relay()
            self._proxy().start()
            self._hosts = HostsFiles(self._place.folder)
            self._rules = PolicyRules(self.node, self.ranges)
            self._followers = [
                stack.enter_context(Follower(self._cluster, hosts.PATHS, self._hosts.changed)),
                stack.enter_context(Follower(self._cluster, policies.PATHS, self._rules.changed)),
            ]
            self._resolv_conf = self._place.folder / "resolv.conf"
            self._resolv_conf.write_text(_RESOLV_CONF)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def service_host(self) -> str:
        """KUBERNETES_SERVICE_HOST of every container."""
        return str(self.ranges.api_service)

    @property
    def service_port(self) -> str:
        """KUBERNETES_SERVICE_PORT of every container."""
        return "443"

    @property
    def node_ip(self) -> str:
        return str(self.ranges.node)

    @property
    def host_ip(self) -> str:
        """The machine outside, where the tests run, as pods see it."""
        return str(self.ranges.host)

    @property
    def pod_cidr(self) -> str:
        return str(self.ranges.pods)

    def endpoint(self) -> tuple[str, bytes]:
        """The API server as pods and the node see it: its URL and CA certificate (PEM)."""
        return f"https://{self.ranges.node}:{self._cluster.apiserver_port}", self._cluster.ca.read_bytes()

    def enter(self, namespace: Path, command: Sequence[str]) -> list[str]:
        """The command line that runs a command in a pod's namespace."""
        return netns.enter(namespace, command)

    def wait_ready(self) -> None:
        """Return once kube-proxy has programmed the Services; it waits for the Node object to have an address.

        Raises:
            StartFailed: it ended or was not ready in time.
        """
        self._proxy().wait_ready()

    def attach(self, pod_uid: str, *, namespace: str = "default", hostname: str = "") -> PodNet:
        """A namespace and an address for a pod; the same again for a pod that has them. Thread-safe.

        Raises:
            NetworkFailed: no address is left, the kernel refused, or a NetworkPolicy is beyond us.
        """
        self._check()
        with self._lock:
            if pod_uid not in self._pods:
                self._pods[pod_uid] = self._new_pod(namespace, hostname)
            return self._pods[pod_uid].net

    def detach(self, pod_uid: str) -> None:
        """Kill what runs in the pod's namespace and remove it; nothing for an unknown pod. Thread-safe."""
        with self._lock:
            pod = self._pods.pop(pod_uid, None)
            if pod is None:
                return
            netns.remove_pod(pod.name, self._name, pod.link)
            self._place.disown_namespace(pod.name)
            self._hosts.remove(pod.net.hosts.name)

    def hosts_file(self, namespace: str) -> Path:
        """Names as a pod of this namespace sees them; kept current in place."""
        return self._hosts.add(f"hosts.{namespace}", Reader(namespace=namespace))

    def _new_pod(self, namespace: str, hostname: str) -> _Attached:
        number = self._free_number()
        address = IPv4Address(self.ranges.addresses[number])
        name, link = f"{self._name}-{number}", f"pod{number}"
        self._place.own_namespace(name)
        try:
            netns.new_pod(name, self._name, self.ranges, address, link)
        except BaseException:
            netns.remove_pod(name, self._name, link)
            self._place.disown_namespace(name)
            raise
        reader = Reader(namespace=namespace, hostname=hostname, address=str(address))
        file = self._hosts.add(f"hosts.{namespace}.{number}", reader)
        net = PodNet(netns=netns.path_of(name), ip=str(address), hosts=file, resolv_conf=self._resolv_conf)
        return _Attached(net=net, name=name, link=link, number=number)

    def _free_number(self) -> int:
        """In turn, so that an address is not given away while others still send to its last owner."""
        used = {pod.number for pod in self._pods.values()}
        count = len(self.ranges.addresses)
        for step in range(count):
            number = (self._next + step) % count
            if number not in used:
                self._next = number + 1
                return number
        raise NetworkFailed(f"all {count} pod addresses of {self.ranges.pods} are in use")

    def _start_relay(self) -> None:
        port = str(self._cluster.apiserver_port)
        command = [sys.executable, "-m", f"{__package__}.relay", str(self.node), self.node_ip, port, port]
        relay = self._place.start("relay", command, env={"PYTHONPATH": str(_ROOT)})
        wait_until(
            lambda: b"listening" in relay.log.read_bytes(),
            timeout_s=_RELAY_TIMEOUT_S, what="the API relay", watch=[relay],
        )  # fmt: skip

    def _check(self) -> None:
        """A new pod is not to live by stale names, Services or policies."""
        for process in self._place.processes.values():
            if not process.alive:
                raise NetworkFailed(f"{process.name} has ended: {process.tail()}")
        for follower in self._followers:
            try:
                follower.check()
            except Exception as error:
                raise NetworkFailed(f"the network no longer follows the API server: {error!r}") from error
        if self._rules.problem:
            raise NetworkFailed(self._rules.problem)

    def _proxy(self) -> KubeProxy:
        url, ca_pem = self.endpoint()
        return KubeProxy(
            place=self._place, netns=self.node, ranges=self.ranges, node_name=self._node_name,
            api_url=url, ca_pem=ca_pem, token=self._cluster.token("kube-proxy"),
        )  # fmt: skip

    def _remove_namespaces(self) -> None:
        for uid in list(self._pods):
            self.detach(uid)
        for name in ("kube-proxy", "relay"):
            if name in self._place.processes:
                self._place.stop(name)
        remove_namespace(self._name)
        self._place.disown_namespace(self._name)
