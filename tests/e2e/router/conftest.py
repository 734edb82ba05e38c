"""The rendered chain in the real Envoy: the scheduler's own server as a process, with a scripted host, before an echo."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.render.envoy import EnvoyInputs, envoy_config
from agentic_serving.render.releases import load_release
from tests.e2e.localcluster.process import Workplace, free_ports
from tests.e2e.routerkit.envoys import Answer, RunningEnvoy, running, without_picker
from tests.e2e.routerkit.scripted import Scripted, start
from tests.e2e.routerkit.upstream import Echo, echo

CODER = ProgramRoute(namespace="ns", name="coder", clients=("ClaudeCode", "Codex", "OpenCode"))
INPUTS = EnvoyInputs(
    release=load_release("llm-d-0.10"),
    programs=(CODER,),
    request_timeout_s=1,
    drain_s=300,
    scheduler="Enforce",
    max_hold_s=60,
)


@dataclass(frozen=True)
class Chain:
    """Envoy, scheduler and the pod behind them."""

    envoy: RunningEnvoy
    scheduler: Scripted
    place: Workplace
    echo: Echo

    def heard(self, answer: Answer, event: str) -> dict[str, object]:
        """What the scheduler heard of an answered call."""
        (call_id,) = answer.header("x-request-id")
        return self.scheduler.awaited(call_id, event)


@contextmanager
def chain(inputs: EnvoyInputs = INPUTS, *, active: bool = True) -> Iterator[Chain]:
    """One of its own, for tests that disturb it. `active`: whether its scheduler is the active one."""
    with echo() as upstream, Workplace("agentic-scheduler-") as place:
        (port,) = free_ports(1)
        scheduler = start(place, port, active=active)
        rendered = without_picker(envoy_config(inputs), upstream.endpoint)
        with running(rendered, scheduler_port=port) as envoy:
            yield Chain(envoy, scheduler, place, upstream)


@pytest.fixture(scope="package")
def calm() -> Iterator[Chain]:
    """One for all tests that leave it as it is."""
    with chain(replace(INPUTS, request_timeout_s=10)) as found:
        yield found
