"""Service addresses: the real kube-proxy in nftables mode, in the namespace of the cluster's node.

Its rules live in a table of a fixed name, hence one namespace for each cluster.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.localcluster import tools
from tests.e2e.localcluster.credentials import kubeconfig_text, write_private
from tests.e2e.localcluster.process import Workplace, wait_until
from tests.e2e.localcluster.ranges import Ranges

from . import packages
from .netns import enter

__all__ = ["KubeProxy"]

# A second or two after its node has an address; a busy machine gets twenty times that.
READY_TIMEOUT_S = 45.0

_PROBE_TIMEOUT_S = 1.0  # until its rules are there, packets to the address go nowhere


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeProxy:
    """Where it runs, and as whom it speaks to the API server."""

    place: Workplace
    netns: Path
    ranges: Ranges
    node_name: str
    api_url: str
    ca_pem: bytes
    token: str

    def start(self) -> None:
        """It programs nothing before its node has an address, or 30 s have passed.

        Raises:
            packages.Missing, gomod.BuildFailed: `nft` or kube-proxy itself cannot be had.
        """
        packages.ensure("nft")
        text = kubeconfig_text(url=self.api_url, token=self.token, ca_pem=self.ca_pem)
        kubeconfig = write_private(self.place.folder / "kube-proxy.kubeconfig", text)
        command = [
            str(tools.ensure("kube-proxy")),
            f"--kubeconfig={kubeconfig}",
            f"--hostname-override={self.node_name}",
            "--proxy-mode=nftables",
            f"--cluster-cidr={self.ranges.pods}",
            "--healthz-bind-address=127.0.0.1:10256",
            "--metrics-bind-address=127.0.0.1:10249",
            # Settings of the whole machine, which this namespace may not and need not change.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0s",
            "--conntrack-tcp-timeout-close-wait=0s",
        ]
        # It runs `nft`, which distributions put where only root looks.
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        self.place.start("kube-proxy", enter(self.netns, command), env={"PATH": path})

    def wait_ready(self) -> None:
        """Return once the API server answers at its Service's address.

        Raises:
            StartFailed: kube-proxy ended, or has not within READY_TIMEOUT_S; its log's tail is in the message.
        """
        process = self.place.processes["kube-proxy"]
        wait_until(self._programmed, timeout_s=READY_TIMEOUT_S, what="Service addresses", watch=[process])

    def _programmed(self) -> bool:
        # Its /healthz says 200 before anything is programmed.
        try:
            with socket.create_connection((str(self.ranges.api_service), 443), timeout=_PROBE_TIMEOUT_S):
                return True
        except OSError:
            return False
