"""The real Envoy on loopback: validates a configuration, or runs it on ports of its own."""

import copy
import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentic_serving.render.envoy import ADMIN_PORT, HTTP_PORT, PICKER_PORT, READY_PORT, to_yaml
from tests.e2e.localcluster.process import Process, Workplace, wait_until
from tests.e2e.localcluster.tools import envoy_path
from tests.e2e.routerkit.ports import on_free_ports

__all__ = ["Answer", "RunningEnvoy", "refusal", "running", "without_picker"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `arrived` is what the echo server saw."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def arrived(self) -> dict[str, Any]:
        text = self.body.decode()
        document: dict[str, Any] = json.loads(text.split("data: ")[1] if text.startswith("data: ") else text)
        return document

    def header(self, name: str) -> list[str]:
        """Values with which this header arrived; empty if it did not."""
        return [value for key, value in self.arrived["headers"] if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEnvoy:
    """An Envoy that is ready."""

    process: Process
    http_port: int
    ready_port: int
    admin_port: int

    def get(self, path: str, *, port: int | None = None) -> Answer:
        return _call("GET", port or self.http_port, path, [], b"")

    def post(
        self,
        headers: Sequence[tuple[str, str]] = (),
        *,
        path: str = "/v1/chat/completions",
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """A chat turn with these headers, in this order and spelling."""
        turn = body or {"model": "m", "messages": [{"role": "user", "content": "hello " * 200}]}
        sent = [("content-type", "application/json"), *headers]
        return _call("POST", self.http_port, path, sent, json.dumps(turn).encode())

    def log_lines(self) -> list[dict[str, Any]]:
        """Access log so far."""
        lines = self.process.log.read_text(errors="replace").split("\n")[:-1]  # the last may be half written
        return [json.loads(line) for line in lines if line.startswith("{")]


def refusal(config: Mapping[str, Any], folder: Path) -> str:
    """Empty if the real Envoy accepts the configuration, else what it says."""
    file = folder / "envoy.yaml"
    file.write_text(to_yaml(config))
    command = [
        str(envoy_path()),
        "--mode",
        "validate",
        "-c",
        str(file),
        "--use-dynamic-base-id",
        "-l",
        "error",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def without_picker(config: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """The same chain without its endpoint picker: every request goes to `endpoint`."""
    changed = copy.deepcopy(dict(config))
    resources = changed["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != "picker"]
    address, port = endpoint.rsplit(":", 1)
    target = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": int(port)}}}}
    resources["clusters"] = [c for c in resources["clusters"] if c["name"] == "admin"]
    resources["clusters"].append(
        {
            "name": "picked",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "picked", "endpoints": [{"lb_endpoints": [target]}]},
        }
    )
    return changed


@contextmanager
def running(config: Mapping[str, Any], *, picker_port: int = PICKER_PORT) -> Iterator[RunningEnvoy]:
    """This configuration on free ports of loopback; nothing else in it is changed."""
    with Workplace("agentic-envoy-") as place:
        yield on_free_ports(3, lambda ports: _start(place, config, ports, picker_port))


def _start(
    place: Workplace, config: Mapping[str, Any], ports: Sequence[int], picker_port: int
) -> RunningEnvoy:
    http_port, ready_port, admin_port = ports
    moved = {HTTP_PORT: http_port, READY_PORT: ready_port, ADMIN_PORT: admin_port, PICKER_PORT: picker_port}
    file = place.folder / "envoy.yaml"
    file.write_text(to_yaml(_relocated(config, moved)))
    # Access log lines are flushed when many wait or at this interval.
    options = [
        "--use-dynamic-base-id",
        "-l",
        "warn",
        "--concurrency",
        "1",
        "--file-flush-interval-msec",
        "50",
    ]
    process = place.start("envoy", [str(envoy_path()), "-c", str(file), *options])
    envoy = RunningEnvoy(process=process, http_port=http_port, ready_port=ready_port, admin_port=admin_port)
    wait_until(lambda: _ready(envoy), timeout_s=30, what="Envoy", watch=[process])
    return envoy


def _ready(envoy: RunningEnvoy) -> bool:
    try:
        return envoy.get("/ready", port=envoy.ready_port).code == 200
    except OSError:
        return False


def _relocated(value: Any, ports: Mapping[int, int]) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {
            key: ports.get(child, child) if key == "port_value" else _relocated(child, ports)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_relocated(child, ports) for child in value]
    return value


def _call(method: str, port: int, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.putrequest(method, path)
        for name, value in [*headers, ("content-length", str(len(body)))]:
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
