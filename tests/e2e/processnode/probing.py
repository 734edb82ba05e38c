"""The probes of one run of a container, asked again and again while it runs."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .probes import Answer, Exec, ProbeSpec, Tally, ask
from .records import ContainerRecord
from .runtimeclient import RuntimeFailed

__all__ = ["Probing"]

_KINDS = ("startup", "readiness", "liveness")


@dataclass(slots=True, kw_only=True)
class Probing:
    """Writes what the startup and readiness probes say into the container's record."""

    record: ContainerRecord
    container: Mapping[str, Any]
    ip: str  # the pod's
    run: Exec
    changed: Callable[[], None]
    unhealthy: Callable[[str], None]  # called with "startup" or "liveness": the container is to be killed
    failed: Callable[[str], None]  # told of every answer that is no success
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def start(self) -> None:
        if self.record.started:
            self._started.set()
        for kind in _KINDS:
            if self.container.get(f"{kind}Probe"):
                self._tasks[kind] = asyncio.create_task(self._probe(kind))

    def cancel(self, *, keep: str = "") -> None:
        for kind, task in self._tasks.items():
            if kind != keep:
                task.cancel()

    async def _probe(self, kind: str) -> None:
        spec = ProbeSpec.of(self.container[f"{kind}Probe"])
        if kind != "startup":
            await self._started.wait()
        await asyncio.sleep(max(0.0, self.record.started_at_s + spec.initial_delay_s - time.time()))
        tally = Tally(spec.success_threshold, spec.failure_threshold)
        while True:
            answer = await self._ask(spec)
            if not answer.ok:
                self.failed(f"{kind.capitalize()} probe failed: {answer.message}")
            verdict = tally.record(ok=answer.ok)
            if verdict is not None and self._decided(kind, verdict):
                return
            await asyncio.sleep(spec.period_s)

    def _decided(self, kind: str, verdict: bool) -> bool:
        """Act on a verdict; whether the probe has nothing left to ask."""
        if kind == "readiness":
            if self.record.ready != verdict:
                self.record.ready = verdict
                self.changed()
            return False
        if not verdict:
            self.unhealthy(kind)
            return True
        if kind == "startup":
            self.record.on_startup_probe(has_readiness_probe=bool(self.container.get("readinessProbe")))
            self._started.set()
            self.changed()
            return True
        return False

    async def _ask(self, spec: ProbeSpec) -> Answer:
        try:
            return await ask(spec, self.container, self.ip, self.run)
        except RuntimeFailed as error:
            return Answer(ok=False, message=str(error))
