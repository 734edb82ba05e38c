"""A control plane of real programs on loopback: etcd, kube-apiserver, controller-manager, scheduler, kwok.

    with ControlPlane(Options(crds=("gateway-api",))) as cp:
        cp.kubectl("get", "nodes")
        mark = cp.mark()
        ...
        assert cp.writes(user="system:serviceaccount:agentic-system:operator", since=mark) == []

Pods are kwok's: they are scheduled and become Ready, nothing runs in them. With `process_nodes` there may be nodes
beside kwok's whose pods do run: tests/e2e/processnode.
"""

import http.client
import json
import ssl
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from . import commands, tools
from .audit import POLICY, AuditEntry, parse
from .audit import writes as writes_among
from .cluster import Cluster
from .credentials import ADMIN, kubeconfig_text, new_tokens, token_file_text, write_private, write_signing_key
from .nodes import DEFAULT_NODES, NodeSpec, manifest
from .process import StartFailed, Workplace, free_ports, wait_until
from .ranges import Claim, Ranges

__all__ = ["ControlPlane", "Options", "Response"]

# Ready takes 3 to 5 s on 2 idle cores; a busy machine gets twenty times that.
READY_TIMEOUT_S = 90.0

# One /readyz poll; short, because whoever holds the port may accept and never answer.
_PROBE_TIMEOUT_S = 5.0

