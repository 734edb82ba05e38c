"""Every answer arrives whole through Envoy, scheduler and picker, however soon its end follows its beginning."""

import asyncio
from collections.abc import Iterator
from random import Random

import aiohttp
import pytest

from tests.e2e.localcluster.controlplane import ControlPlane, Options
from tests.e2e.realengines.processes import SERVED
from tests.e2e.routerkit.chains import Link, running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool

_ANSWERS, _SIDE_BY_SIDE = 300, 12


@pytest.fixture(scope="module")
def pool() -> Iterator[EnginePool]:
    """Engines that answer at once."""
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    env = {"ENGINESIM_PROFILE": "cpu-tiny", "ENGINESIM_TIME_SCALE": "0.2"}
    with (
        ControlPlane(Options(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind="sim", size=EngineSize(), env=env) as found,
    ):
        yield found


@pytest.mark.parametrize("mode", ["Observe", "Enforce"])
async def test_no_answer_is_lost(pool: EnginePool, mode: str) -> None:
    """A filter that waits while the picker's passes pieces on would lose them: status 200, and nothing in it."""
    with running_chain(pool, Link(scheduler="Enforce" if mode == "Enforce" else "Observe")) as chain:
        texts = await answers(chain.url)
    assert [number for number, text in enumerate(texts) if not text.endswith("data: [DONE]\n\n")] == []


async def answers(url: str) -> list[str]:
    """Of many short streams side by side, in their order."""
    rng, room = Random(1), asyncio.Semaphore(_SIDE_BY_SIDE)
    lengths = [(rng.randint(1, 12), rng.randint(10, 800)) for _ in range(_ANSWERS)]

    async def one(http: aiohttp.ClientSession, number: int) -> str:
        max_tokens, words = lengths[number]
        body = {
            "model": SERVED,
            "stream": True,
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "messages": [{"role": "user", "content": f"hello {number} " + "word " * words}],
        }
        own = f"ses_{number % 40}"
        headers = {"x-session-id": own, "x-session-affinity": own}
        async with room, http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200
            return (await answer.read()).decode()

    async with aiohttp.ClientSession() as http:
        return await asyncio.gather(*(one(http, number) for number in range(_ANSWERS)))
