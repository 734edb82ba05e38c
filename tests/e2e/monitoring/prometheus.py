"""A real Prometheus of its own: with history that is filled in, or scraping one address, or both."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.localcluster.process import Workplace, free_ports, wait_until
from tests.e2e.processnode import packages

__all__ = ["Prometheus", "Series", "openmetrics", "promtool", "running"]

_TIMEOUT_S = 60.0
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Series:
    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]  # seconds since 1970, value


@dataclass(frozen=True, slots=True)
class Prometheus:
    url: str

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The `data` of an answer; a refused query is an HTTPError."""
        with _OPENER.open(f"{self.url}{path}?{urllib.parse.urlencode(query)}", timeout=_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
            return found

    def series(self, expr: str, begin_s: float, end_s: float, step_s: float) -> list[Series]:
        data = self.get(
            "/api/v1/query_range", query=expr, start=str(begin_s), end=str(end_s), step=str(step_s)
        )
        return [
            Series(row["metric"], [(float(at), float(value)) for at, value in row["values"]])
            for row in data["result"]
        ]


def promtool(*args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The tool that comes with Prometheus."""
    program = packages.unpacked("prometheus").with_name("promtool")
    return subprocess.run(
        [str(program), *args], cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
    )


@contextmanager
def running(
    *, history: str = "", scrape: str = "", rules: Mapping[str, Any] | None = None, labels: Mapping[str, str]
) -> Iterator[Prometheus]:
    """
    Args:
        history: OpenMetrics text with times, to begin with.
        scrape: `host:port` to scrape each second.
        labels: of all that is scraped.
    """
    program = packages.unpacked("prometheus")
    (port,) = free_ports(1)
    with Workplace(prefix="agentic-monitoring-") as place:
        data = place.folder / "data"
        data.mkdir()
        if history:
            (place.folder / "history").write_text(history)
            done = promtool(
                "tsdb", "create-blocks-from", "openmetrics", "history", "data", folder=place.folder
            )
            assert done.returncode == 0, done.stderr
        config: dict[str, Any] = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}}
        if scrape:
            targets = [{"targets": [scrape], "labels": dict(labels)}]
            config["scrape_configs"] = [{"job_name": "scheduler", "static_configs": targets}]
        if rules is not None:
            (place.folder / "rules.json").write_text(json.dumps(rules))
            config["rule_files"] = ["rules.json"]
        (place.folder / "prometheus.json").write_text(json.dumps(config))
        command = [
            str(program),
            f"--config.file={place.folder / 'prometheus.json'}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        process = place.start("prometheus", command, env={"GOMAXPROCS": "1"})
        found = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(lambda: _ready(found), timeout_s=_TIMEOUT_S, what="Prometheus", watch=[process])
        yield found


def _ready(prometheus: Prometheus) -> bool:
    try:
        with _OPENER.open(f"{prometheus.url}/-/ready", timeout=5):
            return True
    except OSError:
        return False


def openmetrics(exposition: str, at_s: float, labels: Mapping[str, str]) -> Iterator[str]:
    """A scrape as lines with a time; the last line of all must be `# EOF`."""
    added = "".join(f',{name}="{value}"' for name, value in labels.items())
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            own = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            inside = (own + added) if own else added.lstrip(",")
            yield f"{sample.name}{{{inside}}} {sample.value} {at_s:.3f}"
