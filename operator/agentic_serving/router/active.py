"""One scheduler of a stack is active: the only one there is, or the one that holds the stack's Lease."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agentic_serving.clock import Clock
from agentic_serving.cluster.lease import LeaseElector, LeaseTimings
from agentic_serving.cluster.port import Cluster
from agentic_serving.errors import ClusterError
from agentic_serving.names import child_name
from agentic_serving.router.config import Config
from agentic_serving.router.settings import SchedulerSettings

__all__ = ["Active"]

_log = logging.getLogger(__name__)
#: Before it stands for the Lease again that it has lost.
_AGAIN_S = 1.0


class Active:
    """Says when we begin and when we cease to be the active one.

    Args:
        begin: to be awaited before calls come to us.
        end: to be awaited before another may begin.
    """

    def __init__(
        self,
        settings: SchedulerSettings,
        config: Config,
        cluster: Cluster,
        clock: Clock,
        *,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        self.now = False
        self._begin = begin
        self._end = end
        self._alone = config.router_replicas <= 1
        self._elector = LeaseElector(
            cluster,
            namespace=config.namespace,
            name=child_name(config.stack, "scheduler"),
            identity=settings.identity,
            clock=clock,
            timings=LeaseTimings(
                lease_duration_s=settings.lease_duration_s,
                renew_deadline_s=settings.renew_deadline_s,
                retry_period_s=settings.retry_period_s,
            ),
        )

    async def run(self) -> None:
        """Until cancelled."""
        if self._alone:
            await self._lead()
        while True:
            try:
                await self._elector.run(self._lead)
            except ClusterError as error:
                _log.warning("another scheduler may be the active one: %s", error)
            await asyncio.sleep(_AGAIN_S)

    async def _lead(self) -> None:
        await self._begin()
        self.now = True
        try:
            await asyncio.Event().wait()
        finally:
            self.now = False
            await self._end()
