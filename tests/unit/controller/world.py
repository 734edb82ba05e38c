"""A controller on a cluster in memory: tests act on the cluster, turn the clock, and look at what came of it.

Events wait in `events` until `settle` delivers them, so that a test can lose, repeat or reorder them. Plans are
small (`small_plan`): what the renderer makes of a stack is tested in its own room.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from agentic_serving import names
from agentic_serving.api.capability import Capability
from agentic_serving.clock import ManualClock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.cluster.port import Kind, Manifest
from agentic_serving.controller.health import Health
from agentic_serving.controller.keys import OWN_KINDS, Key
from agentic_serving.controller.leading import Leading
from agentic_serving.controller.metrics import Metrics
from agentic_serving.controller.schedulers import Pages
from agentic_serving.controller.source import Deliver, WatchPlan
from agentic_serving.render.inputs import RenderInputs
from agentic_serving.render.manifest import Manifest as Rendered
from agentic_serving.render.manifest import Owner
from agentic_serving.render.plan import Plan, PlannedRole
from agentic_serving.render.programs import ProgramOutcome
from agentic_serving.settings import OperatorSettings

NS = "team"
Change = Callable[[Manifest], None]


def stack(name: str = "chat", *, replicas: int = 2, policy: str = "") -> Manifest:
    spec: Manifest = {
        "model": {"name": "m", "source": {"huggingFace": {"repository": "Qwen/Qwen3-32B"}}},
        "accelerator": {"preset": "nvidia-h200"},
        "topology": {"aggregated": {"replicas": replicas}},
    }
    if policy:
        spec["kvTierPolicyRef"] = {"name": policy}
    return _own(kinds.STACK, name, spec)


def program(name: str = "coding", *, stacks: tuple[str, ...] = ("chat",), header: str = "a") -> Manifest:
    agents = [{"name": f"agent-{i}", "stackRef": {"name": s}} for i, s in enumerate(stacks)]
    return _own(
        kinds.PROGRAM, name, {"agents": agents, "match": {"headers": [{"name": "x-app", "value": header}]}}
    )


def policy(name: str = "host") -> Manifest:
    return _own(kinds.POLICY, name, {"hostMemory": {"backend": "Native", "capacityPerReplica": "10Gi"}})


def _own(kind: Kind, name: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": NS}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def small_plan(inputs: RenderInputs) -> Plan:
    """A ConfigMap with the programs, a Service, an engine and a router; two engines with more than 4 replicas."""
    meta = inputs.stack.metadata
    owner = Owner.of(meta)
    pool = inputs.stack.spec.topology.aggregated
    replicas = pool.replicas if pool else 0
    engines = ["engine"] if replicas <= 4 else ["engine", "overflow"]
    config = {"programs": ",".join(sorted(p.metadata.name for p in inputs.programs))}
    bodies = [
        _body(kinds.CONFIG_MAP, owner, owner.child("config"), {"data": config}),
        _body(kinds.SERVICE, owner, meta.name, {"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}}),
        *(_deployment(owner, owner.child(e), replicas) for e in engines),
        _deployment(owner, owner.child("router"), 1),
    ]
    if inputs.serves(*kinds.POD_MONITOR.gvk):
        bodies.append(_body(kinds.POD_MONITOR, owner, meta.name, {"spec": {"selector": {}}}))
    tier = Capability(
        intent="HostMemoryTier", role="Aggregated", state="Supported", mechanism="OffloadingConnector"
    )
    return Plan(
        manifests=tuple(Rendered(body=body) for body in bodies),
        capabilities=(tier,) if inputs.policy else (),
        roles=(
            PlannedRole(name="Aggregated", deployment=owner.child("engine"), replicas=replicas),
            PlannedRole(name="Router", deployment=owner.child("router"), replicas=1),
        ),
        endpoint=f"http://{meta.name}.{meta.namespace}.svc",
        programs=tuple(
            ProgramOutcome(
                namespace=p.metadata.namespace,
                name=p.metadata.name,
                accepted=True,
                reason="Accepted",
                message="",
            )
            for p in inputs.programs
        ),
    )


def _body(kind: Kind, owner: Owner, name: str, rest: Manifest) -> Manifest:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": owner.metadata(name, "test"),
        **rest,
    }


def _deployment(owner: Owner, name: str, replicas: int) -> Manifest:
    labels = {"app": name}
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}},
    }
    return _body(kinds.DEPLOYMENT, owner, name, {"spec": spec})


class NoSource:
    """Tests deliver events themselves."""

    async def run(self, plan: WatchPlan, deliver: Deliver, started: Callable[[], None]) -> None:
        started()
        await asyncio.Event().wait()


@dataclass
class World:
    """One cluster, one controller at a time."""

    render: Callable[[RenderInputs], Plan] = small_plan
    settings: dict[str, Any] = field(default_factory=dict)
    served: tuple[Kind, ...] = kinds.ALL_KINDS
    fresh: bool = True
    pages: Pages | None = None

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.cluster = FakeCluster(clock=self.clock, served=self.served)
        self.events: list[tuple[str, Kind, Manifest]] = []
        self.cluster.subscribe(lambda *event: self.events.append(event))
        self.leading = self._controller()

    def _controller(self) -> Leading:
        return Leading(
            OperatorSettings(leader_election=False, identity="test", **self.settings),
            self.cluster,
            NoSource(),
            clock=self.clock,
            rng=Random(1),
            metrics=Metrics(),
            health=Health(clock=self.clock, resync_s=600),
            render=self.render,
            fresh=lambda: self.fresh,
            pages=self.pages,
        )

    @classmethod
    async def with_objects(cls, *objects: Manifest, **options: Any) -> "World":
        """A controller that has loaded a cluster with these objects, and settled."""
        world = cls(**options)
        for obj in objects:
            world.seed(obj)
        await world.start()
        return world

    async def start(self) -> None:
        await self.leading.census.load()
        await self.settle()

    async def restart(self) -> None:
        """The process died; another starts. What the old one knew is gone."""
        self.events.clear()
        self.leading = self._controller()
        await self.start()

    async def settle(self, seconds: float = 0.0) -> None:
        """Deliver events and work until nothing is due within `seconds`; the clock moves as far as needed.

        Every ten minutes the controller looks at the whole cluster, as `Census.run` does.
        """
        while seconds >= 600:
            await self._settle(600)
            await self.leading.census.look()
            seconds -= 600
        await self._settle(seconds)

    async def _settle(self, seconds: float) -> None:
        until_s = self.clock.monotonic_s() + seconds
        for _ in range(10_000):
            self.deliver_all()
            key = self.leading.queue.take()
            if key is not None:
                await self.leading.workers.handle(key)
                continue
            next_s = self.leading.queue.next_due_s()
            if next_s is None or next_s > until_s:
                if not self.events:
                    self.clock.advance(until_s - self.clock.monotonic_s())
                    return
                continue
            self.clock.advance(next_s - self.clock.monotonic_s())
        raise AssertionError("the controller does not come to rest")

    def deliver_all(self) -> None:
        while self.events:
            self.deliver(*self.events.pop(0))

    def deliver(self, type_: str, kind: Kind, obj: Manifest) -> None:
        """As the watch would: children only with our label."""
        labels = obj["metadata"].get("labels") or {}
        watched = kind.kind in OWN_KINDS or labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY_VALUE
        plan = self.leading.census.watch_plan()
        if kind in plan.selectors and obj["metadata"].get("namespace") in (
            plan.namespaces or (obj["metadata"].get("namespace"),)
        ):
            self.leading.intake.deliver(kind, obj, deleted=type_ == "DELETED" or not watched)

    def seed(self, obj: Manifest) -> Manifest:
        return self.cluster.seed(kinds.of(obj), obj)

    def edit(self, kind: Kind, name: str, change: Change) -> None:
        self.cluster.edit(kind, NS, name, change)

    def get(self, kind: Kind, name: str) -> Manifest:
        found = self.cluster.peek(kind, NS, name)
        assert found is not None, f"{kind} {name} does not exist"
        return found

    def children(self) -> list[str]:
        """What exists beside our own kinds, as `Kind/name`."""
        return sorted(
            f"{o['kind']}/{o['metadata']['name']}"
            for o in self.cluster.objects()
            if o["kind"] not in (*OWN_KINDS, "Event", "Lease")
        )

    def condition(self, kind: Kind, name: str, type_: str) -> tuple[str, str]:
        """(status, reason) of a condition."""
        conditions = self.get(kind, name).get("status", {}).get("conditions", [])
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == type_), ("-", "-"))

    def message(self, kind: Kind, name: str, type_: str) -> str:
        conditions = self.get(kind, name)["status"]["conditions"]
        return next(str(c.get("message", "")) for c in conditions if c["type"] == type_)

    def writes(self) -> list[str]:
        """Writes since the last call, as `verb Kind/name`; Events aside."""
        found = [
            f"{c.verb} {c.kind.kind}/{c.name}"
            for c in self.cluster.writes
            if c.kind and c.kind != kinds.EVENT
        ]
        self.cluster.calls.clear()
        return found

    def pods_ready(self) -> None:
        """What the Deployment controller and the kubelets would do."""
        for obj in self.cluster.objects(kinds.DEPLOYMENT):
            if (obj.get("status") or {}) != _complete(obj):
                self.edit(kinds.DEPLOYMENT, obj["metadata"]["name"], lambda o: o.update(status=_complete(o)))

    async def ready(self) -> None:
        """Settle with all pods ready."""
        self.pods_ready()
        await self.settle(2)

    def key(self, name: str = "chat", kind: str = "AgenticServingStack") -> Key:
        return Key(kind, NS, name)


def _complete(deployment: Manifest) -> Manifest:
    n = deployment["spec"]["replicas"]
    counts = {f: n for f in ("replicas", "readyReplicas", "updatedReplicas", "availableReplicas") if n}
    return {"observedGeneration": deployment["metadata"]["generation"], **counts}
