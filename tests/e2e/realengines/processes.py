"""Engines as processes on loopback: real vLLM, the engine simulator, and LMCache's server, with the same handle."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.localcluster.process import Process, StartFailed, Workplace, free_ports, wait_until
from tests.e2e.realengines.client import Client
from tests.e2e.realengines.install import VLLM, install
from tests.e2e.realengines.model import tiny_model

__all__ = [
    "SERVED",
    "Engine",
    "Served",
    "start_lmcache",
    "start_rendered_sim",
    "start_rendered_vllm",
    "start_sim",
    "start_vllm",
]

#: The name under which tests serve the tiny model.
SERVED = "tiny"
#: Importing vLLM takes 15 to 30 s on 2 cores, three at once 35 s; a fresh install compiles Python files first.
_READY_S = 240.0
_SOURCES = Path(__file__).parents[3] / "operator"
#: What makes an engine small: 512 blocks of 64 tokens are 16 MiB here, and nothing is compiled.
_SMALL = ("--enforce-eager", "--num-gpu-blocks-override=512", "--max-num-batched-tokens=2048")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A server that answers HTTP on loopback."""

    name: str
    process: Process
    client: Client
    place: Workplace

    def await_ready(self, path: str = "/health", timeout_s: float = _READY_S) -> "Engine":
        """Wait for 200 on `path`.

        Raises:
            StartFailed: it ended, or time is over; the message has the tail of its log, and its errors from before.
        """
        try:
            wait_until(
                lambda: self.client.answers(path),
                timeout_s=timeout_s,
                what=f"{self.name} to answer {path}",
                watch=[self.process],
            )
        except StartFailed as failed:
            log = self.process.log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line for line in log if re.search(r"\b\w*(Error|Exception): ", line)]
            raise StartFailed("\n".join([str(failed), "--- errors in its log", *errors[:10]])) from failed
        return self

    def metrics(self, path: str = "/metrics") -> dict[str, float]:
        """Sums of its samples by name, over all labels."""
        return {name: sum(values.values()) for name, values in self.samples(path).items()}

    def samples(self, path: str = "/metrics") -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        """Its samples by name and labels."""
        found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
        for family in text_string_to_metric_families(self.client.get(path).text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return found

    def metric_types(self, path: str = "/metrics") -> dict[str, str]:
        """Type by family, also of families without samples."""
        families = text_string_to_metric_families(self.client.get(path).text)
        return {family.name: family.type for family in families}

    def stop(self, *, grace_s: float = 0.0) -> None:
        """End it; with a grace period by SIGTERM first."""
        self.place.stop(self.process.name, grace_s=grace_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How an engine is started. `arguments` come after `serve MODEL`, as the operator renders them."""

    model: Path
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    name: str = "engine"
    port: int = 0  # 0: a free one

    def command_line(self, port: int) -> list[str]:
        """The arguments with model, name and address, where they are not given."""
        given = {argument.split("=", 1)[0] for argument in self.arguments}
        defaults = (f"--served-model-name={SERVED}", f"--port={port}", "--host=127.0.0.1", *_SMALL)
        missing = [option for option in defaults if option.split("=", 1)[0] not in given]
        return ["serve", str(self.model), *missing, *self.arguments]


def start_vllm(place: Workplace, served: Served) -> Engine:
    """Real vLLM; not awaited. Its log is `<name>.log` in the workplace."""
    venv = install()
    port = served.port or free_ports(1)[0]
    env = {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core runs the model itself: a process less
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # POST /reset_prefix_cache
        **served.env,
    }
    command = [str(venv / "bin" / "vllm"), *served.command_line(port)]
    process = place.start(served.name, command, env=_with_path(env, venv / "bin"))
    return Engine(name=served.name, process=process, client=Client(port), place=place)


def start_sim(place: Workplace, served: Served) -> Engine:
    """The engine simulator with the same command line; not awaited."""
    port = served.port or free_ports(1)[0]
    env = {
        "ENGINESIM_VERSION": VLLM,
        "PYTHONPATH": str(_SOURCES),
        "VLLM_SERVER_DEV_MODE": "1",
        **served.env,
    }
    command = [sys.executable, "-m", "agentic_serving.enginesim", *served.command_line(port)]
    process = place.start(served.name, command, env=env)
    return Engine(name=served.name, process=process, client=Client(port), place=place)


def start_rendered_vllm(
    place: Workplace, argv: Sequence[str], env: Mapping[str, str], *, name: str = "engine"
) -> Engine:
    """A pod's command line on real vLLM with the tiny model, through the wrapper that pods use; not awaited."""
    venv = install()
    wrapped = {
        **env,
        **_homes(place, name),
        "AGENTIC_ENGINE_MODEL": str(tiny_model()),
        "AGENTIC_ENGINE_BLOCKS": "640",
        "VLLM_SERVER_DEV_MODE": "1",
    }
    folder = venv / "equipment"
    process = place.start(name, [str(folder / argv[0]), *argv[1:]], env=_with_path(wrapped, venv / "bin"))
    return Engine(name=name, process=process, client=Client(_port_of(argv)), place=place)


def start_rendered_sim(
    place: Workplace, argv: Sequence[str], env: Mapping[str, str], *, model: Path
) -> Engine:
    """A pod's command line (`vllm serve MODEL ...`) on the simulator with this model; not awaited."""
    command = [sys.executable, "-m", "agentic_serving.enginesim", argv[1], str(model), *argv[3:]]
    process = place.start(
        "engine", command, env={**env, **_homes(place, "engine"), "PYTHONPATH": str(_SOURCES)}
    )
    return Engine(name="engine", process=process, client=Client(_port_of(argv)), place=place)


def _homes(place: Workplace, engine: str) -> dict[str, str]:
    """Folders that a pod mounts."""
    names = ("HOME", "HF_HOME", "VLLM_CACHE_ROOT")
    return {name: str(place.folder / engine / name.lower()) for name in names}


def _port_of(argv: Sequence[str]) -> int:
    return next(int(a.partition("=")[2]) for a in argv if a.startswith("--port="))


def start_lmcache(
    place: Workplace,
    argv: Sequence[str],
    *,
    http_port: int,
    name: str = "lmcache",
    env: Mapping[str, str] | None = None,
) -> Engine:
    """A sidecar's command line (`lmcache server ...`); not awaited. Its health is at /healthcheck."""
    venv = install()
    quiet = {"LMCACHE_TRACK_USAGE": "false", "LMCACHE_DISABLE_BANNER": "1", **(env or {})}
    command = [str(venv / "bin" / argv[0]), *argv[1:]]
    process = place.start(name, command, env=_with_path(quiet, venv / "bin"))
    return Engine(name=name, process=process, client=Client(http_port), place=place)


def _with_path(env: Mapping[str, str], folder: Path) -> dict[str, str]:
    return {"PATH": f"{folder}:{os.environ.get('PATH', '')}", **env}
