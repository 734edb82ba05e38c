"""Sequences of prompts whose cached share is decided by the prefix cache alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.e2e.realengines.client import Client
from tests.e2e.realengines.processes import SERVED

__all__ = ["CACHED_SCENARIOS", "RESET", "Scenario", "Turn", "play"]

RESET: Literal["reset"] = "reset"
_FIRST_WORD = 270  # ids of ordinary tokens of the tiny model's vocabulary are 7 to 1023


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What an engine reported of one prompt."""

    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Prompts as token ids, in order; RESET empties the cache. One starts with an empty cache."""

    name: str
    steps: Sequence[list[int] | Literal["reset"]]
    expects_hits: bool = True


def play(scenario: Scenario, client: Client) -> list[Turn]:
    """Send the prompts one after the other."""
    _reset(client)
    turns = []
    for step in scenario.steps:
        if step == RESET:
            _reset(client)
        else:
            turns.append(_send(client, list(step)))
    return turns


def _reset(client: Client) -> None:
    answer = client.post("/reset_prefix_cache")
    assert answer.status == 200, answer.text


def _send(client: Client, prompt: list[int]) -> Turn:
    body = {"model": SERVED, "prompt": prompt, "max_tokens": 2, "temperature": 0}
    answer = client.post("/v1/completions", body)
    assert answer.status == 200, answer.text
    usage = answer.json()["usage"]
    details = usage.get("prompt_tokens_details") or {}
    return Turn(prompt_tokens=usage["prompt_tokens"], cached_tokens=details.get("cached_tokens") or 0)


def _text(seed: int, length: int) -> list[int]:
    """Token ids that depend on the seed from the first one on."""
    return [_FIRST_WORD + (seed * 131 + i * 7) % 700 for i in range(length)]


def _conversation(seed: int, *lengths: int) -> list[list[int]]:
    """Prompts that grow by these many tokens."""
    text = _text(seed, sum(lengths))
    return [text[: sum(lengths[: i + 1])] for i in range(len(lengths))]


_TRUNK = _text(3, 1000)
_MANY = [_text(100 + i, 4000) for i in range(9)]  # 9 x 62 blocks of 64: more than 512

CACHED_SCENARIOS = (
    Scenario(name="short", steps=[_text(1, 63), _text(1, 63)], expects_hits=False),
    # A prompt of whole blocks: its last token is computed again, so its last block is no hit.
    Scenario(name="whole-blocks", steps=[_text(1, 128), _text(1, 128), _text(1, 129)]),
    Scenario(name="multi-turn", steps=_conversation(2, 700, 90, 260, 64, 1, 2000)),
    Scenario(
        name="forks",
        steps=[
            _TRUNK,
            *([*_TRUNK, *_text(seed, 300)] for seed in (4, 5, 4)),
            [*_TRUNK[:500], *_text(6, 300)],
        ],
    ),
    Scenario(name="after-reset", steps=[_text(7, 900), RESET, _text(7, 900), _text(7, 900)]),
    Scenario(name="differs-at-once", steps=[_text(8, 900), _text(9, 900)], expects_hits=False),
    # Least recently used first, and of one prompt its end first.
    Scenario(name="evicted", steps=[*_MANY, *reversed(_MANY), _MANY[0], _MANY[4]]),
)
