"""Network namespaces and their links, through iproute2's `ip`.

No bridge: every pod has a /32 and a veth pair of its own into the node's namespace, which routes. So each packet between
two pods, or a pod and itself through a Service, passes the node's NAT in both directions; on a bridge the answer of a pod
beside the caller would go straight back and be refused.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from tests.e2e.localcluster.ranges import Ranges
from tests.e2e.localcluster.watchdog import remove_namespace

__all__ = ["NetworkFailed", "enter", "new_node", "new_pod", "path_of", "remove_pod", "unavailable"]

_FOLDER = Path("/run/netns")  # iproute2's
_PROBE_TIMEOUT_S = 10.0


class NetworkFailed(RuntimeError):
    """A link, an address or a namespace could not be made; the message ends with what `ip` said."""


def unavailable() -> str | None:
    """Why no pod network can be made on this machine, or None."""
    if sys.platform != "linux":
        return "pods as processes need Linux"
    if os.geteuid() != 0:
        return "pods as processes need root: network and mount namespaces"
    try:
        _run(["ip", "-Version"])
        _run(["unshare", "--net", "ip", "link", "add", "probe", "type", "veth", "peer", "name", "other"])
    except (NetworkFailed, FileNotFoundError) as error:
        return f"pods as processes need network namespaces, veth links and iproute2: {error}"
    return None


def path_of(name: str) -> Path:
    """The file that stands for a named namespace."""
    return _FOLDER / name


def enter(namespace: Path, command: Sequence[str]) -> list[str]:
    """The command line that runs a command in a namespace."""
    return ["nsenter", f"--net={namespace}", *command]


def new_node(name: str, ranges: Ranges, host_link: str) -> None:
    """The namespace in which a cluster's pods meet, and the link by which the host reaches them.

    The host has routes to the pods and Services of this cluster; it forwards nothing, and pods reach only it.
    """
    _run(["ip", "netns", "add", name])
    node, host = ranges.node, ranges.host
    _run(
        ["ip", "-batch", "-"],
        f"link add name {host_link} type veth peer name host netns {name}",
        f"addr add {host}/32 dev {host_link}",
        f"link set {host_link} up",
    )
    # A machine that forwards between its networks is not to do so for pods.
    Path(f"/proc/sys/net/ipv4/conf/{host_link}/forwarding").write_text("0\n")
    _configure(
        name,
        # Refusals are ICMP messages, of which the kernel sends one a second to each caller after the first six.
        ["net/ipv4/ip_forward=1", "net/ipv4/icmp_ratelimit=0"],
        "link set lo up",
        # On lo, as every pod's link needs it: the kernel answers ARP for it on all of them.
        f"addr add {node}/32 dev lo",
        "link set host up",
        f"route add {host}/32 dev host scope link src {node}",
        # Nobody is there. But only what has a way reaches the rules that refuse Services without endpoints.
        f"route add {ranges.services} via {host} dev host",
    )
    _run(
        ["ip", "-batch", "-"],
        f"route add {node}/32 dev {host_link} scope link src {host}",
        f"route add {ranges.pods} via {node} dev {host_link} src {host}",
        f"route add {ranges.services} via {node} dev {host_link} src {host}",
    )


def new_pod(name: str, node: str, ranges: Ranges, address: IPv4Address, link: str) -> None:
    """A pod's namespace with `address` on its eth0; `link` is the other end, in the node's namespace."""
    _run(["ip", "netns", "add", name])
    _run(
        ["ip", "-netns", node, "-batch", "-"],
        f"link add name {link} type veth peer name eth0 netns {name}",
        f"link set {link} up",
        f"route add {address}/32 dev {link} scope link src {ranges.node}",
    )
    _configure(
        name,
        ["net/ipv4/ip_unprivileged_port_start=0"],  # as container runtimes set it: no root for port 80
        "link set lo up",
        f"addr add {address}/32 dev eth0",
        "link set eth0 up",
        f"route add {ranges.node}/32 dev eth0 scope link",
        f"route add default via {ranges.node} dev eth0",
    )


def remove_pod(name: str, node: str, link: str) -> None:
    """Kill what runs in it; its address answers no more when this returns."""
    # The link first: the kernel removes a namespace some time after its last process.
    subprocess.run(["ip", "-netns", node, "link", "delete", link], check=False, capture_output=True)
    remove_namespace(name)


def _configure(name: str, settings: Sequence[str], *lines: str) -> None:
    """One process for both: /proc/sys/net is that of the namespace of the process that opens it."""
    script = [f"echo {value} > /proc/sys/{key}" for key, value in (s.split("=") for s in settings)]
    _run(enter(path_of(name), ["sh", "-ec", "\n".join([*script, "exec ip -batch -"])]), *lines)


def _run(command: Sequence[str], *lines: str) -> None:
    done = subprocess.run(
        command, input="".join(f"{line}\n" for line in lines), check=False, capture_output=True, text=True,
        timeout=_PROBE_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        raise NetworkFailed(f"{' '.join(command)}: {done.stderr.strip()}")
