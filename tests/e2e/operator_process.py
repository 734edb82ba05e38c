"""The operator as users install it, run as a process: its own ServiceAccount, its own RBAC, the real console script.

install(cluster)
with OperatorProcess(cluster) as operator:
    cluster.apply([...])
"""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from .localcluster.cluster import Cluster, Reachable
from .localcluster.process import free_ports

__all__ = ["NAMESPACE", "ROOT", "SERVICE_ACCOUNT", "USER", "OperatorProcess", "install", "source_root"]

ROOT = Path(__file__).parents[2]
NAMESPACE = "agentic-serving-system"
SERVICE_ACCOUNT = "agentic-serving-operator"
#: How the audit log names it.
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"

# Importing kopf and pydantic takes 2 s on an idle machine; the rest is for a busy one.
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.1
#: Of the installation, what would need an image to run: the operator is a process here.
_NOT_HERE = frozenset({"Deployment", "PodDisruptionBudget", "NetworkPolicy", "Service"})


def source_root() -> Path:
    """Where the operator is imported from: the checkout, or a changed copy of it (`tests/mutations`)."""
    return Path(os.environ.get("AGENTIC_E2E_SOURCE") or ROOT / "operator")


def install(cluster: Cluster) -> None:
    """Apply deploy/install.yaml: CRDs, namespace, ServiceAccount and RBAC, without the Deployment."""
    objects = [d for d in yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text()) if d]
    crds = [d for d in objects if d["kind"] == "CustomResourceDefinition"]
    cluster.install_crds(crds)
    rest = [d for d in objects if d["kind"] not in _NOT_HERE and d not in crds]
    cluster.apply([d for d in rest if d["kind"] == "Namespace"])
    cluster.apply([d for d in rest if d["kind"] != "Namespace"])


class OperatorProcess:
    """One operator. Attributes: `log` (its JSON log), `pid`, `base_url` of metrics and probes.

    Args:
        via: something before the API server, such as a fault proxy.
        settings: settings by name, given as environment variables (`{"workers": 2}`).
        args: further command-line arguments.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        via: Reachable | None = None,
        settings: Mapping[str, object] | None = None,
        args: tuple[str, ...] = (),
        name: str = "operator",
    ) -> None:
        self._cluster = cluster
        self._via = via
        self._settings = dict(settings or {})
        self._args = args
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._kubeconfig: Path | None = None
        self.log = cluster.folder / f"{name}.log"
        self.base_url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        """Start it and wait until /readyz answers 200.

        Raises:
            RuntimeError: it ended, or was not ready in time; the tail of its log is in the message.
        """
        if self._kubeconfig is None:
            self._kubeconfig = self._cluster.user_kubeconfig(NAMESPACE, SERVICE_ACCOUNT, via=self._via)
        (port,) = free_ports(1)
        self.base_url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "agentic_serving", "operator", "run"]
        command += ["--kubeconfig", str(self._kubeconfig), "--metrics-port", str(port), *self._args]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment())
        if wait:
            self.wait_ready()

    def stop(self, *, timeout_s: float = 30.0) -> int:
        """SIGTERM, and SIGKILL if that is not heeded in time; returns the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        return self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: alive and silent, as a starved or suspended node makes it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_exit(self, timeout_s: float = 60.0) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def wait_ready(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not self.probe("readyz"):
            if not self.running:
                raise RuntimeError(f"the operator ended: {self.tail()}")
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"the operator is not ready after {timeout_s:.0f} s: {self.tail()}")
            time.sleep(_POLL_S)

    def probe(self, path: str) -> bool:
        """Whether a probe answers 200."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/{path}", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metrics(self) -> str:
        """The Prometheus text of /metrics."""
        with urllib.request.urlopen(f"{self.base_url}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _environment(self) -> dict[str, str]:
        variables: dict[str, Any] = {f"AGENTIC_SERVING_{k.upper()}": v for k, v in self._settings.items()}
        return {
            **os.environ,
            "PYTHONPATH": str(source_root()),
            "POD_NAMESPACE": NAMESPACE,
            "POD_NAME": self._name,
            **{k: str(v) for k, v in variables.items()},
        }
