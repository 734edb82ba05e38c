"""The real Envoy on loopback: validates a configuration, or runs it on ports of its own."""

import contextlib
import copy
import http.client
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentic_serving.render.envoy import (
    ADMIN_PORT,
    HTTP_PORT,
    PICKER_PORT,
    READY_PORT,
    ROUTES_FILE,
    SCHEDULER_PORT,
    EnvoyConfig,
    to_yaml,
)
from agentic_serving.render.envoy_picking import ENGINE_CLUSTER
from tests.e2e.localcluster.process import Process, Workplace, wait_until
from tests.e2e.localcluster.tools import envoy_path
from tests.e2e.routerkit.ports import on_free_ports

__all__ = ["Answer", "RunningEnvoy", "mount", "refusal", "running", "without_picker"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `arrived` is what the echo server saw."""

    code: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def arrived(self) -> dict[str, Any]:
        text = self.body.decode()
        first = text.partition("data: ")[2] if text.startswith(("data: ", "event: ")) else text
        document: dict[str, Any] = json.JSONDecoder().raw_decode(first)[0]
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
    mounted: Path  # the folder that holds its routes.yaml

    def get(self, path: str, *, port: int | None = None) -> Answer:
        return _call("GET", port or self.http_port, path, [], b"")

    def connected(self) -> contextlib.closing[http.client.HTTPConnection]:
        """A connection for what no ordinary client does."""
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30))

    def send(
        self, method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Answer:
        """Any request."""
        return _call(method, self.http_port, path, headers, body)

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

    def change(self, rendered: EnvoyConfig) -> None:
        """Give it other routes while it runs."""
        mount(self.mounted, {"routes.yaml": to_yaml(rendered.routes)})

    def log_lines(self) -> list[dict[str, Any]]:
        """Access log so far."""
        lines = self.process.log.read_text(errors="replace").split("\n")[:-1]  # the last may be half written
        return [json.loads(line) for line in lines if line.startswith("{")]


def refusal(config: Mapping[str, Any], folder: Path, routes: Mapping[str, Any] | None = None) -> str:
    """Empty if the real Envoy accepts the configuration, with these routes in it, else what it says.

    Envoy does not read routes from their own file when it only validates.
    """
    file = folder / "envoy.yaml"
    text = to_yaml(config if routes is None else _with_routes(config, routes))
    file.write_text(text.replace(str(ROUTES_FILE.parent), str(folder)))
    (folder / ROUTES_FILE.name).write_text("{}")  # that there is one it does ask for
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


def _with_routes(config: Mapping[str, Any], routes: Mapping[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(dict(config))
    manager = _manager(changed)
    manager.pop("rds", None)
    manager["route_config"] = {k: v for k, v in routes["resources"][0].items() if k != "@type"}
    return changed


def _manager(config: Mapping[str, Any], listener: int = 0) -> dict[str, Any]:
    first = config["static_resources"]["listeners"][listener]["filter_chains"][0]["filters"][0]
    found: dict[str, Any] = first["typed_config"]
    return found


def without_picker(rendered: EnvoyConfig, endpoint: str) -> EnvoyConfig:
    """The same chain without its endpoint picker: every request goes to `endpoint`."""
    changed = copy.deepcopy(dict(rendered.config))
    for listener in range(len(changed["static_resources"]["listeners"])):
        manager = _manager(changed, listener)
        manager["http_filters"] = [f for f in manager["http_filters"] if f["name"] != "picker"]
    address, port = endpoint.rsplit(":", 1)
    target = {"endpoint": {"address": {"socket_address": {"address": address, "port_value": int(port)}}}}
    resources = changed["static_resources"]
    resources["clusters"] = [
        c for c in resources["clusters"] if c["name"] in ("admin", "scheduler", "picked")
    ]
    resources["clusters"].append(
        {
            "name": ENGINE_CLUSTER,
            "type": "STATIC",
            "load_assignment": {"cluster_name": ENGINE_CLUSTER, "endpoints": [{"lb_endpoints": [target]}]},
        }
    )
    return replace(rendered, config=changed)


@contextmanager
def running(
    rendered: EnvoyConfig, *, picker_port: int = PICKER_PORT, scheduler_port: int = SCHEDULER_PORT
) -> Iterator[RunningEnvoy]:
    """This configuration on free ports of loopback; nothing else in it is changed."""
    inner = {PICKER_PORT: picker_port, SCHEDULER_PORT: scheduler_port}
    with Workplace("agentic-envoy-") as place:
        yield on_free_ports(3, lambda ports: _start(place, rendered, ports, inner))


def _start(
    place: Workplace, rendered: EnvoyConfig, ports: Sequence[int], inner: Mapping[int, int]
) -> RunningEnvoy:
    http_port, ready_port, admin_port = ports
    moved = {HTTP_PORT: http_port, READY_PORT: ready_port, ADMIN_PORT: admin_port, **inner}
    mounted = place.folder / "config"
    mount(mounted, {"routes.yaml": to_yaml(rendered.routes)})
    file = place.folder / "envoy.yaml"
    text = to_yaml(_relocated(rendered.config, moved))
    file.write_text(text.replace(str(ROUTES_FILE.parent), str(mounted)))
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
    envoy = RunningEnvoy(
        process=process, http_port=http_port, ready_port=ready_port, admin_port=admin_port, mounted=mounted
    )
    wait_until(lambda: _ready(envoy), timeout_s=30, what="Envoy", watch=[process])
    return envoy


def mount(folder: Path, files: Mapping[str, str]) -> None:
    """Makes or replaces a folder of files as the kubelet does a ConfigMap's: all at once, by the rename of a link."""
    folder.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for name, text in files.items():
        (made / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    link = folder / "..data_tmp"
    link.symlink_to(made.name)
    link.rename(folder / "..data")


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
