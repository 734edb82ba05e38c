"""The program scheduler as a process on loopback, as its container runs it."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.localcluster.process import Workplace, wait_until
from tests.e2e.realengines.client import Client
from tests.e2e.routerkit.enginepool import POOL_NAMESPACE
from tests.e2e.routerkit.ports import on_free_ports

__all__ = ["RunningScheduler", "running_scheduler"]

_SOURCES = Path(__file__).parents[3] / "operator"


class RunningScheduler:
    """A scheduler that can be ended and started again on the same ports."""

    def __init__(
        self, place: Workplace, command: Sequence[str], env: dict[str, str], ports: Sequence[int]
    ) -> None:
        self._place, self._command, self._env = place, command, env
        self.grpc_port, self.http_port = ports
        self.process = place.start("scheduler", command, env=env)

    @property
    def client(self) -> Client:
        return Client(self.http_port)

    def await_ready(self, timeout_s: float = 60.0) -> None:
        """Until it says that it is ready: it knows the pods."""
        wait_until(
            lambda: self.client.answers("/readyz"),
            timeout_s=timeout_s,
            what="the scheduler",
            watch=[self.process],
        )

    def start(self) -> None:
        """Again, after `process.kill()`."""
        self.process = self._place.start("scheduler", self._command, env=self._env)

    def start_kept(self) -> None:
        """The same with its keeper, as the container runs it: `process` is the keeper."""
        command = [sys.executable, "-m", "agentic_serving.router.keeper", *self._command]
        env = {**self._env, "AGENTIC_SERVING_HTTP_PORT": str(self.http_port)}
        self.process = self._place.start("scheduler", command, env=env)
        self.await_ready()


@contextmanager
def running_scheduler(config: Path, kubeconfig: Path, *, name: str) -> Iterator[RunningScheduler]:
    """The process with this configuration, ready.

    Args:
        name: of its pod.
    """
    with Workplace("agentic-scheduler-") as place:
        env = {
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": str(_SOURCES),
            "POD_NAME": name,
            "NAMESPACE": POOL_NAMESPACE,
        }

        def start(ports: Sequence[int]) -> RunningScheduler:
            command = [
                sys.executable, "-m", "agentic_serving", "scheduler", "run", f"--config={config}",
                f"--grpc-port={ports[0]}", f"--http-port={ports[1]}",
            ]  # fmt: skip
            found = RunningScheduler(place, command, env, ports)
            found.await_ready()
            return found

        yield on_free_ports(2, start)
