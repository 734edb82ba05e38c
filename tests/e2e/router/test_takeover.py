"""The scheduler's own process and a real store: what it knew is known again after `kill -9`, and to the other router pod."""

import re
from collections.abc import Iterator
from itertools import count

import pytest

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.realengines.client import Client
from tests.e2e.realengines.processes import SERVED
from tests.e2e.routerkit.chains import Chain, Link, running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool
from tests.e2e.routerkit.schedulers import RunningScheduler
from tests.e2e.routerkit.stores import Store

_SESSIONS = 6
#: A Lease is the other's after 15 s without a word, and it asks every few seconds.
_TAKEOVER_S = 60.0


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind="sim", size=EngineSize(), env={"ENGINESIM_PROFILE": "cpu-tiny"}) as found,
    ):
        yield found


def serve(chain: Chain, turns: int, router: int = 0) -> None:
    """That many turns of each session, each of them longer than the last."""
    client = Client(chain.routers[router].port)
    for session in range(_SESSIONS):
        for turn in range(turns):
            text = f"session {session} " * 200 * (turn + 1)
            answer = client.post(
                "/v1/chat/completions",
                {"model": SERVED, "max_tokens": 4, "messages": [{"role": "user", "content": text}]},
                {"x-session-id": f"session-{session}"},
            )
            assert answer.status == 200, answer.text


def figure(scheduler: RunningScheduler, name: str) -> float:
    """A metric's value, 0 where it is not there."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", scheduler.client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def written(scheduler: RunningScheduler) -> float:
    return figure(scheduler, 'agentic_serving_state_records_total{event="written"}')


def saved(scheduler: RunningScheduler) -> bool:
    return written(scheduler) >= _SESSIONS and not figure(scheduler, "agentic_serving_state_pending_records")


def restored(scheduler: RunningScheduler) -> float:
    return figure(scheduler, 'agentic_serving_state_records_total{event="restored"}')


def knows(scheduler: RunningScheduler) -> None:
    """Before any turn came: who there is, and, as soon as its engines are seen, that they hold something of them."""
    assert figure(scheduler, "agentic_serving_sessions") == _SESSIONS
    wait_until(lambda: held(scheduler) > _SESSIONS, timeout_s=30, what="what engines hold")


def held(scheduler: RunningScheduler) -> float:
    """Tokens on all engines together."""
    text = scheduler.client.get("/metrics").text
    found = re.findall(r"^agentic_serving_replica_held_tokens\{.*\} (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def scheduler_of(chain: Chain, router: int) -> RunningScheduler:
    found = chain.routers[router].scheduler
    assert found is not None
    return found


def test_a_killed_scheduler_knows_its_sessions_when_it_is_back(pool: EnginePool) -> None:
    with Store() as store, running_chain(pool, Link(scheduler="Enforce", store=store.address)) as chain:
        scheduler = scheduler_of(chain, 0)
        for lives in count(1):
            serve(chain, 1)
            wait_until(lambda: saved(scheduler), timeout_s=30, what="the journal", watch=[scheduler.process])
            if lives == 3:
                break
            scheduler.process.kill()
            scheduler.start()
            scheduler.await_ready()
            wait_until(lambda: restored(scheduler) == _SESSIONS, timeout_s=30, what="what was kept")
            knows(scheduler)


def test_the_other_router_pod_goes_on_with_what_the_first_knew(pool: EnginePool) -> None:
    with (
        Store() as store,
        running_chain(pool, Link(scheduler="Enforce", store=store.address, routers=2)) as chain,
    ):
        schedulers = [scheduler_of(chain, i) for i in range(2)]
        wait_until(
            lambda: any(active(one) for one in schedulers), timeout_s=_TAKEOVER_S, what="an active one"
        )
        first = next(i for i, one in enumerate(schedulers) if active(one))
        serve(chain, 2, router=first)
        wait_until(lambda: saved(schedulers[first]), timeout_s=30, what="the journal")
        chain.routers[first].kill()
        other = schedulers[1 - first]
        wait_until(
            lambda: restored(other) == _SESSIONS, timeout_s=_TAKEOVER_S, what="the other one's knowledge"
        )
        knows(other)
        serve(chain, 1, router=1 - first)


def active(scheduler: RunningScheduler) -> bool:
    return bool(scheduler.client.get("/v1/live").json()["active"])