_COMPONENTS = ("kube-controller-manager", "kube-scheduler", "kwok", "kube-proxy")
_PORT_ATTEMPTS = 3  # another process may take a free port before ours binds it


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to start besides etcd and the API server."""

    controllers: bool = True  # controller-manager: Deployments, garbage collection, service accounts
    pods: bool = True  # scheduler and kwok; needs `controllers`
    nodes: Sequence[NodeSpec] = DEFAULT_NODES
    crds: tuple[str, ...] = ()  # sets of thirdparty.CRD_SETS; () installs none
    # Address ranges of its own, and nodes without kwok's annotation are left to a process node. Needs root.
    process_nodes: bool = False

    def __post_init__(self) -> None:
        if self.pods and not self.controllers:
            raise ValueError("pods need controllers: nobody else removes a new node's not-ready taint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """One raw answer of the API server."""

    code: int
    body: bytes

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


class ControlPlane(Cluster):
    """See the module. Attributes besides `Cluster`'s: `url`, `ca`, `admin_token`, `started_in_s`."""

    has_audit = True

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        names = tools.CONTROL_PLANE if self.options.pods else tools.CONTROL_PLANE[:5]
        self._binaries = tools.ensure_all(names)
        self._claim = Claim() if self.options.process_nodes else None
        self._place = Workplace()
        self._tokens = new_tokens(ADMIN, *_COMPONENTS)
        self.admin_token = self._tokens[ADMIN]
        self.started_in_s = 0.0
        super().__init__(
            kubeconfig=self._place.folder / f"{ADMIN}.kubeconfig",
            kubectl=self._binaries["kubectl"],
            folder=self._place.folder,
        )

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return self._at.url

    @property
    def ca(self) -> Path:
        return self._at.ca

    @property
    def apiserver_port(self) -> int:
        return self._at.apiserver_port

    @property
    def ranges(self) -> Ranges | None:
        """Addresses of pods that really run, and of Services; None without `process_nodes`."""
        return self._claim.ranges if self._claim else None

    def endpoint(self) -> tuple[str, bytes]:
        return self.url, self.ca.read_bytes()

    def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises:
            StartFailed: a program ended or was not ready in time; its log's tail is in the message.
        """
        started_s = time.monotonic()
        self._write_secrets()
        for attempt in range(_PORT_ATTEMPTS):
            try:
                self._start_apiserver_and_etcd()
                break
            except StartFailed as error:
                if "address already in use" not in str(error) or attempt == _PORT_ATTEMPTS - 1:
                    raise
                for name in list(self._place.processes):
                    self._place.stop(name)
        self._start_components()
        self._wait_for_components()
        if self.options.crds:
            self.install_third_party(*self.options.crds)
        self.started_in_s = time.monotonic() - started_s

    def stop(self) -> None:
        """Kill every process and remove the folder."""
        self._place.close()
        if self._claim:
            self._claim.release()

    def restart_apiserver(self, *, grace_s: float = 0.0) -> None:
        """Stop the API server, start it again on the same port with the same data, and wait for /readyz.

        Args:
            grace_s: how long it may finish open requests. With watches open it uses all of it; 0 is a crash.
        """
        self.stop_apiserver(grace_s=grace_s)
        self.start_apiserver()

    def stop_apiserver(self, *, grace_s: float = 0.0) -> None:
        """Stop the API server; its data stays."""
        self._place.stop("kube-apiserver", grace_s=grace_s)

    def start_apiserver(self) -> None:
        """Bring a stopped API server back and wait for /readyz."""
        self._place.start("kube-apiserver", commands.apiserver(self._at))
        self._wait_for_apiserver()

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *,
        token: str | None = None, timeout_s: float = 30.0,
    ) -> Response:  # fmt: skip
        """One raw request, as the administrator unless given a token.

        Raises:
            OSError: no connection, or no answer in time.
        """
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._at.apiserver_port, timeout=timeout_s, context=context
        )
        try:
            connection.request(
                method, path, body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Bearer {token or self.admin_token}", "Content-Type": "application/json"},
            )  # fmt: skip
            answer = connection.getresponse()
            return Response(code=answer.status, body=answer.read())
        finally:
            connection.close()

    def mark(self) -> int:
        """A position in the audit log: everything answered before this call lies before it."""
        self._flush_audit()
        size = self._at.audit_log.stat().st_size
        torn = self._audit_tail(size).rpartition("\n")[2]  # the server may be in the middle of a line
        return size - len(torn.encode())

    def audit(self, since: int = 0) -> list[AuditEntry]:
        """Audited requests since a mark, oldest first."""
        self._flush_audit()
        with self._at.audit_log.open("rb") as log:
            log.seek(since)
            whole, _, _ = log.read().rpartition(b"\n")  # the server may be in the middle of a line
            return parse(whole.decode().splitlines())

    def writes(
        self, *, since: int = 0, user: str | None = None, resource: str | None = None,
        aside: Sequence[str] = ("leases", "events"),
    ) -> list[AuditEntry]:  # fmt: skip
        """Writes since a mark; see `audit.writes`."""
        return writes_among(self.audit(since), user=user, resource=resource, aside=aside)

    def token(self, component: str) -> str:
        """The bearer token of a component, such as kube-proxy; its name is the user in the audit log."""
        return self._tokens[component]

    def pids(self) -> dict[str, int]:
        """Process ids by program name."""
        return {name: process.pid for name, process in self._place.processes.items()}

    def rss_bytes(self) -> dict[str, int]:
        """Resident memory by program name."""
        return {name: int(psutil.Process(pid).memory_info().rss) for name, pid in self.pids().items()}

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self._place.processes[name].log

    def _write_secrets(self) -> None:
        folder = self._place.folder
        write_signing_key(folder / "service-account.key", folder / "service-account.pub")
        write_private(folder / "tokens.csv", token_file_text(self._tokens))
        write_private(folder / "audit-policy.json", json.dumps(POLICY))

    def _start_apiserver_and_etcd(self) -> None:
        etcd_port, peer_port, apiserver_port = free_ports(3)
        self._at = commands.Layout(
            folder=self._place.folder, binaries=self._binaries,
            etcd_port=etcd_port, etcd_peer_port=peer_port, apiserver_port=apiserver_port, ranges=self.ranges,
        )  # fmt: skip
        self._place.start("etcd", commands.etcd(self._at))
        self._place.start("kube-apiserver", commands.apiserver(self._at))
        self._wait_for_apiserver()
        ca_pem = self.ca.read_bytes()
        for user, token in self._tokens.items():
            write_private(
                self._at.kubeconfig(user), kubeconfig_text(url=self.url, token=token, ca_pem=ca_pem)
            )

    def _wait_for_apiserver(self) -> None:
        watched = [self._place.processes[name] for name in ("etcd", "kube-apiserver")]
        wait_until(self._answers, timeout_s=READY_TIMEOUT_S, what="the API server's /readyz", watch=watched)

    def _answers(self) -> bool:
        if not self.ca.exists():
            return False
        try:
            return self.request("GET", "/readyz", timeout_s=_PROBE_TIMEOUT_S).code == 200
        except (OSError, http.client.HTTPException):
            return False

    def _start_components(self) -> None:
        if self.options.controllers:
            self._place.start("kube-controller-manager", commands.controller_manager(self._at))
        if not self.options.pods:
            return
        self._place.start("kube-scheduler", commands.scheduler(self._at))
        self._place.start("kwok", commands.kwok(self._at))
        self.add_nodes(self.options.nodes)

    def add_nodes(self, specs: Sequence[NodeSpec]) -> None:
        """Create fake nodes; kwok makes them Ready."""
        for spec in specs:
            answer = self.request("POST", "/api/v1/nodes", manifest(spec))
            if answer.code != 201:
                raise StartFailed(f"node {spec['name']} refused: {answer.body.decode()}")

    def _wait_for_components(self) -> None:
        watched = list(self._place.processes.values())
        if self.options.controllers:
            # Pods in `default` are refused until its service account exists.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            wait_until(
                lambda: self.request("GET", account).code == 200,
                timeout_s=READY_TIMEOUT_S, what="the default service account", watch=watched,
            )  # fmt: skip
        if self.options.pods:
            wait_until(self._nodes_ready, timeout_s=READY_TIMEOUT_S, what="nodes to be Ready", watch=watched)

    def _nodes_ready(self) -> bool:
        nodes = self.request("GET", "/api/v1/nodes").json()["items"]
        return all(_is_ready(node) and not _not_ready_taint(node) for node in nodes)

    def _flush_audit(self) -> None:
        """Wait until a request of ours is in the log; then so is every request answered before it."""
        marker = uuid.uuid4().hex
        self.request("GET", f"/version?mark={marker}")
        wait_until(lambda: marker in self._audit_tail(), timeout_s=10.0, what="the audit log")

    def _audit_tail(self, size: int | None = None) -> str:
        """The end of the log; of its first `size` bytes, if given."""
        size = self._at.audit_log.stat().st_size if size is None else size
        start = max(0, size - 64 * 1024)
        with self._at.audit_log.open("rb") as log:
            log.seek(start)
            return log.read(size - start).decode(errors="replace")


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _not_ready_taint(node: dict[str, Any]) -> bool:
    return any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints", []))
