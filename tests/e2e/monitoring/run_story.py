"""The run of docs/images/run.svg: held for room, a fan-out, a person's pause, and held again."""

from dataclasses import replace
from typing import Any

from agentic_serving.router.history import History
from agentic_serving.router.telling import run_told
from agentic_serving.router.words import Began
from tests.unit.router.story import CONFIG, Story, Turn

__all__ = ["told_run"]

ROOT = "review/0af76519-16cd-43dd-8448-eb211c80319c"
_ROOM = "chat-0 has room for 20k of the 31k tokens that it needs; two sessions are before it"
_SIBLING = "agent-1 computes the 18k tokens that they share"
_TURN = Turn(session=ROOT, run=ROOT)


def told_run() -> dict[str, Any]:
    """As GET /v1/runs/ID answers."""
    history = History()
    story = Story([history])
    first = replace(_TURN, hold_s=2.5, because=_ROOM, prompt=31_000, cached=4_000, expected=13_000)
    story.turn(replace(first, prefill_s=2.2, decode_s=3, recomputed={"Evicted": 9000}))
    story.gap(ROOT, 1.2)
    second = replace(_TURN, n=2, kind="tool", prompt=32_000, cached=31_000, expected=31_000)
    story.turn(replace(second, prefill_s=0.3, decode_s=4))
    _fan_out(story)
    joined = replace(
        _TURN, n=3, kind="tool", prompt=36_000, cached=33_000, expected=33_000, divergence="join"
    )
    story.turn(joined)
    story.task(22.7, alone_s=16.2, run=ROOT)
    story.gap(ROOT, 640, kind="human")
    fourth = replace(_TURN, n=4, prompt=37_000, cached=0, expected=36_000, hold_s=6, hold="WaitsForPrefill")
    because = "chat-0 computes 90k tokens for others"
    story.turn(replace(fourth, prefill_s=5, because=because, recomputed={"Evicted": 30_000}))
    story.gap(ROOT, 0.5)
    story.come(replace(_TURN, n=5, kind="tool", hold_s=3, prompt=38_000, because="chat-0 is full"))
    story.now_s += 1.7
    run = history.run(ROOT)
    assert run is not None
    head = {"namespace": CONFIG.namespace, "stack": CONFIG.stack, "mode": CONFIG.mode}
    return {**head, **run_told(run, story.now_s)}


def _fan_out(story: Story) -> None:
    """Three agents at once; the first computes what all share, the others wait for it."""
    begin_s = story.now_s
    child = replace(_TURN, parent=ROOT, prompt=20_000, cached=18_000, expected=18_000, because=_SIBLING)
    turns = [
        replace(child, session=f"{ROOT}/agent-1", cached=2_000, expected=2_000, because=""),
        replace(child, session=f"{ROOT}/agent-2", hold_s=2.0, hold="WaitsForSibling", replica="chat-1"),
        replace(child, session=f"{ROOT}/agent-3", hold_s=2.0, hold="WaitsForSibling", outcome="Failed"),
    ]
    calls = [story.come(turn) for turn in turns]
    for n, go_s, token_s in ((0, 0.0, 2.0), (1, 2.0, 2.4), (2, 2.0, 2.4)):
        story.now_s = begin_s + go_s
        story.go(calls[n], turns[n])
        story.now_s = begin_s + token_s
        story.tell(Began(call_id=calls[n], status=200, replica=turns[n].replica))
    for n, end_s in ((0, 5.0), (1, 6.0), (2, 6.5)):
        story.now_s = begin_s + end_s
        story.end(calls[n], turns[n])
