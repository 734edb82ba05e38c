"""Cached tokens as the session graph predicts them, against what real vLLM reports, through three APIs."""

import statistics
from collections.abc import Iterator, Sequence

import pytest

from agentic_serving.replay.bodies import Api
from tests.e2e.localcluster.process import Workplace
from tests.e2e.realengines import tiny_model
from tests.e2e.realengines.predicted import Turn, play, recorded_run
from tests.e2e.realengines.processes import Engine, Served, start_vllm

pytestmark = pytest.mark.timeout(600)  # the first test waits for vLLM to be installed and to start

_BLOCK = 64
_ARGUMENTS = (
    "--max-model-len=32768",
    "--enable-prefix-caching",
    f"--block-size={_BLOCK}",
    "--max-num-seqs=8",
    "--enable-force-include-usage",
    "--enable-prompt-tokens-details",
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    "--num-gpu-blocks-override=4096",  # holds all of it: nothing is evicted
)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Workplace("agentic-predicted-") as place:
        yield start_vllm(place, Served(model=tiny_model(), arguments=_ARGUMENTS)).await_ready()


@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
def test_what_is_predicted_is_cached(engine: Engine, api: Api) -> None:
    """A prompt that goes on from its own session's: to the block. Others, which share a part that was never counted by itself: to two
    blocks, and the beginning of a message that is otherwise new.
    """
    turns = play(engine.client, api, recorded_run(), block_size=_BLOCK)
    _print(api, turns)
    for turn in turns:
        beyond = 0 if turn.divergence == "append" else 2 * _BLOCK
        unseen = 0 if turn.divergence == "append" else turn.split
        assert -beyond - unseen <= turn.error <= beyond, turn
    assert sum(turn.cached for turn in turns) > sum(turn.prompt for turn in turns) / 2
    assert sum(abs(turn.error) for turn in turns) <= 0.01 * sum(turn.prompt for turn in turns)


def _print(api: str, turns: Sequence[Turn]) -> None:
    errors = [abs(turn.error) for turn in turns]
    exact = sum(error == 0 for error in errors)
    share = sum(errors) / sum(turn.prompt for turn in turns)
    print(
        f"\n{api}: {exact} of {len(turns)} turns exact, mean error {statistics.mean(errors):.1f} tokens, "
        f"most {max(errors)}, {share:.2%} of all prompt tokens"
    )
    for turn in turns:
        if turn.error:
            print(
                f"  {turn.name}: {turn.divergence}, predicted {turn.predicted}, cached {turn.cached} of {turn.prompt}"
            )
