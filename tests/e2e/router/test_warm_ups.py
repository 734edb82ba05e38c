"""A declared fork through the whole chain: a second pod computes the prompt, children find it there, and its death costs nobody.

Engines are simulated; Envoy, scheduler and picker are real.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentic_serving.program.policy import Policy
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.realengines.client import Answer, Client
from tests.e2e.realengines.processes import SERVED, Engine
from tests.e2e.routerkit.chains import Chain, Link, running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool

SIZE = EngineSize(cache_tokens=32_768)
LINK = Link(scheduler="Enforce", policy=Policy.for_step(SIZE.step_tokens), max_hold_s=10.0)
#: Some thousand tokens. Sixteen children of it save more on two pods than it costs to compute it twice.
CONTEXT = " ".join(f"line {i} of what everybody reads" for i in range(900))
CHILDREN = 8


@pytest.fixture
def pool() -> Iterator[EnginePool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind="sim", size=SIZE, env={"ENGINESIM_PROFILE": "cpu-tiny"}) as found,
    ):
        yield found


def ask(chain: Chain, session: str, said: Sequence[str], **headers: str) -> Answer:
    """A chat of a session; what is said begins with the context."""
    roles = ("user", "assistant")
    body = {
        "model": SERVED,
        "messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate((CONTEXT, *said))],
        "max_tokens": 64,
        "ignore_eos": True,
    }
    named = {"x-session-id": session, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Client(chain.routers[0].port).post("/v1/chat/completions", body, named)


def children(chain: Chain) -> list[Answer]:
    """All at the same time."""

    def child(number: int) -> Answer:
        return ask(chain, f"c{number}", ("yes", f"child {number}"), x_parent_session_id="p")

    with ThreadPoolExecutor(CHILDREN) as pool:
        return list(pool.map(child, range(CHILDREN)))


def warmed(chain: Chain, outcome: str) -> None:
    """Until one warm-up has ended so."""
    scheduler = chain.routers[0].scheduler
    assert scheduler is not None
    line = f'agentic_serving_warm_ups_total{{outcome="{outcome}",program="default"}} 1.0'
    wait_until(
        lambda: line in scheduler.client.get("/metrics").text,
        timeout_s=60,
        what=line,
        watch=[scheduler.process],
    )


def served(engine: Engine) -> float:
    return engine.metrics()["vllm:request_success_total"]


def cached(answer: Answer) -> float:
    """Share of the prompt."""
    usage: dict[str, Any] = answer.json()["usage"]
    share: float = usage["prompt_tokens_details"]["cached_tokens"] / usage["prompt_tokens"]
    return share


def test_children_of_a_declared_fork_find_its_prompt_on_a_second_pod(pool: EnginePool) -> None:
    with running_chain(pool, LINK) as chain:
        assert ask(chain, "p", (), x_agent_fork="16").status == 200
        warmed(chain, "Done")
        before = [served(engine) for engine in pool.engines]
        assert before == [1, 1]  # the call on one, the warm-up on the other
        answers = children(chain)
        assert {answer.status for answer in answers} == {200}
        assert min(cached(answer) for answer in answers) > 0.9
        assert all(served(engine) > 1 for engine in pool.engines)


def test_a_pod_that_is_dead_when_it_is_to_warm_up_costs_no_request(pool: EnginePool) -> None:
    with running_chain(pool, LINK) as chain:
        assert ask(chain, "p", ()).status == 200
        (other,) = [engine for engine in pool.engines if not served(engine)]
        other.stop()  # its pod is Ready for as long as nobody has noticed
        assert ask(chain, "p", ("yes", "go on"), x_agent_fork="16").status == 200
        warmed(chain, "Failed")
        assert {answer.status for answer in children(chain)} == {200}
