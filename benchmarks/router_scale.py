"""One scheduler with very many sessions and held turns: its memory, what the queue is bounded by, and how soon it is back.

    python -m benchmarks.router_scale                                       100,000 sessions, 10,000 held: about 5 minutes
    python -m benchmarks.router_scale --sessions 5000 --held 500            a look

`agentic-serving scheduler run` as a process, with its state in memory, two simulated engines and a real API server. Calls
come through its real interface, Envoy's external processing, from a client that is no Envoy. Every session has had one turn;
then two turns larger than the caches occupy both engines, and newcomers must wait. RSS is the process's own (psutil).
Envoy's memory is measured apart, with a real one in front of held turns of a real client.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random

import aiohttp
import grpc
import psutil

from agentic_serving.program.policy import Policy
from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.routerkit.chains import Chain, Link, running_chain
from tests.e2e.routerkit.enginepool import EnginePool, EngineSize, engine_pool
from tests.e2e.routerkit.extproc import EnvoySide, Held
from tests.e2e.routerkit.schedulers import RunningScheduler

ROOT = Path(__file__).parents[1]
#: Nothing is too small to wait, and nothing is recomputed instead.
_LINK = Link(
    scheduler="Enforce",
    policy=Policy(small_tokens=1, prefill_tokens=1_000_000_000, recompute_budget=0.0),
    max_hold_s=3000.0,
    idle_s=7200.0,
)
#: The same while sessions come: nothing waits.
_OPEN = replace(_LINK, policy=Policy(hold=False))
_SIZE = EngineSize(cache_tokens=65_536)
_MIB = 1024 * 1024
_SIDE_BY_SIDE = 32
_RESTARTS = 5
#: Less CPU than importing the scheduler takes anywhere.
_IMPORT_S = 0.3


@dataclass(slots=True)
class Found:
    """What was measured; MiB, seconds, counts."""

    sessions: int = 0
    calls_per_s: float = 0.0
    rss_idle: float = 0.0
    rss_sessions: float = 0.0
    held: int = 0
    held_mib: float = 0.0
    rss_held: float = 0.0
    refused_beyond: int = 0
    restarts_s: list[float] = field(default_factory=list)
    envoy_held: int = 0
    envoy_rss_idle: float = 0.0
    envoy_rss_held: float = 0.0


def main() -> None:
    options = _options()
    found = Found()
    with _pool() as pool:
        with running_chain(pool, _OPEN) as chain:
            asyncio.run(_scheduler(chain, options, found))
        with running_chain(pool, _OPEN) as chain:
            asyncio.run(_envoy(chain, options, found))
    data = {
        key: value if isinstance(value, list) else round(value, 2) for key, value in asdict(found).items()
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))


@contextmanager
def _pool() -> Iterator[EnginePool]:
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind="sim", size=_SIZE) as pool,
    ):
        yield pool


async def _scheduler(chain: Chain, options: argparse.Namespace, found: Found) -> None:
    scheduler = chain.routers[0].scheduler
    assert scheduler is not None
    found.rss_idle = _rss(scheduler.process.pid)
    async with EnvoySide(scheduler.grpc_port) as envoy:
        await _sessions(envoy, options, found)
        found.rss_sessions = _rss(scheduler.process.pid)
        print(
            f"{found.sessions} sessions, {found.calls_per_s:.0f} calls/s, {found.rss_sessions:.0f} MiB",
            flush=True,
        )
        occupied = await _occupy(envoy)
        await _holding(chain, envoy)
        waiting = await _hold(envoy, options, found)
        found.rss_held = _rss(scheduler.process.pid)
        print(f"{found.held} held, {found.held_mib:.0f} MiB of bodies, {found.rss_held:.0f} MiB", flush=True)
        await _beyond(envoy, waiting, options, found)
        scheduler.process.kill()
        del occupied
    found.restarts_s = [await _restarted(scheduler) for _ in range(_RESTARTS)]


async def _restarted(scheduler: RunningScheduler) -> float:
    """Seconds from the scheduler's end until a call is answered: the first end that its keeper sees, which has a spare one."""
    scheduler.start_kept()
    keeper = psutil.Process(scheduler.process.pid)
    wait_until(lambda: len(keeper.children()) == 2, timeout_s=60, what="a spare scheduler")
    running, spare = sorted(keeper.children(), key=psutil.Process.create_time)
    wait_until(lambda: _settled(spare), timeout_s=60, what="a spare scheduler that waits")
    running.kill()
    took_s = await _serves(scheduler.grpc_port, time.monotonic())
    scheduler.process.terminate(10)
    return took_s


def _settled(process: psutil.Process) -> bool:
    """It sleeps, and has used the processor before."""
    return process.cpu_times().user > _IMPORT_S and process.status() == psutil.STATUS_SLEEPING


