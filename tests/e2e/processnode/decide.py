"""Which containers of a pod to start now. Pure; time is an argument.

Source: https://kubernetes.io/docs/concepts/workloads/pods/init-containers/ and .../sidecar-containers/: init
containers one after another, a sidecar lets the next one go once it has started, then all others at once; while
they run, sidecars are started again whatever the restart policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .records import ContainerRecord

__all__ = ["Decision", "decide"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    start: tuple[str, ...] = ()
    held_back: tuple[str, ...] = ()  # ended, and to be started at a later time
    wake_at_s: float | None = None  # when to decide again if nothing happens before
    outcome: str = ""  # "Succeeded" or "Failed": nothing is left to run but sidecars, which are to be stopped


def decide(records: Sequence[ContainerRecord], restart_policy: str, now_s: float) -> Decision:
    """What is due.

    Args:
        records: init containers and sidecars in the order of the spec, then the others.
        restart_policy: the pod's.
    """
    due: list[ContainerRecord] = []
    main = [r for r in records if r.role == "main"]
    initialized = any(r.runs for r in main)  # then a sidecar that is started again holds nobody up
    for record in (r for r in records if r.role != "main"):
        if record.role == "init" and record.ended is not None and _final(record, restart_policy):
            if record.ended.exit_code:
                return Decision(outcome="Failed")
            continue
        if record.state != "running":
            due.append(record)
        if not initialized and not (record.role == "sidecar" and record.started):
            return _when_due(due, now_s)
    if all(_final(r, restart_policy) for r in main):
        failed = any(r.ended is not None and r.ended.exit_code for r in main)
        return Decision(outcome="Failed" if failed else "Succeeded")
    due += [r for r in main if r.state != "running" and not _final(r, restart_policy)]
    return _when_due(due, now_s)


def _final(record: ContainerRecord, restart_policy: str) -> bool:
    """Whether it has ended and is not to be started again."""
    if record.state == "running" or record.ended is None:
        return False
    succeeded = record.ended.exit_code == 0
    if record.role == "init":
        return succeeded or restart_policy == "Never"
    if restart_policy == "OnFailure":
        return succeeded
    return restart_policy == "Never"


def _when_due(records: Sequence[ContainerRecord], now_s: float) -> Decision:
    later = [r for r in records if r.retry_at_s > now_s]
    return Decision(
        start=tuple(r.name for r in records if r.retry_at_s <= now_s),
        held_back=tuple(r.name for r in later if r.ended is not None),
        wake_at_s=min((r.retry_at_s for r in later), default=None),
    )
