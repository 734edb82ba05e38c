"""How the demo prints: steps, kubectl's own output, and tables that are shown when they change."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.localcluster.cluster import Cluster
from tests.e2e.world import condition

__all__ = ["KINDS", "objects", "objects_of", "show", "step", "wait_ready"]

KINDS = "astack,aprog,kvtp"
_POLL_S = 0.5


def step(text: str) -> None:
    """The headline of a step."""
    width = shutil.get_terminal_size((100, 20)).columns
    print(f"\n== {text}\n{'-' * min(width, 100)}", flush=True)


def show(cluster: Cluster, *args: str) -> None:
    """A kubectl command and what it prints."""
    print(f"$ kubectl {' '.join(args)}\n{cluster.kubectl(*args)}", flush=True)


def wait_ready(
    cluster: Cluster, namespace: str, *, timeout_s: float, explain: Callable[[], str] = str
) -> None:
    """Print the table of our objects whenever it changes, until every one is Ready.

    Args:
        explain: what to add to the message when it takes too long.

    Raises:
        SystemExit: not within the time limit.
    """
    deadline_s = time.monotonic() + timeout_s
    shown = ""
    while True:
        items = cluster.get(KINDS, "-n", namespace)["items"]
        table = cluster.kubectl("get", KINDS, "-n", namespace)
        if _ageless(table) != shown:
            shown = _ageless(table)
            print(f"\n--- {time.strftime('%H:%M:%S')}\n{table}", end="", flush=True)
        waiting = [
            f"{i['kind']}/{i['metadata']['name']}"
            for i in items
            if condition(i, "Ready").get("status") != "True"
        ]
        if items and not waiting:
            return
        if time.monotonic() > deadline_s:
            raise SystemExit(f"not Ready after {timeout_s:.0f} s: {', '.join(waiting)}\n{explain()}")
        time.sleep(_POLL_S)


def objects(folder: Path) -> list[dict[str, Any]]:
    """Every object of an example."""
    texts = [p.read_text() for p in sorted(folder.glob("*.yaml"))]
    return [d for text in texts for d in yaml.safe_load_all(text) if d]


def objects_of(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [d for d in objects(folder) if d["kind"] == kind]


def _ageless(table: str) -> str:
    """The table without its last column, which changes every second."""
    return "\n".join(" ".join(line.split()[:-1]) for line in table.splitlines())
