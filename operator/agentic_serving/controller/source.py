"""Where watch events come from, as the controller sees it: kopf in the process, a script in tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agentic_serving.cluster.access import Access
from agentic_serving.cluster.port import Kind, Manifest

__all__ = ["Deliver", "GetAccess", "Source", "WatchPlan"]


class Deliver(Protocol):
    """Takes one event on the controller's loop."""

    def __call__(self, kind: Kind, obj: Manifest, *, deleted: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPlan:
    """What to watch."""

    selectors: dict[Kind, str]  # label selector per kind; "" is all objects
    namespaces: tuple[str, ...] = ()  # empty: all


GetAccess = Callable[[], Awaitable[Access]]


class Source(Protocol):
    """Delivers events of everything in a plan."""

    async def run(self, plan: WatchPlan, deliver: Deliver, started: Callable[[], None]) -> None:
        """Watch until cancelled.

        Args:
            started: called once when the streams begin.

        Raises:
            Exception: the streams ended; start again.
        """
        ...
