"""A real Prometheus beside a cluster, scraping what its PodMonitors select. Test and demo equipment.

with Prometheus(cluster, interval="1s") as prometheus:
    prometheus.wait('up{pod="chat-0"} == 1', timeout_s=30)
    prometheus.query("sum(vllm:num_requests_running)")
"""

import http.client
import json
import time
import urllib.parse
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.credentials import write_private
from tests.e2e.localcluster.process import Workplace, free_ports, wait_until

from . import packages
from .follow import Follower, Objects
from .podmonitors import scrape_configs

__all__ = ["Prometheus", "QueryFailed", "Sample"]

_PATH = "/apis/monitoring.coreos.com/v1/podmonitors"
_READY_TIMEOUT_S = 60.0  # 1 s on an idle machine
_POLL_S = 0.2


class QueryFailed(RuntimeError):
    """Prometheus refused a query, or did not give what was awaited; the message says what it gave."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One series of an instant query."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """See the module. Attribute: `url`, which the host reaches, and pods too if the cluster has a `Network`."""

    def __init__(self, cluster: ControlPlane, *, interval: str | None = None) -> None:
        """
        Args:
            interval: replaces the PodMonitors' own, such as "1s".
        """
        self._cluster = cluster
        self._interval = interval
        self._written = ""
        self._stack = ExitStack()
        (self._port,) = free_ports(1)
        # Where there is a pod network the host has this address in it, from before it is entered here.
        self._host = str(cluster.ranges.host) if cluster.ranges else "127.0.0.1"
        self.url = f"http://{self._host}:{self._port}"

    def __enter__(self) -> Self:
        program = packages.unpacked("prometheus")
        with ExitStack() as stack:
            self._place = stack.enter_context(Workplace(prefix="agentic-prometheus-"))
            self._config = self._place.folder / "prometheus.json"  # JSON is YAML
            write_private(self._place.folder / "token", self._cluster.admin_token)
            follower = Follower(self._cluster, [_PATH], self._changed)
            stack.enter_context(follower)  # writes the first configuration
            process = self._place.start(
                "prometheus",
                [
                    str(program),
                    f"--config.file={self._config}",
                    f"--storage.tsdb.path={self._place.folder / 'data'}",
                    f"--web.listen-address={self._host}:{self._port}",
                    "--web.enable-lifecycle",
                    "--query.lookback-delta=1m",
                    "--log.level=warn",
                ],
                env={"GOMAXPROCS": "1", "NO_PROXY": "*"},
            )
            wait_until(self._ready, timeout_s=_READY_TIMEOUT_S, what="Prometheus", watch=[process])
            self._reload()  # what changed between the first configuration and now
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def query(self, expression: str) -> list[Sample]:
        """The value now of each series; none is an empty list.

        Raises:
            QueryFailed: the expression is wrong.
        """
        code, body = self._call("GET", f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        document: dict[str, Any] = json.loads(body)
        if code != 200:
            raise QueryFailed(f"{expression}: {document.get('error', body.decode())}")
        data = document["data"]
        if data["resultType"] == "scalar":
            return [Sample(labels={}, value=float(data["result"][1]))]
        return [Sample(labels=row["metric"], value=float(row["value"][1])) for row in data["result"]]

    def wait(self, expression: str, *, count: int = 1, timeout_s: float = 60.0) -> list[Sample]:
        """The answer as soon as it has at least `count` series.

        Raises:
            QueryFailed: it never had; the message shows what is scraped.
        """
        deadline_s = time.monotonic() + timeout_s
        while len(found := self.query(expression)) < count:
            if time.monotonic() > deadline_s:
                up = "\n".join(
                    f"  {s.labels.get('pod')} {s.labels.get('endpoint')}: {s.value:g}"
                    for s in self.query("up")
                )
                raise QueryFailed(
                    f"{expression}: {len(found)} series after {timeout_s:g} s, not {count}; up:\n{up}"
                )
            time.sleep(_POLL_S)
        return found

    def _changed(self, collections: Mapping[str, Objects]) -> None:
        """In the follower's thread."""
        self._write(collections[_PATH])
        if "prometheus" in self._place.processes:
            self._reload()

    def _write(self, monitors: Objects) -> None:
        discovery = {
            "api_server": self._cluster.url,
            "authorization": {"credentials_file": str(self._place.folder / "token")},
            "tls_config": {"ca_file": str(self._cluster.ca)},
        }
        configs = scrape_configs(
            [dict(m) for _, m in sorted(monitors.items())], discovery, interval=self._interval
        )
        defaults = (
            {"scrape_interval": self._interval, "scrape_timeout": self._interval} if self._interval else {}
        )
        text = json.dumps({"global": defaults, "scrape_configs": configs})
        partial = self._config.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(self._config)

    def _reload(self) -> None:
        try:
            code, body = self._call("POST", "/-/reload")
        except OSError:
            return  # not up yet: it reads the file when it is
        if code != 200:
            raise QueryFailed(f"Prometheus refused its configuration: {body.decode()}")

    def _ready(self) -> bool:
        try:
            return self._call("GET", "/-/ready")[0] == 200
        except OSError:
            return False

    def _call(self, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=30)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"Prometheus broke off: {error}") from error
        finally:
            connection.close()
