"""Pods for tests of the network alone: a Pod object whose status the test writes, and a small server in its namespace."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.process import wait_until
from tests.e2e.processnode.network import Network, PodNet

__all__ = ["NODE", "PORT", "Pods", "Refused", "ask", "inside", "node_object", "resolve", "service"]

NODE = "node-local"
PORT = 8000

# Says its pod's name and the address of the caller.
_SERVER = """
import http.server, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        metrics = f'pod_number{{name="{sys.argv[1]}"}} 7\\n'
        body = (metrics if self.path == "/metrics" else f"{sys.argv[1]} {self.client_address[0]}").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[2])), Handler).serve_forever()
"""

# As seen by a client that cares why it failed.
_CLIENT = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])).read().decode(), end="")
except urllib.error.URLError as error:
    print(type(error.reason).__name__, error.reason, end="")
    sys.exit(3)
"""

_START_TIMEOUT_S = 30.0  # a Python that imports http.server: 0.2 s on an idle machine


class Refused(ConnectionError):
    """The connection was refused, by a pod or in the name of a Service without endpoints."""


def ask(
    url: str, *, network: Network | None = None, pod: PodNet | None = None, timeout_s: float = 5.0
) -> str:
    """What a URL answers, asked from a pod, or from the host.

    Raises:
        Refused: the connection was.
        OSError: anything else.
    """
    client = [sys.executable, "-I", "-c", _CLIENT, url, str(timeout_s)]
    command = network.enter(pod.netns, client) if network and pod else client
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env={"NO_PROXY": "*"}
    )
    if done.returncode == 0:
        return done.stdout
    failed = Refused if done.stdout.startswith("ConnectionRefusedError") else OSError
    raise failed(done.stdout + done.stderr)


def node_object(network: Network) -> dict[str, Any]:
    """The node that the pods are bound to."""
    address = {"type": "InternalIP", "address": network.node_ip}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE},
        "spec": {"podCIDR": network.pod_cidr},
        "status": {"addresses": [address], "capacity": {"pods": "100"}},
    }


def service(name: str, *, headless: bool = False) -> dict[str, Any]:
    """A Service on port 80 for the pods labelled `app: <name>`."""
    spec: dict[str, Any] = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]}
    if headless:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


@dataclass(kw_only=True)
class Pods:
    """Pods of one namespace of one cluster."""

    cluster: ControlPlane
    network: Network
    namespace: str
    _servers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _uids: dict[str, str] = field(default_factory=dict)

    def create(self, name: str, *, app: str, port: int = PORT) -> PodNet:
        """A pod with a server that answers, Ready in the API as well."""
        container = {
            "name": "server",
            "image": "localhost/none",
            "ports": [{"name": "http", "containerPort": port}],
        }
        answer = self.cluster.request(
            "POST",
            f"/api/v1/namespaces/{self.namespace}/pods",
            {
                "metadata": {"name": name, "labels": {"app": app}},
                "spec": {"nodeName": NODE, "containers": [container], "terminationGracePeriodSeconds": 0},
            },
        )
        assert answer.code == 201, answer.body
        uid = answer.json()["metadata"]["uid"]
        net = self.network.attach(uid, namespace=self.namespace, hostname=name)
        self._uids[name] = uid
        self._serve(net, name, port)
        self.report(name, net, ready=True)
        return net

    def uid(self, name: str) -> str:
        return self._uids[name]

    def report(self, name: str, net: PodNet, *, ready: bool) -> None:
        """Write the pod's status."""
        state = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": net.ip,
            "podIPs": [{"ip": net.ip}],
            "conditions": [{"type": kind, "status": state} for kind in ("Ready", "ContainersReady")],
        }
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/status"
        pod = self.cluster.request("GET", path).json()
        answer = self.cluster.request("PUT", path, {**pod, "status": status})
        assert answer.code == 200, answer.body

    def expose(self, name: str, *, headless: bool = False) -> str:
        """Create a Service for the pods of app `name`; returns its address."""
        path = f"/api/v1/namespaces/{self.namespace}/services"
        answer = self.cluster.request("POST", path, service(name, headless=headless))
        assert answer.code == 201, answer.body
        return str(answer.json()["spec"]["clusterIP"])

    def close(self) -> None:
        """Stop the servers and give the addresses back."""
        for uid in self._uids.values():
            self.network.detach(uid)
        for server in self._servers:
            server.kill()
            server.wait()

    def _serve(self, net: PodNet, name: str, port: int) -> None:
        program = [sys.executable, "-I", "-c", _SERVER, name, str(port)]
        self._servers.append(subprocess.Popen(self.network.enter(net.netns, program)))
        wait_until(
            lambda: _answers(net.ip, port), timeout_s=_START_TIMEOUT_S, what=f"the server of pod {name}"
        )


def inside(
    network: Network, pod: PodNet, command: Sequence[str], *, files: Iterable[tuple[Path, str]] = ()
) -> str:
    """Run a command as in a container: names from the pod's hosts file, `files` bound over the machine's own.

    Raises:
        AssertionError: it failed; with what it wrote.
    """
    bindings = [(pod.hosts, "/etc/hosts"), (pod.resolv_conf, "/etc/resolv.conf"), *files]
    mounts = "".join(f"mount --bind {source} {target}\n" for source, target in bindings)
    shell = ["unshare", "--mount", "sh", "-ec", f'{mounts}exec "$@"', "sh", *command]
    done = subprocess.run(
        network.enter(pod.netns, shell), check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def resolve(network: Network, pod: PodNet, *names: str) -> dict[str, set[str]]:
    """The addresses of each name, as a program in the pod resolves it; none if it does not."""
    program = """
import json, socket, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = sorted({row[4][0] for row in socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)})
    except socket.gaierror:
        found[name] = []
print(json.dumps(found))
"""
    out = inside(network, pod, [sys.executable, "-I", "-c", program, *names])
    return {name: set(addresses) for name, addresses in json.loads(out).items()}


def _answers(ip: str, port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{ip}:{port}/", timeout=2):
            return True
    except OSError:
        return False
