"""An engine that publishes KV events and is asked behind the scheduler's back: what the scheduler's own process believes then."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal

import pytest

from tests.e2e.localcluster.controlplane import ControlPlane
from tests.e2e.localcluster.controlplane import Options as ClusterOptions
from tests.e2e.localcluster.process import wait_until
from tests.e2e.realengines.client import Client
from tests.e2e.realengines.processes import SERVED
from tests.e2e.routerkit.chains import Chain, Link, running_chain
from tests.e2e.routerkit.enginepool import EngineSize, engine_pool

__all__ = ["listening_chain", "reset_is_forgotten", "strangers_evict"]

#: Tokens; a word of the tests' prompts is about five.
SIZE = EngineSize(cache_tokens=8192)
_NUMBERS = count()


@contextmanager
def listening_chain(kind: Literal["vllm", "sim"]) -> Iterator[Chain]:
    """Envoy and the scheduler before one engine, whose events come; no picker, which would have nothing to choose."""
    crds = ("inference-pool", "gie-objective", "llmd-objective")
    env = {"ENGINESIM_PROFILE": "cpu-tiny"} if kind == "sim" else {}
    with (
        ControlPlane(ClusterOptions(controllers=False, pods=False, crds=crds)) as cluster,
        engine_pool(cluster, kind=kind, size=SIZE, count=1, env=env, events=True) as pool,
        running_chain(pool, Link(scheduler="Enforce", picking="session")) as found,
    ):
        _await(found, "replica_capacity_tokens", "engine-0", more_than=0)
        _await(found, "kv_event_batches_total", "read", more_than=0, ask=lambda: _stranger(found, 100))
        yield found


def strangers_evict(chain: Chain) -> None:
    """What they evict is not believed in."""
    _turn(chain, "alice", 0)
    expected, cached = _turn(chain, "alice", 1)
    assert cached > 100
    assert expected == pytest.approx(cached, abs=2 * SIZE.block_tokens)
    told = _figure(chain, "kv_event_tokens_total", "others")
    for _ in range(12):
        _stranger(chain, 400)
    _await(chain, "kv_event_tokens_total", "others", more_than=told + SIZE.cache_tokens)
    assert _turn(chain, "alice", 2) == (0, 0)


def reset_is_forgotten(chain: Chain) -> None:
    """A cache that is reset holds nothing."""
    _turn(chain, "bob", 0)
    clears = _figure(chain, "kv_event_clears_total")
    chain.pool.forget()
    # The engine tells of it with its next step.
    _await(chain, "kv_event_clears_total", more_than=clears, ask=lambda: _stranger(chain, 50))
    expected, cached = _turn(chain, "bob", 1)
    assert (expected, cached) == (0, 0)
    assert _figure(chain, "kv_event_batches_total", "unreadable") == 0
    assert _figure(chain, "errors_total", "kv_events") == 0


def _figure(chain: Chain, name: str, label: str = "") -> float:
    """A metric's sum over its series with this label's value."""
    scheduler = chain.routers[0].scheduler
    assert scheduler is not None
    text = scheduler.client.get("/metrics").text
    rows = re.findall(rf"^agentic_serving_{name}(?:{{(.*)}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for labels, value in rows if f'"{label}"' in labels or not label)


def _await(
    chain: Chain, name: str, label: str = "", *, more_than: float, ask: Callable[[], None] | None = None
) -> None:
    def done() -> bool:
        if ask is not None:
            ask()
        return _figure(chain, name, label) > more_than

    wait_until(done, timeout_s=60, what=f"{name} {label}")


def _body(words: str, n_words: int, turns: int = 0) -> dict[str, object]:
    text = " ".join(f"{words}{i % 97}" for i in range(n_words))
    later = [("assistant", "done"), ("user", "go on")] * turns
    messages = [{"role": role, "content": content} for role, content in [("user", text), *later]]
    return {"model": SERVED, "max_tokens": 4, "messages": messages}


def _stranger(chain: Chain, n_words: int) -> None:
    """Somebody asks the engine itself, what nobody has asked before."""
    answer = chain.pool.engines[0].client.post(
        "/v1/chat/completions", _body(f"new{next(_NUMBERS)}x", n_words)
    )
    assert answer.status == 200, answer.text


def _turn(chain: Chain, session: str, number: int) -> tuple[float, float]:
    """A session's turn: cached tokens as predicted, and as reported."""
    names = ("expected_cached_tokens_total", "cached_tokens_total")
    before = [_figure(chain, name) for name in names]
    turns = _figure(chain, "turns_total", "Answered")
    answer = Client(chain.routers[0].port).post(
        "/v1/chat/completions", _body(session, 300, number), {"x-session-id": session}
    )
    assert answer.status == 200, answer.text
    _await(chain, "turns_total", "Answered", more_than=turns)
    expected, cached = (_figure(chain, name) - was for name, was in zip(names, before, strict=True))
    return expected, cached
