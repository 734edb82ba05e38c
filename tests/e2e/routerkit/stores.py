"""A real store for the scheduler's journal: `valkey-server` or `redis-server` from PATH, else Debian's redis-server 7.0, unpacked.

Valkey began as a copy of Redis 7.2 and speaks the same protocol; every command that the journal uses is older than both.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import valkey

from tests.e2e.localcluster.process import Workplace, free_ports, wait_until
from tests.e2e.processnode import packages

__all__ = ["Store"]

#: What Debian's redis-server loads beyond what any Debian has.
_PACKAGES = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2")
_READY_S = 20.0


class Store:
    """One server on a port of its own, in memory; `address` stays over restarts.

    Args:
        tls: it speaks nothing else; `certificate` is its own authority's.
        cluster: it is a node of one; `form` makes it whole.
    """

    def __init__(self, *options: str, tls: bool = False, cluster: bool = False) -> None:
        self._port, bus = free_ports(2)
        self._place = Workplace(prefix="agentic-store-")
        self.certificate = self._place.folder / "certificate.pem"
        self.address = f"localhost:{self._port}" if tls else f"127.0.0.1:{self._port}"
        self._options = [*options]
        if tls:
            self._options += self._encrypted()
        if cluster:
            self._options += ["--cluster-enabled", "yes", "--cluster-port", str(bus)]
        self._bus = bus
        self._tls = tls

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._place.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place.close()

    def start(self) -> None:
        """With nothing in it."""
        program, environment = _program()
        port = ["--port", "0", "--tls-port", str(self._port)] if self._tls else ["--port", str(self._port)]
        command = [str(program), *port, "--bind", "127.0.0.1", "--save", "", *self._options]
        process = self._place.start("store", command, env=environment)
        wait_until(self._listens, timeout_s=_READY_S, what="the store", watch=[process])

    def kill(self) -> None:
        """As `kill -9`."""
        self._place.stop("store")

    def client(self) -> "valkey.Valkey":
        """Another one than the scheduler's."""
        return valkey.Valkey(host="127.0.0.1", port=self._port)

    def form(self, other: "Store") -> None:
        """One cluster of both, each with half of the slots."""
        nodes = self.client(), other.client()
        for node, first, last in zip(nodes, (0, 8192), (8191, 16383), strict=True):
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", other._port, other._bus)
        for node in nodes:
            wait_until(
                lambda node=node: "cluster_state:ok" in str(node.execute_command("CLUSTER", "INFO")),
                timeout_s=_READY_S,
                what="the cluster",
            )

    def _encrypted(self) -> list[str]:
        key = self._place.folder / "key.pem"
        made = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ]
        names = [
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(key),
            "-out",
            str(self.certificate),
        ]
        subprocess.run([*made, *names], check=True, capture_output=True, timeout=60)
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(key)]
        return [*files, "--tls-auth-clients", "no"]

    def _listens(self) -> bool:
        with socket.socket() as client:
            client.settimeout(1.0)
            return client.connect_ex(("127.0.0.1", self._port)) == 0


def _program() -> tuple[Path, Mapping[str, str]]:
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found), {"PATH": os.environ.get("PATH", "")}
    program, libraries = packages.unpacked_with("redis-server", *_PACKAGES)
    return program, {"LD_LIBRARY_PATH": str(libraries)}
