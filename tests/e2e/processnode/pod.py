"""One pod of the node, from its first sight to its removal."""

import asyncio
import contextlib
import shutil
import time
from pathlib import Path

from .api import Manifest
from .containers import PodParts, hostname
from .context import NodeContext
from .decide import Decision, decide
from .env import PodContext
from .lookup import Missing
from .network import NetworkFailed, PodNet
from .podobject import PodObject
from .records import ContainerRecord
from .running import Containers, records_of
from .runtimeclient import RuntimeFailed
from .status import PodFacts, Verdict
from .supported import unsupported
from .volumes import PodVolumes

__all__ = ["PodWorker"]

_SIZES_S = 3.0  # how often folders with a limit are measured; a kubelet does it every 10 s
_SETUP_RETRY_S = 5.0  # what is missing is noticed at once; this is for what nothing tells us of


class PodWorker:
    """Carries a pod out. `update` tells it of changes; `run` ends when the pod is gone from the API server."""

    def __init__(self, node: NodeContext, pod: Manifest) -> None:
        self._node = node
        self.object = PodObject(node.api, node.events, pod)
        self.uid = self.object.uid
        self._folder = node.folder / "pods" / self.uid
        self.logs = node.folder / "logs" / self.uid
        self.containers: Containers | None = None
        self._records: list[ContainerRecord] = records_of(pod["spec"])
        self._volumes: PodVolumes | None = None
        self._net: PodNet | None = None
        self._wake = asyncio.Event()
        self._dirty = asyncio.Event()  # volumes are to be looked at
        self._ending = asyncio.Event()  # no container is to be started any more
        self._gone = asyncio.Event()  # the API server has no such pod any more
        self._deleted = asyncio.Event()
        self._verdict: Verdict | None = None
        self._started_at_s = time.time()
        self._kill_timer: asyncio.TimerHandle | None = None

    def writes_to(self, log: Path) -> bool:
        """Whether a container that runs writes to this file."""
        return any(r.state == "running" and r.logs[-1:] == [str(log)] for r in self._records)

    def update(self, pod: Manifest) -> None:
        """The object has changed."""
        before = self.object.metadata
        self.object.update(pod)
        if pod["metadata"].get("deletionTimestamp"):
            shorter = pod["metadata"].get("deletionGracePeriodSeconds", 0)
            if self._deleted.is_set() and shorter < before.get("deletionGracePeriodSeconds", shorter):
                self._kill_after(shorter)
            self._deleted.set()
            self._ending.set()
        self._dirty.set()
        self._wake.set()

    def removed(self) -> None:
        """The API server has it no more: nothing is left to be graceful for."""
        self._gone.set()
        self._deleted.set()
        self._ending.set()
        self._kill_after(0)
        self._wake.set()

    def surroundings_changed(self) -> None:
        """A ConfigMap, Secret or claim of its namespace has changed."""
        self._dirty.set()
        for record in self._records:
            if record.state == "waiting" and record.reason == "CreateContainerConfigError":
                record.retry_at_s = 0
        self._wake.set()

    def end(self, verdict: Verdict, *, grace_s: float) -> None:
        """End the pod from outside, keeping its object; a verdict that it has stays."""
        if self._verdict is None:
            self._verdict = verdict
            self._ending.set()
            self._kill_after(grace_s)
            self._wake.set()

    def evict(self, message: str) -> None:
        """End the pod as a kubelet does under pressure."""
        self.object.event("Warning", "Evicted", message)
        self.end(Verdict(phase="Failed", reason="Evicted", message=message, disruption=True), grace_s=0)

    async def run(self) -> None:
        beside = [asyncio.create_task(work) for work in (self._refresh_volumes(), self._watch_sizes())]
        try:
            await self._live()
            await self._clean()
            await self._deleted.wait()
            if not self._gone.is_set():
                await self.object.delete()
        finally:
            for task in beside:
                task.cancel()
            await self._clean()

    async def _live(self) -> None:
        fields = unsupported(self.object.spec)
        if fields:
            message = f"the process node does not carry out {', '.join(fields)}"
            self.object.event("Warning", "UnsupportedField", message)
            self._verdict = Verdict(phase="Failed", reason="UnsupportedField", message=message)
        else:
            self._watch_deadline()
            if await self._set_up():
                await self._run_containers()
        await self._publish()

    def _watch_deadline(self) -> None:
        limit_s = self.object.spec.get("activeDeadlineSeconds")
        if limit_s is not None:
            message = "Pod was active on the node longer than the specified deadline"
            verdict = Verdict(phase="Failed", reason="DeadlineExceeded", message=message)
            grace_s = self._grace_s()
            asyncio.get_running_loop().call_later(limit_s, lambda: self.end(verdict, grace_s=grace_s))

    async def _set_up(self) -> bool:
        """Network, sandbox and volumes; False if the pod is to end before it has them."""
        await self._publish()
        while not self._ending.is_set():
            self._wake.clear()
            try:
                await self._prepare()
                return True
            except Missing as error:
                self.object.event("Warning", "FailedMount", str(error))
            except (NetworkFailed, RuntimeFailed) as error:
                self.object.event("Warning", "FailedCreatePodSandBox", str(error))
            await self._wait(time.time() + _SETUP_RETRY_S)
        return False

    async def _prepare(self) -> None:
        metadata = self.object.metadata
        if self._net is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            net = await asyncio.to_thread(
                self._node.network.attach,
                self.uid,
                namespace=metadata["namespace"],
                hostname=hostname(self.object.newest),
            )
            shm = str(self._folder / "shm")
            await self._node.runtime.sandbox(
                self.uid, netns=str(net.netns), hostname=hostname(self.object.newest), shm=shm
            )
            self._net = net
            self._volumes = PodVolumes(self._node, self._context(net), self._folder / "volumes")
        if self._volumes is not None:
            await self._volumes.prepare()

    def _context(self, net: PodNet) -> PodContext:
        namespace = self.object.metadata["namespace"]
        return PodContext(
            pod=self.object.newest,
            address={"hostIP": self._node.network.node_ip, "podIP": net.ip},
            capacity=self._node.capacity,
            find=lambda plural, name: self._node.find(plural, namespace, name),
        )

    async def _run_containers(self) -> None:
        """Until the pod ends or has nothing left to run; afterwards all containers have ended."""
        if self._net is None or self._volumes is None:
            raise RuntimeError(f"{self.object.name} has not been set up")
        parts = PodParts(
            node=self._node, context=self._context(self._net), net=self._net, volumes=self._volumes
        )
        self.containers = Containers(parts, self._records, self.logs, self._wake.set)
        while not self._ending.is_set():
            self._wake.clear()
            decision = decide(self._records, self.object.spec.get("restartPolicy", "Always"), time.time())
            if decision.outcome:
                self._verdict = Verdict(phase=decision.outcome)
                break
            self._hold_back(decision)
            for name in decision.start:
                await self.containers.start(name)
            await self._publish()
            if not decision.start:
                await self._wait(decision.wake_at_s)
        await self._stop_containers(self.containers)

    async def _stop_containers(self, containers: Containers) -> None:
        stopping = asyncio.create_task(containers.stop(self._grace_s()))
        try:
            while not stopping.done():
                self._wake.clear()
                await self._publish()
                waking = asyncio.create_task(self._wake.wait())
                await asyncio.wait({stopping, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
            await stopping
        finally:
            stopping.cancel()
            containers.close()
        if self._verdict is None:
            failed = any(r.role == "main" and (r.ended is None or r.ended.exit_code) for r in self._records)
            self._verdict = Verdict(phase="Failed" if failed else "Succeeded")

    def _grace_s(self) -> float:
        metadata = self.object.metadata
        if self._gone.is_set() or (self._verdict is not None and self._verdict.disruption):
            return 0.0
        if "deletionGracePeriodSeconds" in metadata:
            return float(metadata["deletionGracePeriodSeconds"])
        return float(self.object.spec.get("terminationGracePeriodSeconds", 30))

    def _hold_back(self, decision: Decision) -> None:
        """What has ended and waits for its next start says so."""
        for record in self._records:
            if (
                record.name in decision.held_back
                and record.state == "terminated"
                and record.ended is not None
            ):
                delay_s = record.retry_at_s - record.ended.finished_at_s
                record.state, record.reason = "waiting", "CrashLoopBackOff"
                record.message = f"back-off {delay_s:.0f}s restarting failed container={record.name} pod={self.object.name}"
                self.object.event("Warning", "BackOff", f"Back-off restarting failed container {record.name}")

    async def _refresh_volumes(self) -> None:
        """Keep volumes current that hold objects, until cancelled."""
        while True:
            at_s = self._volumes.refresh_at_s if self._volumes else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if at_s is None else max(0.0, at_s - time.time())):
                    await self._dirty.wait()
            self._dirty.clear()
            if self._volumes is not None and self.containers is not None:
                await self._volumes.refresh(self.object.newest)

    async def _watch_sizes(self) -> None:
        """Evict the pod when a folder of it outgrows its limit, as a kubelet does."""
        while self._verdict is None:
            await asyncio.sleep(_SIZES_S)
            message = await asyncio.to_thread(self._volumes.over_limit) if self._volumes is not None else ""
            if message:
                self.evict(message)

    def _kill_after(self, grace_s: float) -> None:
        """Kill all containers when the time is up, whatever they are doing then."""
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._kill_timer = asyncio.get_running_loop().call_later(grace_s, self._kill_now)

    def _kill_now(self) -> None:
        if self.containers is not None:
            self.containers.kill_soon()

    async def _wait(self, until_s: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if until_s is None else max(0.0, until_s - time.time())):
                await self._wake.wait()

    async def _publish(self) -> None:
        if self._gone.is_set():
            return
        running = any(r.state == "running" for r in self._records)
        facts = PodFacts(
            host_ip=self._node.network.node_ip,
            pod_ip=self._net.ip if self._net else "",
            started_at_s=self._started_at_s,
            verdict=None if running else self._verdict,  # a pod is not over while something of it runs
        )
        await self.object.publish(self._records, facts)

    async def _clean(self) -> None:
        """Leave nothing of the pod but its logs. A second call does nothing."""
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        if self._net is None:
            return
        self._net = None
        with contextlib.suppress(RuntimeFailed):  # it has ended, and its mounts with it
            await self._node.runtime.remove(self.uid, self._volumes.memory if self._volumes else [])
        await asyncio.to_thread(self._node.network.detach, self.uid)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