async def _sessions(envoy: EnvoySide, options: argparse.Namespace, found: Found) -> None:
    """One turn of each; four sessions are a run, its root and three agents."""
    began_s, told_s = time.monotonic(), time.monotonic()
    texts = _texts(options.body_kb * 1024)
    said: Counter[str] = Counter()

    async def turn(number: int) -> None:
        nonlocal told_s
        root, own = f"ses_{number // 4}_0", f"ses_{number // 4}_{number % 4}"
        headers = {"x-session-id": own, "x-session-affinity": own}
        if own != root:
            headers["x-parent-session-id"] = root
        said[await envoy.whole(f"fill-{number}", headers, texts(number // 4, number % 4))] += 1
        if time.monotonic() - told_s > 10:
            told_s = time.monotonic()
            done = sum(said.values())
            left_s = (told_s - began_s) / done * (options.sessions - done)
            print(f"  {done} sessions, {left_s:.0f} s left", flush=True)

    await _side_by_side(turn, options.sessions, _SIDE_BY_SIDE)
    found.sessions = said["go"]
    found.calls_per_s = options.sessions / (time.monotonic() - began_s)


async def _occupy(envoy: EnvoySide) -> list[Held]:
    """Two turns that each fill an engine, and do not end."""
    text = "a large file " * (_SIZE.cache_tokens // 2)
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": text}]}).encode()
    held = []
    for number in range(2):
        said, call = await envoy.begin(
            f"large-{number}",
            {"x-session-id": f"ses_large{number}", "x-session-affinity": f"ses_large{number}"},
            body,
        )
        assert said == "go", said
        held.append(call)
    return held


async def _holding(chain: Chain, envoy: EnvoySide) -> None:
    """From now on what does not fit waits: the file changes, and is read again."""
    chain.configure(_LINK)
    body = _texts(100_000)(1, 1)
    for attempt in range(100):
        own = f"ses_try{attempt}"
        said, call = await envoy.begin(
            f"try-{attempt}", {"x-session-id": own, "x-session-affinity": own}, body
        )
        if said == "held":
            return
        call.leave()
        await asyncio.sleep(0.2)
    raise SystemExit("the scheduler holds nothing")


async def _hold(envoy: EnvoySide, options: argparse.Namespace, found: Found) -> list[Held]:
    texts = _texts(options.held_kb * 1024)
    waiting: list[Held] = []
    said: Counter[str] = Counter()

    async def turn(number: int) -> None:
        own = f"ses_new{number}"
        answer, call = await envoy.begin(
            f"new-{number}", {"x-session-id": own, "x-session-affinity": own}, texts(number, 9)
        )
        said[answer] += 1
        waiting.append(call)

    await _side_by_side(turn, options.held, 8)
    print(f"  {dict(said)}")
    found.held, found.held_mib = said["held"], said["held"] * options.held_kb / 1024
    return waiting


async def _beyond(envoy: EnvoySide, waiting: list[Held], options: argparse.Namespace, found: Found) -> None:
    """One more than the queue takes: refused, with a time to come back."""
    texts = _texts(options.held_kb * 1024)
    for number in range(20):
        own = f"ses_more{number}"
        said, call = await envoy.begin(
            f"more-{number}", {"x-session-id": own, "x-session-affinity": own}, texts(number, 8)
        )
        found.refused_beyond += said == "refuse"
        waiting.append(call)


async def _serves(port: int, began_s: float) -> float:
    """Seconds until a call is answered."""
    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}).encode()
    for attempt in range(2000):
        try:
            async with EnvoySide(port) as envoy:
                said, _ = await envoy.begin(f"again-{attempt}", {}, body)
            if said in ("go", "held"):
                return time.monotonic() - began_s
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.01)
    raise SystemExit("the scheduler did not come back")


async def _envoy(chain: Chain, options: argparse.Namespace, found: Found) -> None:
    """Turns of a real client, held behind a real Envoy: the two first ones keep both engines busy."""
    router = chain.routers[0]
    text, large = _texts(options.envoy_kb * 1024), _texts(100 * 1024)
    found.envoy_rss_idle = _rss(router.envoy.pid)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        tasks = []
        for number in range(options.envoy_held + 2):
            own = f"ses_{number}"
            headers = {"x-session-id": own, "x-session-affinity": own, "content-type": "application/json"}
            body = large(number, 0) if number < 2 else text(number, 0)
            tasks.append(asyncio.create_task(_post(http, f"{router.url}/v1/chat/completions", headers, body)))
            if number == 1:  # both engines are busy; from now on turns wait
                await asyncio.sleep(2)
                chain.configure(_LINK)
                await asyncio.sleep(5)
            if number % 8 == 7:
                await asyncio.sleep(0.05)
        await asyncio.sleep(5)
        found.envoy_held = sum(not task.done() for task in tasks) - 2
        found.envoy_rss_held = _rss(router.envoy.pid)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _post(http: aiohttp.ClientSession, url: str, headers: dict[str, str], body: bytes) -> int:
    async with http.post(url, data=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _side_by_side(turn: Callable[[int], Awaitable[None]], count: int, width: int) -> None:
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await turn(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(worker())


def _texts(n_bytes: int) -> Callable[[int, int], bytes]:
    """Bodies of that size: tools and system prompt as others of its run, then messages of its own."""
    words = [f"word{number}" for number in Random(1).sample(range(100_000), 4000)]  # noqa: S311 - text, no secret

    def make(run: int, session: int) -> bytes:
        rng = Random(run)  # noqa: S311
        shared = " ".join(rng.choices(words, k=n_bytes // 32))
        own = Random(run * 100 + session + 1)  # noqa: S311
        messages = [{"role": "system", "content": shared}]
        for index in range(6):
            role = "assistant" if index % 2 else "user"
            messages.append({"role": role, "content": " ".join(own.choices(words, k=n_bytes // 80))})
        messages.append({"role": "user", "content": f"go on with {run} {session}"})
        return json.dumps(
            {"model": "tiny", "max_tokens": 8000, "ignore_eos": True, "messages": messages}
        ).encode()

    return make


def _rss(pid: int) -> float:
    return psutil.Process(pid).memory_info().rss / _MIB


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure one scheduler with many sessions and held turns.")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--held", type=int, default=10_000)
    parser.add_argument("--body-kb", type=int, default=8, help="of each session's turn")
    parser.add_argument("--held-kb", type=int, default=100, help="of each held turn")
    parser.add_argument("--envoy-held", type=int, default=500)
    parser.add_argument("--envoy-kb", type=int, default=400)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/router-scale.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
