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
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.process import Workplace, free_ports, wait_until

from . import packages
from .follow import Follower, Objects
from .podmonitors import Job, jobs

__all__ = ["Prometheus", "QueryFailed", "Sample"]

_MONITORS = "/apis/monitoring.coreos.com/v1/podmonitors"
_PODS = "/api/v1/pods"
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
            _replace(self._config, {})
            command = [
                str(program),
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._place.folder / 'data'}",
                f"--web.listen-address={self._host}:{self._port}",
                "--web.enable-lifecycle",
                "--log.level=warn",
            ]
            process = self._place.start("prometheus", command, env={"GOMAXPROCS": "1", "NO_PROXY": "*"})
            wait_until(self._ready, timeout_s=_READY_TIMEOUT_S, what="Prometheus", watch=[process])
            self._follower = Follower(self._cluster, [_MONITORS, _PODS], self._changed)
            stack.enter_context(self._follower)
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
            podmonitors.NotTranslated: so is a PodMonitor, since some time.
        """
        self._follower.check()
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
                raise QueryFailed(
                    f"{expression}: {len(found)} series after {timeout_s:g} s, not {count}; {self._scraped()}"
                )
            time.sleep(_POLL_S)
        return found

    def _scraped(self) -> str:
        rows = (f"{s.labels.get('pod')} {s.labels.get('endpoint')}: {s.value:g}" for s in self.query("up"))
        return "up is " + ("; ".join(rows) or "nothing")

    def _changed(self, collections: Mapping[str, Objects]) -> None:
        """In the follower's thread: a file of targets for each job, which Prometheus follows by itself."""
        monitors = [monitor for _, monitor in sorted(collections[_MONITORS].items())]
        found = jobs(monitors, [pod for _, pod in sorted(collections[_PODS].items())])
        for job in found:
            _replace(self._targets(job), job.targets)
        if _replace(self._config, {"scrape_configs": [self._scrape_config(job) for job in found]}):
            self._reload()

    def _scrape_config(self, job: Job) -> dict[str, Any]:
        interval = self._interval or job.interval
        timing = {"scrape_interval": interval} | ({"scrape_timeout": interval} if self._interval else {})
        files = [{"files": [str(self._targets(job))]}]
        return {"job_name": job.name, **timing, **job.scrape, "file_sd_configs": files}

    def _targets(self, job: Job) -> Path:
        return self._place.folder / f"{job.name.replace('/', '.')}.targets.json"

    def _reload(self) -> None:
        code, body = self._call("POST", "/-/reload")
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


def _replace(path: Path, document: object) -> bool:
    """Write a file at once or not at all; whether it changed."""
    text = json.dumps(document)
    if path.exists() and path.read_text() == text:
        return False
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)
    return True
