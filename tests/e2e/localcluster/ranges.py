"""Address ranges of a cluster whose pods really run: no two such clusters of one machine share any.

All lie in 198.18.0.0/15, which RFC 2544 sets aside for benchmarks, so that nobody's real network is hidden.
"""

import contextlib
import fcntl
import json
import os
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import IO, Self

__all__ = ["Claim", "NoRange", "Ranges"]

# 64 /22s of Services fill 198.19.0.0/16; pods take the first quarter of 198.18.0.0/16.
MAX_CLUSTERS = 64
_PODS = IPv4Network("198.18.0.0/16")
_SERVICES = IPv4Network("198.19.0.0/16")
_LOCKS = Path("/run/lock/agentic-serving")


class NoRange(RuntimeError):
    """Every range is in use, by other clusters or by routes of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """What one cluster may use."""

    pods: IPv4Network  # a /24
    services: IPv4Network  # a /22

    @classmethod
    def numbered(cls, index: int) -> Self:
        """The ranges of cluster `index`, from 0 to MAX_CLUSTERS - 1."""
        pods = IPv4Network((int(_PODS.network_address) + 256 * index, 24))
        services = IPv4Network((int(_SERVICES.network_address) + 1024 * index, 22))
        return cls(pods=pods, services=services)

    @property
    def node(self) -> IPv4Address:
        """The node, as pods see it: their gateway, and where they find the API server."""
        return self.pods[1]

    @property
    def host(self) -> IPv4Address:
        """The machine outside, as pods see it."""
        return self.pods[2]

    @property
    def addresses(self) -> range:
        """What pods may be given, as integers."""
        return range(int(self.pods[3]), int(self.pods[-1]))

    @property
    def api_service(self) -> IPv4Address:
        """The `kubernetes` Service: the API server takes the first address for it."""
        return self.services[1]


class Claim:
    """Ranges held by this process until `release`, or until it ends in whatever way."""

    def __init__(self) -> None:
        self.ranges, self._lock = _first_free()

    def release(self) -> None:
        """Give them back. A second call does nothing."""
        self._lock.close()


def _first_free() -> tuple[Ranges, IO[str]]:
    _LOCKS.mkdir(parents=True, exist_ok=True)
    routed = _routed()
    for index in range(MAX_CLUSTERS):
        ranges = Ranges.numbered(index)
        # A cluster killed a moment ago has left its lock, and its watchdog is still removing the routes.
        if any(net.overlaps(ranges.pods) or net.overlaps(ranges.services) for net in routed):
            continue
        lock = (_LOCKS / f"{index}.lock").open("w")
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            return ranges, lock
        lock.close()
    raise NoRange(
        f"none of {MAX_CLUSTERS} ranges in {_PODS} and {_SERVICES} is free: see {_LOCKS} and `ip route`"
    )


def _routed() -> list[IPv4Network]:
    """What this machine has routes to, the default route aside."""
    done = subprocess.run(["ip", "-json", "-4", "route"], check=True, capture_output=True, text=True)
    return [IPv4Network(route["dst"]) for route in json.loads(done.stdout) if route["dst"] != "default"]
