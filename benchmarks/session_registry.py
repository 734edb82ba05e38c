"""What attribution costs: match and identify on the three clients' requests, the registry's memory and time per request.

    python benchmarks/session_registry.py [--sessions 100000] [--requests 20000]

Requests have the size of a coding agent's in mid task: 24 tools, 121 messages. Times are microseconds on one core; bytes are
what tracemalloc counts per session, its names included.
"""

import argparse
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from uuid import UUID

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.program.identity import Identity, identify
from agentic_serving.program.match import Matched, Matcher
from agentic_serving.program.request import Request
from agentic_serving.program.sessions import Sessions
from agentic_serving.replay import bodies, clients
from agentic_serving.replay.conversation import Call, Conversation, Entry, Tool

MATCHER = Matcher(
    [
        ProgramRoute(namespace="ns", name="claudecode", clients=("ClaudeCode",)),
        ProgramRoute(namespace="ns", name="codex", clients=("Codex",)),
        ProgramRoute(namespace="ns", name="opencode", clients=("OpenCode",)),
    ]
)
TOOLS = tuple(Tool(f"tool{i}", "what it does " * 150) for i in range(24))
#: Runs by how many sessions they have.
SHAPES = {"one session": 1, "root and 4 agents": 5, "512 rollouts": 513}


def request(client: clients.Client) -> Request:
    entries = [Entry("user", "do it")]
    for i in range(60):
        entries.append(Entry("assistant", "I look " * 50, call=Call(f"c{i}", "tool0", "x" * 200)))
        entries.append(Entry("tool", "found " * 400, call_id=f"c{i}"))
    told = Conversation(
        tools=TOOLS, system="You are " * 2000, entries=tuple(entries), expected_tokens=1, output_tokens=1
    )
    who = clients.Identity(client=client, run="r", session="a", root="root", parent="root")
    api = clients.CLIENT_APIS[client]
    body = bodies.body(api, told, bodies.BodyOptions(model="m", max_tokens=100, session=who.id))
    headers = {name.lower(): value for name, value in clients.headers(who, turn=1).items()}
    return Request(method="POST", path=bodies.API_PATHS[api], headers=headers, body=body)


def timed(times: list[int], call: Callable[[], object]) -> None:
    started = time.perf_counter_ns()
    call()
    times.append(time.perf_counter_ns() - started)


def row(name: str, times: list[int]) -> str:
    times.sort()
    p50, p99 = (times[int(len(times) * part)] / 1000 for part in (0.5, 0.99))
    return f"{name:<28}{p50:>10.1f}{p99:>10.1f}"


def identity_of(random: Random, run: str, agent: int) -> Identity:
    headers = {"x-claude-code-session-id": run}
    if agent:
        headers["x-claude-code-agent-id"] = f"{random.getrandbits(68):017x}"
    sent = Request(method="POST", path="/v1/messages", headers=headers, body={"tools": [{"name": "a"}]})
    return identify(sent, MATCHER.match(headers, from_our_envoy=False))


def session_bytes(n_sessions: int, per_run: int) -> float:
    """Bytes per session of a registry with runs of that many sessions."""
    random = Random(42)  # noqa: S311 - a seeded load, no secret
    tracemalloc.start()
    sessions = Sessions()
    for i in range(n_sessions):
        if i % per_run == 0:
            run = str(UUID(int=random.getrandbits(128)))
        arrival = sessions.arrive(
            identity_of(random, run, i % per_run), i / 3, chain=random.getrandbits(64) | 1
        )
        sessions.finish(arrival.session, i / 3 + 0.1, computed_tokens=5000 + i)
    used = tracemalloc.get_traced_memory()[0] / len(sessions)
    tracemalloc.stop()
    return used


def registry_times(n_sessions: int, n_requests: int) -> tuple[list[int], list[int]]:
    sessions, random = Sessions(max_sessions=max(64, n_sessions)), Random(42)  # noqa: S311 - as above
    plain = identify(request("opencode"), Matched(program="p", source="stamp"))
    arrived: list[int] = []
    finished: list[int] = []
    for i in range(n_sessions + n_requests):
        place = i if i < n_sessions else random.randrange(n_sessions)
        parent = f"p/ses_{place - place % 5:026}" if place % 5 else None
        name = f"p/ses_{place:026}"
        identity = replace(plain, session=name, parent=parent, run=None if parent else name)
        times = ([], []) if i < n_sessions else (arrived, finished)
        timed(times[0], lambda identity=identity, i=i: sessions.arrive(identity, i / 1000, chain=i + 1))  # type: ignore[misc]
        timed(times[1], lambda name=name, i=i: sessions.finish(name, i / 1000, computed_tokens=5))  # type: ignore[misc]
    return arrived, finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{'us':<28}{'p50':>10}{'p99':>10}")
    for client in clients.CLIENTS:
        sent, times = request(client), list[int]()
        for _ in range(options.requests):
            timed(times, lambda sent=sent: identify(sent, MATCHER.match(sent.headers, from_our_envoy=False)))  # type: ignore[misc]
        print(row(f"match, identify: {client}", times))
    for name, times in zip(
        ("arrive", "finish"), registry_times(options.sessions, options.requests), strict=True
    ):
        print(row(f"{name}, {options.sessions} sessions", times))
    for name, per_run in SHAPES.items():
        print(f"{name:<28}{session_bytes(min(options.sessions, 20_000), per_run):>10.0f} bytes a session")


if __name__ == "__main__":
    main()
