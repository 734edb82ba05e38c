"""Command lines of the control plane's programs. Pure.

Sources: each program's `--help` at the versions in `tools.py`; what was tried is in README.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .ranges import Ranges

__all__ = ["Layout", "apiserver", "controller_manager", "etcd", "kwok", "kwok_beside_real_nodes", "scheduler"]

SERVICE_RANGE = "10.96.0.0/16"
POD_RANGE = "10.244.0.1/16"  # 65,534 addresses: kwok gives one to each fake pod

# Published by nobody (RFC 5737), because nobody may dial it: the endpoint reconciler is off. Loopback is
# refused as an address to advertise, and finding a real one needs a default route.
ADVERTISED = "192.0.2.1"

# Clients' own limits, requests per second; their defaults of 20 and 50 throttle before the server does.
CLIENT_RATE = ("--kube-api-qps=200", "--kube-api-burst=400")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the programs, files and ports of one control plane are."""

    folder: Path
    binaries: Mapping[str, Path]
    etcd_port: int
    etcd_peer_port: int
    apiserver_port: int
    ranges: Ranges | None = None  # where pods really run; None: all of them are kwok's

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.apiserver_port}"

    @property
    def ca(self) -> Path:
        """What the API server writes at its first start: its certificate, then the CA that signed it."""
        return self.folder / "certificates" / "apiserver.crt"

    @property
    def signing_key(self) -> Path:
        return self.folder / "service-account.key"

    @property
    def verifying_key(self) -> Path:
        return self.folder / "service-account.pub"

    @property
    def tokens(self) -> Path:
        return self.folder / "tokens.csv"

    @property
    def audit_policy(self) -> Path:
        return self.folder / "audit-policy.json"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    def kubeconfig(self, user: str) -> Path:
        return self.folder / f"{user}.kubeconfig"


def etcd(at: Layout) -> list[str]:
    client, peer = f"http://127.0.0.1:{at.etcd_port}", f"http://127.0.0.1:{at.etcd_peer_port}"
    return [
        str(at.binaries["etcd"]),
        f"--data-dir={at.folder / 'etcd'}",
        "--unsafe-no-fsync",  # nothing here outlives the run
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--log-level=warn",
    ]


def apiserver(at: Layout) -> list[str]:
    return [
        str(at.binaries["kube-apiserver"]),
        f"--etcd-servers=http://127.0.0.1:{at.etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={at.apiserver_port}",
        *_addresses(at.ranges),
        f"--cert-dir={at.ca.parent}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={at.verifying_key}",
        f"--service-account-signing-key-file={at.signing_key}",
        f"--token-auth-file={at.tokens}",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        f"--audit-policy-file={at.audit_policy}",
        f"--audit-log-path={at.audit_log}",
        "--audit-log-mode=blocking",
        "--audit-log-maxsize=10240",  # MB: never rotated in one run, so offsets stay valid
    ]


def _addresses(ranges: Ranges | None) -> list[str]:
    if ranges is None:
        advertised, reconciler, services = ADVERTISED, "none", SERVICE_RANGE
    else:
        # It listens on loopback all the same: the pod network carries calls to this address there.
        advertised, reconciler, services = str(ranges.node), "lease", str(ranges.services)
    return [
        f"--advertise-address={advertised}",
        f"--endpoint-reconciler-type={reconciler}",
        f"--service-cluster-ip-range={services}",
    ]


def controller_manager(at: Layout) -> list[str]:
    return [
        str(at.binaries["kube-controller-manager"]),
        f"--kubeconfig={at.kubeconfig('kube-controller-manager')}",
        f"--service-account-private-key-file={at.signing_key}",
        f"--root-ca-file={at.ca}",
        "--leader-elect=false",
        "--secure-port=0",
        # nodelifecycle stays: without it the not-ready taint is never removed and pods stay Pending.
        "--controllers=*,-nodeipam",
        # kwok renews leases, but a machine under load may miss several; no test is about lost nodes.
        "--node-monitor-grace-period=2h",
        *CLIENT_RATE,
    ]


def scheduler(at: Layout) -> list[str]:
    return [
        str(at.binaries["kube-scheduler"]),
        f"--kubeconfig={at.kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--secure-port=0",
        *CLIENT_RATE,
    ]


def kwok(at: Layout) -> list[str]:
    if at.ranges is not None:
        return kwok_beside_real_nodes(at.binaries["kwok"], at.kubeconfig("kwok"))
    return [*_kwok(at.binaries["kwok"], at.kubeconfig("kwok")), "--manage-all-nodes"]


def kwok_beside_real_nodes(binary: Path, kubeconfig: Path) -> list[str]:
    """kwok for a cluster whose other nodes are real: it leaves those alone."""
    return [*_kwok(binary, kubeconfig), "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"]


def _kwok(binary: Path, kubeconfig: Path) -> list[str]:
    # No --config: then it plays its default stages; an empty config would mean no stages at all.
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--cidr={POD_RANGE}",
        "--node-lease-duration-seconds=40",
    ]
