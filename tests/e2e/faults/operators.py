"""Operators for tests that start many of them: real processes, forked from one that has imported everything.

with ForkServer() as server, Operator(server, cluster, via=proxy) as operator:
    operator.kill()
    operator.start()
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.localcluster.cluster import Cluster, Reachable
from tests.e2e.localcluster.process import free_ports
from tests.e2e.operator_process import NAMESPACE, ROOT, SERVICE_ACCOUNT, source_root

__all__ = ["FAST", "ForkServer", "Operator"]

#: Settings of an operator that answers quickly. One at a time, and so without an election unless a test is about it.
FAST: Mapping[str, Any] = {
    "coalesce_s": 0.1,
    "status_interval_s": 0.5,
    "pod_report_after_s": 1.0,
    "leader_election": False,
    # Nothing runs in kwok's pods: what answers at their addresses is the machine's affair, and no test's here.
    "scheduler_look_s": 3600.0,
}

_READY_TIMEOUT_S = 60.0
_EXIT_TIMEOUT_S = 60.0
_POLL_S = 0.02


class ForkServer:
    """The process that forks operators; see `forkserver.py`."""

    def __init__(self) -> None:
        path = os.pathsep.join(map(str, (source_root(), ROOT)))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.faults.forkserver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._one_at_a_time = threading.Lock()
        if self._read() != "ready":
            raise RuntimeError("the fork server did not start")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_EXIT_TIMEOUT_S)
        self._process.stdout.close()

    def fork(self, settings: Mapping[str, Any], log: Path) -> int:
        """Start an operator; the result is its process id."""
        return int(self._ask({"settings": dict(settings), "log": str(log)}))

    def wait(self, pid: int) -> int:
        """The exit code of an operator that is ending; negative: the signal that ended it."""
        return int(self._ask({"wait": pid}))

    def _ask(self, request: Mapping[str, Any]) -> str:
        assert self._process.stdin is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Operator:
    """One operator under its own ServiceAccount, with the life of a container: `start`, `kill`, `start` again.

    Args:
        via: something before the API server, such as a fault proxy.
        name: the pod's name, by which it holds the Lease across restarts.
        settings: fields of OperatorSettings; and `clock_ahead_s`, by which its wall clock is wrong.
    """

    def __init__(
        self,
        server: ForkServer,
        cluster: Cluster,
        *,
        via: Reachable | None = None,
        name: str = "operator-0",
        **settings: Any,
    ) -> None:
        self._server = server
        self.log = cluster.folder / f"{name}-{time.monotonic_ns()}.log"
        (self._port,) = free_ports(1)
        self.settings = {
            "kubeconfig": str(cluster.user_kubeconfig(NAMESPACE, SERVICE_ACCOUNT, via=via)),
            "lease_namespace": NAMESPACE,
            "identity": name,
            "metrics_address": "127.0.0.1",
            "metrics_port": self._port,
            **settings,
        }
        self.pid: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self, *, wait: bool = True) -> None:
        """Fork it, and wait until /readyz answers 200.

        Raises:
            RuntimeError: it was not ready in time; the tail of its log is in the message.
        """
        self.pid = self._server.fork(self.settings, self.log)
        if wait:
            self.wait_ready()

    def signal(self, number: int) -> None:
        """Send it a signal: SIGKILL, SIGSTOP, SIGCONT, SIGTERM. Safe from any thread."""
        if self.pid is not None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, if it runs; and wait until it has ended."""
        if self.pid is not None:
            self.signal(signal.SIGKILL)
            self.wait_exit()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    def wait_exit(self) -> int:
        """The exit code of one that is ending."""
        assert self.pid is not None
        code = self._server.wait(self.pid)
        self.pid = None
        return code

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while self.probe("readyz") != 200:
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the operator is not ready after {timeout_s:.0f} s: {self.tail()}")
            time.sleep(_POLL_S)

    def probe(self, path: str, *, timeout_s: float = 5.0) -> int:
        """The status of an HTTP GET; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=timeout_s) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def metrics(self) -> str:
        """The Prometheus text of /metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
