"""What the agent knows about the containers of a pod. Values only."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Backoff", "ContainerRecord", "Ended", "Role"]

Role = Literal["init", "sidecar", "main"]
State = Literal["waiting", "running", "terminated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delay before a container that ended is started again: none, then doubling.

    Defaults: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy.
    """

    initial_s: float = 10.0
    max_s: float = 300.0

    def after(self, delay_s: float, ran_s: float) -> float:
        """The delay that follows one of `delay_s` if the container then ran for `ran_s`."""
        if delay_s == 0 or ran_s > 2 * self.max_s:
            return self.initial_s
        return min(2 * delay_s, self.max_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How one run of a container ended."""

    exit_code: int
    reason: str
    started_at_s: float  # Unix time
    finished_at_s: float
    message: str = ""
    key: str = ""


@dataclass(slots=True, kw_only=True)
class ContainerRecord:
    """One container: what it does now, and how its last run ended."""

    name: str
    role: Role
    state: State = "waiting"
    reason: str = "ContainerCreating"  # why it waits
    message: str = ""
    key: str = ""  # of the newest run
    runs: int = 0  # started so far
    started_at_s: float = 0.0
    started: bool = False  # the startup probe, if any, has succeeded
    ready: bool = False
    initialized: bool = False  # it has been started once
    ended: Ended | None = None  # the newest run's, once it has ended
    previous: Ended | None = None  # of the run before
    delay_s: float = 0.0  # before the next start
    retry_at_s: float = 0.0  # Unix time; not to be started before
    logs: list[str] = field(default_factory=list)  # file of each run

    @property
    def restart_count(self) -> int:
        return max(0, self.runs - 1)

    def on_started(
        self, key: str, now_s: float, *, has_startup_probe: bool, has_readiness_probe: bool
    ) -> None:
        self.state, self.reason, self.message = "running", "", ""
        self.key, self.started_at_s = key, now_s
        self.runs += 1
        self.previous, self.ended = self.ended or self.previous, None
        self.started = not has_startup_probe
        self.ready = self.started and not has_readiness_probe
        self.initialized |= self.started

    def on_startup_probe(self, *, has_readiness_probe: bool) -> None:
        self.started = self.initialized = True
        self.ready = not has_readiness_probe

    def on_ended(self, ended: Ended, backoff: Backoff) -> None:
        self.state, self.started, self.ready = "terminated", False, False
        self.previous = self.ended or self.previous
        self.ended = ended
        self.retry_at_s = ended.finished_at_s + self.delay_s
        self.delay_s = backoff.after(self.delay_s, ended.finished_at_s - ended.started_at_s)

    def on_not_created(self, reason: str, message: str, now_s: float, retry_s: float) -> None:
        """It could not be made: no image, no ConfigMap. Nothing ran, so nothing is counted."""
        self.state, self.reason, self.message = "waiting", reason, message
        self.retry_at_s = now_s + retry_s
