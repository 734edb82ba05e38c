"""The operator as a process: what is made of what, and in which order it starts and stops.

Connect, serve health, wait for the Lease, list everything, watch, work. A lost lease ends the process with 1, so
that whatever was under way ends with it; SIGTERM ends it with 0 after giving the lease back.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from random import Random

from agentic_serving import logs
from agentic_serving.clock import Clock
from agentic_serving.cluster.kube import KubeCluster, KubeOptions, connect
from agentic_serving.cluster.lease import LeaseElector, LeaseTimings
from agentic_serving.cluster.port import Cluster
from agentic_serving.controller.health import Health, Server
from agentic_serving.controller.leading import Leading
from agentic_serving.controller.metrics import Metrics
from agentic_serving.controller.source import Source
from agentic_serving.errors import ClusterError, InvalidInput
from agentic_serving.render.plan import render
from agentic_serving.settings import OperatorSettings

__all__ = ["run"]

_log = logging.getLogger(__name__)


async def run(
    settings: OperatorSettings,
    *,
    clock: Clock,
    rng: Random,
    cluster: Cluster | None = None,
    source: Source | None = None,
) -> int:
    """Run until told to stop; the result is the exit code.

    Args:
        rng: jitter and unique names; nothing secret.
        cluster: instead of the one that the settings name.
        source: where watch events come from, instead of kopf.
    """
    logs.set_up(settings.log_level, settings.log_format)
    metrics = Metrics()
    if cluster is None:
        try:
            cluster = await _connect(settings, metrics)
        except InvalidInput as error:
            _log.error("cannot reach a cluster", extra={"error": str(error)})
            return 2
    health = Health(clock=clock, resync_s=settings.resync_s)
    server = Server(health, metrics)
    try:
        if settings.metrics_port:
            await server.start(settings.metrics_address, settings.metrics_port)
        return await _until_stopped(settings, cluster, source or _kopf(cluster), clock, rng, metrics, health)
    finally:
        await server.stop()
        await cluster.close()


async def _connect(settings: OperatorSettings, metrics: Metrics) -> KubeCluster:
    options = KubeOptions(pool_size=settings.workers * 2)
    return await connect(
        settings.kubeconfig, settings.context, options=options, observe=metrics.observe_request
    )


def _kopf(cluster: Cluster) -> Source:
    from agentic_serving.controller.handlers import KopfSource  # takes a second to import

    if not isinstance(cluster, KubeCluster):
        raise InvalidInput("source", "kopf watches real clusters only")
    return KopfSource(cluster.access)


async def _until_stopped(
    settings: OperatorSettings,
    cluster: Cluster,
    source: Source,
    clock: Clock,
    rng: Random,
    metrics: Metrics,
    health: Health,
) -> int:
    elector = _elector(settings, cluster, clock) if settings.leader_election else None
    fresh: Callable[[], bool] = elector.fresh if elector else lambda: True
    leading = Leading(
        settings,
        cluster,
        source,
        clock=clock,
        rng=rng,
        metrics=metrics,
        health=health,
        render=render,
        fresh=fresh,
    )
    health.why_not_ready = ""  # a standby is ready to take over
    work = asyncio.create_task(elector.run(leading.run) if elector else leading.run(), name="lead")
    _on_signals(work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        _log.info("stopped")
        return 0
    except ClusterError as error:
        _log.error("lost the lease; ending", extra={"error": str(error)})
    except Exception:  # noqa: BLE001 - the last one to see it
        _log.exception("failed; ending")
    return 1


def _elector(settings: OperatorSettings, cluster: Cluster, clock: Clock) -> LeaseElector:
    return LeaseElector(
        cluster,
        namespace=settings.lease_namespace,
        name=settings.lease_name,
        identity=settings.identity,
        clock=clock,
        timings=LeaseTimings(
            lease_duration_s=settings.lease_duration_s,
            renew_deadline_s=settings.renew_deadline_s,
            retry_period_s=settings.retry_period_s,
        ),
    )


def _on_signals(stop: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except (NotImplementedError, ValueError, RuntimeError):
            return  # not in the main thread: whoever runs us there cancels us
