"""A real store for the scheduler's journal: `valkey-server` or `redis-server` from PATH, else Debian's redis-server 7.0, unpacked.

Valkey began as a copy of Redis 7.2 and speaks the same protocol; every command that the journal uses is older than both.
"""

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.localcluster.process import Process, Workplace, free_ports, wait_until
from tests.e2e.processnode import packages

__all__ = ["Store"]

#: What Debian's redis-server loads beyond what any Debian has.
_PACKAGES = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2")
_READY_S = 20.0


class Store:
    """One server on a port of its own, in memory; `address` stays over restarts."""

    def __init__(self, *options: str) -> None:
        (self._port,) = free_ports(1)
        self._options = options
        self._place = Workplace(prefix="agentic-store-")
        self.address = f"127.0.0.1:{self._port}"
        self._process: Process | None = None

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

    def start(self, *options: str) -> None:
        """With nothing in it."""
        program, environment = _program()
        command = [str(program), "--port", str(self._port), "--bind", "127.0.0.1", "--save", ""]
        process = self._place.start("store", [*command, *self._options, *options], env=environment)
        self._process = process
        wait_until(self._listens, timeout_s=_READY_S, what="the store", watch=[process])

    def kill(self) -> None:
        """As `kill -9`."""
        self._place.stop("store")

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
