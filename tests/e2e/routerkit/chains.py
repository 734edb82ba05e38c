"""The whole chain in front of a pool of engines, as processes on loopback: Envoy, program scheduler, endpoint picker.

A `Link` says which of them take part and how; every configuration is the operator's own, but for ports and paths.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.policy import Policy
from agentic_serving.render.envoy import (
    ADMIN_PORT,
    HTTP_PORT,
    PICKER_PORT,
    READY_PORT,
    EnvoyInputs,
    envoy_config,
)
from agentic_serving.render.picker import PickerConfig, PickerInputs, picker_config
from agentic_serving.render.releases import PickerRelease, load_release
from agentic_serving.router.config import CacheEvents, Config, Valkey
from agentic_serving.router.config import Program as Scheduled
from tests.e2e.localcluster.process import Process, Workplace, wait_until
from tests.e2e.realengines.client import Client
from tests.e2e.routerkit.chain_envoy import by_session, dial, hashing, relocated, replace_file, start_envoy
from tests.e2e.routerkit.enginepool import POD_LABELS, POOL, POOL_NAMESPACE, STACK, EnginePool
from tests.e2e.routerkit.pickers import RunningPicker, picker_binary, running_picker
from tests.e2e.routerkit.ports import on_free_ports
from tests.e2e.routerkit.schedulers import RunningScheduler, running_scheduler

__all__ = ["Chain", "Link", "Router", "running_chain"]

#: Clients whose requests are one program's.
CODER = ProgramRoute(namespace=POOL_NAMESPACE, name="coder", clients=("ClaudeCode", "Codex", "OpenCode"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Who takes part.

    Attributes:
        scheduler: its mode; Off: it is not there.
        picking: `flow` as the operator renders it without Enforce, `load` the same scorers without the picker's queue,
            `session` no picker: Envoy keeps each session on one engine by a consistent hash.
        policy, max_hold_s, idle_s: the scheduler's, where time and tokens are scaled.
        routers: router pods: an Envoy, a picker and a scheduler each.
        store: the schedulers' Valkey, `host:port`; empty: none.
    """

    release: str = "gie-1.5"
    scheduler: Literal["Enforce", "Observe", "Off"] = "Off"
    picking: Literal["flow", "load", "session"] = "flow"
    policy: Policy = Policy()  # noqa: RUF009 - frozen
    max_hold_s: float = 300.0
    idle_s: float = 1800.0
    routers: int = 1
    store: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One router pod: processes that live and die together."""

    envoy: Process
    port: int
    admin_port: int
    picker: RunningPicker | None
    scheduler: RunningScheduler | None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """All of it, at once."""
        self.envoy.kill()
        if self.picker is not None:
            self.picker.process.kill()
        if self.scheduler is not None:
            self.scheduler.process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain that serves."""

    pool: EnginePool
    link: Link
    routers: tuple[Router, ...]
    folder: Path

    @property
    def url(self) -> str:
        return self.routers[0].url

    def configure(self, link: Link) -> None:
        """Give the schedulers another policy or programs, as a changed ConfigMap does."""
        for index in range(len(self.routers)):
            replace_file(self.folder / f"scheduler-{index}.json", scheduler_config(self.pool, link).to_json())


@contextmanager
def running_chain(pool: EnginePool, link: Link) -> Iterator[Chain]:
    """All routers of a chain, ready, and gone at the end of the block."""
    with Workplace("agentic-chain-") as place, ExitStack() as stack:
        release = load_release(link.release)
        schedulers = [_scheduler(stack, place, pool, link, index) for index in range(link.routers)]
        found = [one for one in schedulers if one is not None]
        routers = tuple(
            _router(stack, place, pool, link, release, found, index) for index in range(link.routers)
        )
        yield Chain(pool=pool, link=link, routers=routers, folder=place.folder)


def scheduler_config(pool: EnginePool, link: Link) -> Config:
    """What the operator would render into `scheduler.json` for this pool."""
    assert link.scheduler != "Off"
    return Config(
        namespace=POOL_NAMESPACE,
        stack=STACK,
        mode=link.scheduler,
        programs=(Scheduled(route=CODER, max_hold_s=link.max_hold_s, idle_s=link.idle_s),),
        picker_headers=_headers(load_release(link.release)),
        pod_labels=POD_LABELS,
        engine_port=pool.port,
        engine_version="0.32.0",
        max_seqs=pool.size.max_seqs,
        router_replicas=link.routers,
        policy=link.policy,
        cache_events=CacheEvents(port=pool.events_port) if pool.events_port else None,
        valkey=Valkey(address=link.store) if link.store else None,
    )


