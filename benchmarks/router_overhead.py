"""What the program scheduler costs a request: real Envoy, an engine that answers at once, with and without us.

    python -m benchmarks.router_overhead                                            about 6 minutes
    AGENTIC_E2E_LLMD_EPP=PATH python -m benchmarks.router_overhead                  and the CPU of llm-d's picker

Arms of one repeat, in turn, with the same requests at the same times: Envoy as rendered with the scheduler Off; a no-op
external processor in the same library; ours with all that it does. The scheduler has a core to itself (taskset), Envoy,
clients and engine share the other. No picker stands in these arms: it would hide what is measured. Its CPU is measured
in a chain of its own, on the same requests.
"""

import argparse
import asyncio
import copy
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

import psutil
from benchmarks.gain.machine import Meter
from benchmarks.overhead.load import Request, at_rate, large, side_by_side, small
from benchmarks.overhead.schedulers import CODER, HOSTS

from agentic_serving.render.envoy import EnvoyConfig, EnvoyInputs, envoy_config
from agentic_serving.render.picker import picker_config
from agentic_serving.render.releases import load_release
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import Process, Workplace, free_ports, wait_until
from tests.e2e.routerkit.envoys import RunningEnvoy, running, without_picker
from tests.e2e.routerkit.pickers import picker_binary, running_picker
from tests.e2e.routerkit.pools import pool_of_two
from tests.e2e.routerkit.variants import PICKER_VARIANTS

Arm = Literal["none", "no-op", "ours"]
ARMS: tuple[Arm, ...] = ("none", "no-op", "ours")
RELEASE = load_release("llm-d-0.10")
INPUTS = EnvoyInputs(release=RELEASE, programs=(CODER,), request_timeout_s=60, drain_s=300)
ROOT = Path(__file__).parents[1]
#: The scheduler's core; everything else runs on the others.
CORE = 0
N_CLIENTS = 16
#: Connections are made, sessions seen once.
WARM_UP = 100
#: On a shared machine: cores of others that are put up with, how often an arm is tried, how long is waited before each.
QUIET_CORES, ATTEMPTS, PATIENCE_S = 0.2, 3, 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One arm of one repeat. Seconds; per request where not said otherwise."""

    arm: Arm
    p50: float
    p99: float
    scheduler_cpu: float
    envoy_cpu: float
    small_per_s: float
    small_scheduler_cpu: float
    others: float = 0.0  # cores that other processes used meanwhile


@dataclass(frozen=True, slots=True)
class Site:
    """What an arm's requests go through."""

    envoy: RunningEnvoy
    scheduler: Process | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.envoy.http_port}"


def main() -> None:
    options = _options()
    os.sched_setaffinity(
        0, set(range(os.cpu_count() or 1)) - {CORE}
    )  # and what it starts, unless told otherwise
    bodies = large(int(options.seconds * options.rate) + WARM_UP, _rng(1))
    shorts = small(options.small, _rng(2))
    print(
        f"bodies of {statistics.mean(len(one.body) for one in bodies) / 1000:.0f} KB at {options.rate}/s",
        flush=True,
    )
    found = []
    for repeat in range(options.repeats):
        for arm in (*ARMS[repeat % 3 :], *ARMS[: repeat % 3]):
            found.append(
                _undisturbed(arm, lambda site, arm=arm: _measure(arm, site, bodies, shorts, options.rate))
            )
            print(_line(found[-1]), flush=True)
    picker = _with_picker(bodies, options.rate) if picker_binary(RELEASE.name) else None
    _tell(found, picker)
    if options.out:
        options.out.write_text(
            json.dumps({"arms": [asdict(one) for one in found], "picker": picker}, indent=1) + "\n"
        )


def _undisturbed(arm: Arm, measure: Callable[[Site], Coroutine[Any, Any, Found]]) -> Found:
    """The first of some attempts in which other processes left the machine alone, or that which they disturbed least."""
    tried = []
    for _ in range(ATTEMPTS):
        _await_quiet()
        with _site(arm) as site:
            meter = Meter()
            found = asyncio.run(measure(site))
            found = replace(found, others=meter.read().others)
        if found.others <= QUIET_CORES:
            return found
        tried.append(found)
    return min(tried, key=lambda one: one.others)


def _await_quiet() -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        meter = Meter()
        time.sleep(2)
        if meter.read().others <= QUIET_CORES:
            return


async def _measure(
    arm: Arm, site: Site, bodies: Sequence[Request], shorts: Sequence[Request], rate: float
) -> Found:
    await at_rate(site.url, bodies[:WARM_UP], rate, _rng(3))
    cpu = _cpu(site)
    took = await at_rate(site.url, bodies[WARM_UP:], rate, _rng(4))
    scheduler_cpu, envoy_cpu = (
        (after - before) / len(took) for before, after in zip(cpu, _cpu(site), strict=True)
    )
    before = _cpu(site)[0]
    seconds = await side_by_side(site.url, shorts, N_CLIENTS)
    return Found(
        arm=arm,
        p50=statistics.median(took),
        p99=statistics.quantiles(took, n=100)[98],
        scheduler_cpu=scheduler_cpu,
        envoy_cpu=envoy_cpu,
        small_per_s=len(shorts) / seconds,
        small_scheduler_cpu=(_cpu(site)[0] - before) / len(shorts),
    )


def _rng(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - a reproducible workload, no secret


def _cpu(site: Site) -> tuple[float, float]:
    """CPU seconds of scheduler and Envoy so far."""
    scheduler = _cpu_of(site.scheduler) if site.scheduler else 0.0
    return scheduler, _cpu_of(site.envoy.process)


def _cpu_of(process: Process) -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


@contextmanager
def _site(arm: Arm) -> Iterator[Site]:
    with ExitStack() as stack:
        place = stack.enter_context(Workplace("agentic-overhead-"))
        grpc_port, engine_port = free_ports(2)
        engine = place.start(
            "engine", [sys.executable, "-m", "benchmarks.overhead.upstream", str(engine_port)], _env()
        )
        _await(engine, engine_port)
        scheduler = _scheduler(place, arm, grpc_port, engine_port) if arm != "none" else None
        rendered = envoy_config(replace(INPUTS, scheduler="Off" if arm == "none" else "Enforce"))
        chain = without_picker(
            rendered if arm != "no-op" else _filter_only(rendered), f"{HOSTS[0]}:{engine_port}"
        )
        yield Site(stack.enter_context(running(chain, scheduler_port=grpc_port)), scheduler)


def _scheduler(place: Workplace, arm: Arm, grpc_port: int, engine_port: int) -> Process:
    module = [sys.executable, "-m", "benchmarks.overhead.schedulers"]
    arguments = [arm, str(grpc_port), str(engine_port), str(place.folder)]
    process = place.start("scheduler", ["taskset", "-c", str(CORE), *module, *arguments], _env())
    _await(process, grpc_port)
    return process


def _filter_only(rendered: EnvoyConfig) -> EnvoyConfig:
    """Without what else tells the scheduler of a call: access log and first tokens."""
    config = copy.deepcopy(dict(rendered.config))
    manager: dict[str, Any] = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0][
        "typed_config"
    ]
    manager["http_filters"] = [one for one in manager["http_filters"] if one["name"] != "first-token"]
    manager["access_log"] = [one for one in manager["access_log"] if "grpc" not in one["name"]]
    return replace(rendered, config=config)


def _env() -> dict[str, str]:
    return {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}"}


def _await(process: Process, port: int) -> None:
    def listens() -> bool:
        found = psutil.Process(process.pid).net_connections(kind="tcp")
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found)

    wait_until(listens, timeout_s=30, what=process.name, watch=[process])


def _with_picker(bodies: Sequence[Request], rate: float) -> dict[str, float]:
    """CPU seconds per request of llm-d's picker and of our scheduler before it, on the same requests."""
    binary = picker_binary(RELEASE.name)
    assert binary is not None
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with ExitStack() as stack:
        cluster = stack.enter_context(ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)))
        pool = stack.enter_context(pool_of_two(cluster))
        kubeconfig = pool.kubeconfigs[RELEASE.name]
        config = picker_config(PICKER_VARIANTS["llm-d-aggregated"])
        picker = stack.enter_context(
            running_picker(
                binary, RELEASE, config, pool=pool.name, namespace=pool.namespace, kubeconfig=kubeconfig
            )
        )
        wait_until(lambda: _sees_two(picker.metrics), timeout_s=30, what="the pods in the picker")
        place = stack.enter_context(Workplace("agentic-overhead-"))
        (grpc_port,) = free_ports(1)
        scheduler = _scheduler(place, "ours", grpc_port, int(pool.decode.rsplit(":", 1)[1]))
        rendered = envoy_config(replace(INPUTS, scheduler="Enforce"))
        envoy = stack.enter_context(running(rendered, picker_port=picker.grpc_port, scheduler_port=grpc_port))
        asyncio.run(at_rate(f"http://127.0.0.1:{envoy.http_port}", bodies[:WARM_UP], rate, _rng(3)))
        before = [_cpu_of(one) for one in (picker.process, scheduler)]
        asyncio.run(at_rate(f"http://127.0.0.1:{envoy.http_port}", bodies[WARM_UP:], rate, _rng(4)))
        after = [_cpu_of(one) for one in (picker.process, scheduler)]
    spent = [(b - a) / (len(bodies) - WARM_UP) for a, b in zip(before, after, strict=True)]
    return {"picker_cpu": spent[0], "scheduler_cpu": spent[1]}


def _sees_two(metrics: Callable[[], str]) -> bool:
    return any("_ready_" in line and line.endswith(" 2") for line in metrics().splitlines())


def _line(one: Found) -> str:
    return (
        f"{one.arm:6} p50 {one.p50 * 1e3:6.2f} ms  p99 {one.p99 * 1e3:6.2f} ms  CPU scheduler {one.scheduler_cpu * 1e3:5.2f} ms"
        f"  Envoy {one.envoy_cpu * 1e3:5.2f} ms  small {one.small_per_s:5.0f}/s, {one.small_scheduler_cpu * 1e3:5.2f} ms  others {one.others:.2f} cores"
    )


def _tell(found: Sequence[Found], picker: dict[str, float] | None) -> None:
    def of(arm: Arm, field: str) -> float:
        return statistics.median(getattr(one, field) for one in found if one.arm == arm)

    def added(arm: Arm, field: str) -> list[float]:
        base = [getattr(one, field) for one in found if one.arm == "none"]
        return [
            getattr(one, field) - b for one, b in zip([o for o in found if o.arm == arm], base, strict=True)
        ]

    print(
        "\n| | added p50 ms | added p99 ms | CPU ms | small, /s | small, CPU ms |\n|---|---|---|---|---|---|"
    )
    for arm in ARMS[1:]:
        cells = [_span([1e3 * one for one in added(arm, field)]) for field in ("p50", "p99")]
        rest = (of(arm, "small_per_s"), 1e3 * of(arm, "small_scheduler_cpu"))
        print(
            f"| {arm} | {cells[0]} | {cells[1]} | {1e3 * of(arm, 'scheduler_cpu'):.1f} | {rest[0]:.0f} | {rest[1]:.2f} |"
        )
    for field in ("p50", "p99"):
        ratio = statistics.median(added("ours", field)) / statistics.median(added("no-op", field))
        print(f"ours / no-op, added {field}: {ratio:.2f}")
    if picker:
        ratio = picker["scheduler_cpu"] / picker["picker_cpu"]
        print(
            f"picker {1e3 * picker['picker_cpu']:.1f} ms, ours {1e3 * picker['scheduler_cpu']:.1f} ms: {ratio:.2f}"
        )


def _span(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=float, default=50.0, help="large bodies per second")
    parser.add_argument("--seconds", type=float, default=24.0, help="of each arm of each repeat")
    parser.add_argument("--small", type=int, default=4000, help="small bodies of each arm of each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
