"""The real endpoint pickers: the upstream one built from Go modules, llm-d's where its path is given."""

import os
import socket
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentic_serving.render.envoy import to_yaml
from agentic_serving.render.picker import PickerConfig, picker_args
from agentic_serving.render.releases import PickerRelease
from tests.e2e.localcluster import tools
from tests.e2e.localcluster.process import Process, Workplace, wait_until
from tests.e2e.routerkit.ports import on_free_ports

__all__ = ["LLMD_EPP", "RunningPicker", "picker_binary", "running_picker"]

#: Path of llm-d's endpoint picker v0.10, built by whoever runs the tests: it is not on the Go module proxy.
LLMD_EPP = "AGENTIC_E2E_LLMD_EPP"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPicker:
    """A picker that has loaded its configuration and serves."""

    process: Process
    grpc_port: int
    metrics_port: int

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text


def picker_binary(release: str) -> Path | None:
    """The program of that release; None where llm-d's was not given."""
    if release == "gie-1.5":
        return tools.ensure("epp")
    given = os.environ.get(LLMD_EPP)
    return Path(given) if given else None


@contextmanager
def running_picker(
    binary: Path, release: PickerRelease, config: PickerConfig, *, pool: str, namespace: str, kubeconfig: Path
) -> Iterator[RunningPicker]:
    """The picker with exactly the rendered configuration and command line, but for its ports.

    Raises:
        StartFailed: it did not start; the message ends with its log.
    """
    with Workplace("agentic-picker-") as place:
        file = place.folder / "picker.yaml"
        file.write_text(to_yaml(config.config))
        args = picker_args(release, config, pool_name=pool, pool_namespace=namespace, config_file=str(file))
        env = {"KUBECONFIG": str(kubeconfig), "NAMESPACE": namespace, "POD_NAME": "picker"}
        yield on_free_ports(3, lambda ports: _start(place, [str(binary), *args], env, ports))


def _start(
    place: Workplace, command: Sequence[str], env: Mapping[str, str], ports: Sequence[int]
) -> RunningPicker:
    grpc_port, health_port, metrics_port = ports
    options = (
        f"--grpc-port={grpc_port}",
        f"--grpc-health-port={health_port}",
        f"--metrics-port={metrics_port}",
        "--refresh-prometheus-metrics-interval=200ms",  # tests await what it shows
    )
    process = place.start("picker", [*command, *options], env=env)
    wait_until(lambda: _listens(grpc_port), timeout_s=60, what="the picker", watch=[process])
    return RunningPicker(process=process, grpc_port=grpc_port, metrics_port=metrics_port)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