def _headers(release: PickerRelease) -> dict[str, str]:
    names = {role: getattr(release.headers, role) for role in ("fairness", "objective", "destination")}
    return {role: name for role, name in names.items() if name}


def _scheduler(
    stack: ExitStack, place: Workplace, pool: EnginePool, link: Link, index: int
) -> RunningScheduler | None:
    if link.scheduler == "Off":
        return None
    file = place.folder / f"scheduler-{index}.json"
    replace_file(file, scheduler_config(pool, link).to_json())
    return stack.enter_context(running_scheduler(file, pool.cluster.kubeconfig, name=f"router-{index}"))


def _router(
    stack: ExitStack,
    place: Workplace,
    pool: EnginePool,
    link: Link,
    release: PickerRelease,
    schedulers: Sequence[RunningScheduler],
    index: int,
) -> Router:
    picker = None if link.picking == "session" else stack.enter_context(_picker(pool, link, release))
    config, routes = _envoy(pool, link, release)
    dial(config, [one.grpc_port for one in schedulers], [one.http_port for one in schedulers])
    picker_port = picker.grpc_port if picker else PICKER_PORT

    def start(free: Sequence[int]) -> Router:
        moved = {PICKER_PORT: picker_port, HTTP_PORT: free[0], READY_PORT: free[1], ADMIN_PORT: free[2]}
        envoy = start_envoy(place, f"envoy-{index}", relocated(config, moved), routes)
        wait_until(lambda: Client(free[1]).answers("/ready"), timeout_s=30, what="Envoy", watch=[envoy])
        own = schedulers[index] if schedulers else None
        return Router(envoy=envoy, port=free[0], admin_port=free[2], picker=picker, scheduler=own)

    return on_free_ports(3, start)


@contextmanager
def _picker(pool: EnginePool, link: Link, release: PickerRelease) -> Iterator[RunningPicker]:
    binary = picker_binary(release.name)
    assert binary is not None, "llm-d's picker: its path is not given"
    rendered = picker_config(
        PickerInputs(
            release=release,
            model="tiny",
            prefix_routing="Approximate",
            disaggregated=False,
            request_timeout_s=1800,
            max_concurrency=-(-pool.size.max_seqs * 104 // 100),  # as the operator renders it: 4 % more
            block_tokens=pool.size.block_tokens,
            context_tokens=pool.size.cache_tokens,
        )
    )
    queues = link.picking == "flow" and link.scheduler != "Enforce"
    config = rendered if queues else _without_queue(rendered)
    with running_picker(
        binary,
        release,
        config,
        pool=POOL,
        namespace=POOL_NAMESPACE,
        kubeconfig=pool.picker_account(release),
    ) as picker:
        ready = len(pool.engines)
        wait_until(
            lambda: f"}} {ready}" in _line(picker.metrics(), release),
            timeout_s=30,
            what="the pool's pods in the picker",
            watch=[picker.process],
        )
        yield picker


def _line(metrics: str, release: PickerRelease) -> str:
    ready = ("_ready_pods{", "_ready_endpoints{")
    return next((one for one in metrics.splitlines() if any(name in one for name in ready)), "")


def _without_queue(config: PickerConfig) -> PickerConfig:
    """The same scorers; requests go on as soon as they are scored."""
    kept = {
        key: value for key, value in config.config.items() if key not in ("flowControl", "saturationDetector")
    }
    kept["featureGates"] = [gate for gate in kept.get("featureGates", []) if gate != "flowControl"]
    return PickerConfig(config=kept, rules=())


def _envoy(
    pool: EnginePool, link: Link, release: PickerRelease
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    rendered = envoy_config(
        EnvoyInputs(
            release=release,
            programs=(CODER,),
            request_timeout_s=1800,
            drain_s=300,
            scheduler=link.scheduler,
            scheduler_address="schedulers" if link.routers > 1 else "",
            max_hold_s=int(link.max_hold_s) + 1,
        )
    )
    if link.picking != "session":
        return rendered.config, rendered.routes
    engines = [(engine.client.host, pool.port) for engine in pool.engines]
    return by_session(rendered.config, engines), hashing(rendered.routes)
