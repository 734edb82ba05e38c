"""What a user reads who asks a stack's program scheduler by the command line, through the API server."""

import os
import subprocess
import sys
from typing import Any

import orjson

from tests.e2e.localcluster.cluster import Cluster
from tests.e2e.operator_process import source_root

__all__ = ["Asking"]

_TIMEOUT_S = 60


class Asking:
    """`agentic-serving top` and `explain run` for one stack."""

    def __init__(self, cluster: Cluster, namespace: str, stack: str) -> None:
        self._kubeconfig, self._namespace, self._stack = str(cluster.kubeconfig), namespace, stack

    def top(self) -> str:
        return self._run("top", self._stack, "--once")

    def live(self) -> dict[str, Any]:
        """`top` as JSON."""
        found: dict[str, Any] = orjson.loads(self._run("top", self._stack, "-o", "json"))
        return found

    def run(self, name: str) -> dict[str, Any]:
        """`explain run` as JSON."""
        found: dict[str, Any] = orjson.loads(self.explained(name, "-o", "json"))
        return found

    def explained(self, name: str, *options: str) -> str:
        return self._run("explain", "run", name, "--stack", self._stack, *options)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "agentic_serving",
                *command,
                "-n",
                self._namespace,
                "--kubeconfig",
                self._kubeconfig,
            ],
            env={**os.environ, "PYTHONPATH": str(source_root()), "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout
