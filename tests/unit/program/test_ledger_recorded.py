"""The ledger's predictions against the cached tokens of the replica model, over recorded Claude Code sessions."""

import heapq
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentic_serving.capacity.runs import Runs, common_blocks
from agentic_serving.fleet.profiles import find_profile
from agentic_serving.fleet.replica import Replica
from agentic_serving.fleet.types import Limits, Request
from agentic_serving.program.ledger import Ledger
from agentic_serving.workload import Program, Turn, read

TRACES = Path(__file__).parents[2] / "traces" / "claude_code.jsonl"
BLOCK = 64
#: Two or three of the sample's sessions: most turns find something, many find less than all of it.
BLOCKS = 6000


def chains(programs: tuple[Program, ...], copies: int) -> Iterator[tuple[str, tuple[Turn, ...], int]]:
    """The main sessions, each several times under another name and with blocks of its own."""
    for copy in range(copies):
        for i, program in enumerate(programs):
            yield f"{program.id}/{copy}", program.sessions[0].turns, (copy * len(programs) + i) * 10**6


def moved(runs: Runs, offset: int) -> Runs:
    return tuple((first + offset, count) for first, count in runs)


def replayed(capacity_share: float = 1.0) -> tuple[Ledger, list[tuple[int, int, int]]]:
    """All sessions on one replica, 5 at a time: (predicted, reported, prompt tokens) of every turn.

    Args:
        capacity_share: of what the ledger is told to what the cache has.
    """
    limits = Limits(n_blocks=BLOCKS, block_size=BLOCK)
    replica, ledger = Replica(limits, find_profile("sketch")), Ledger()
    ledger.replica("r", int(limits.usable_tokens * capacity_share))
    waiting = list(chains(read(TRACES), 3))
    live: dict[str, tuple[tuple[Turn, ...], int, int]] = {}  # turns, offset, which is next
    due: list[tuple[float, str]] = []
    expected: dict[str, int] = {}
    rows: list[tuple[int, int, int]] = []
    now_s = 0.0
    while waiting or live:
        while waiting and len(live) < 5:
            session, turns, offset = waiting.pop()
            live[session] = (turns, offset, 0)
            heapq.heappush(due, (now_s, session))
        while due and due[0][0] <= now_s:
            _, session = heapq.heappop(due)
            expected[session] = admit(replica, ledger, session, live[session], now_s)
        until_s = due[0][0] if due else float("inf")
        for done in replica.advance(min(until_s, now_s + 1.0)):
            usage, (turns, offset, at) = done.usage, live[done.id]
            total, found = usage.prompt_tokens + usage.output_tokens, usage.cached_tokens
            rows.append((expected[done.id], found, usage.prompt_tokens))
            ledger.end(done.id, "r", total, done.finished_s, cached=found, expected=expected[done.id])
            ledger.check()
            if at + 1 == len(turns):
                del live[done.id]
                ledger.drop(done.id)
                continue
            live[done.id] = (turns, offset, at + 1)
            heapq.heappush(due, (done.finished_s + min(turns[at + 1].gap_s, 60.0), done.id))
        now_s = min(until_s, now_s + 1.0)
    return ledger, rows


def admit(
    replica: Replica, ledger: Ledger, session: str, state: tuple[tuple[Turn, ...], int, int], now_s: float
) -> int:
    """Start a turn as a scheduler does that knows where a prompt leaves the last one; what is predicted."""
    turns, offset, at = state
    turn, shared, warm = turns[at], None, ledger.warm(session, "r")
    if (
        at
        and (common := common_blocks(turns[at - 1].runs, turn.runs)) * BLOCK
        < turns[at - 1].prompt_tokens - BLOCK
    ):
        shared, warm = (session, common * BLOCK), min(warm, common * BLOCK)
    ledger.begin(session, "r", turn.prompt_tokens, now_s, shared)
    output = max(1, min(turn.output_tokens, 500))
    replica.admit(
        Request(
            id=session, runs=moved(turn.runs, offset), prompt_tokens=turn.prompt_tokens, output_tokens=output
        ),
        now_s,
    )
    return min(warm, turn.prompt_tokens)


def test_predictions_are_those_of_the_cache_but_for_a_hundredth() -> None:
    ledger, rows = replayed()
    prompts = sum(prompt for _, _, prompt in rows)
    reported = sum(found for _, found, _ in rows)
    assert 0.3 < reported / prompts < 0.95  # the cache was too small: there was something to predict
    too_much = sum(max(0, expected - found) for expected, found, _ in rows)
    too_little = sum(max(0, found - expected) for expected, found, _ in rows)
    assert too_much / prompts < 0.01
    assert too_little / prompts < 0.02
    assert ledger.error < 0.02
    assert ledger.capacity("r") == pytest.approx((BLOCKS - 1) * BLOCK, rel=0.02)


def test_it_finds_out_that_a_cache_is_smaller_than_reported() -> None:
    ledger, _ = replayed(capacity_share=1.5)
    assert ledger.capacity("r") < 1.3 * (BLOCKS - 1) * BLOCK


if __name__ == "__main__":  # the figures themselves
    for share in (1.0, 1.5):
        told, found = replayed(share)
        whole = sum(prompt for _, _, prompt in found)
        over = sum(max(0, a - b) for a, b, _ in found) / whole
        under = sum(max(0, b - a) for a, b, _ in found) / whole
        hit = sum(b for _, b, _ in found) / whole
        print(share, len(found), f"{hit:.4f} {over:.4f} {under:.4f} {told.error:.4f}", told.capacity("r"))
