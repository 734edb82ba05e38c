"""Mooncake's request logs: open-loop requests without sessions, prompts as ids of 512-token blocks.

Format: kvcache-ai/Mooncake, FAST'25 release: `{timestamp ms, input_length, output_length, hash_ids}`; ids are shared by the
whole file. The last id of a request may stand
for a block that is not full; it counts as a block, as in Mooncake's own cache figures.
"""

from agentic_serving.capacity.runs import from_ids
from agentic_serving.workload.fields import Reader
from agentic_serving.workload.types import Program, Session, Turn

__all__ = ["BLOCK_TOKENS", "program"]

BLOCK_TOKENS = 512


def program(line: Reader, *, scope: str, number: int) -> Program:
    """One request as a program of one turn."""
    hash_ids = line.items("hash_ids")
    if not all(isinstance(i, int) and i >= 0 for i in hash_ids):
        raise line.refuse("hash_ids", "expected whole numbers from 0")
    name = f"{scope}-{number}"
    prompt_tokens = line.count("input_length", least=1)
    if len(hash_ids) != -(-prompt_tokens // BLOCK_TOKENS):
        raise line.refuse("hash_ids", f"{len(hash_ids)} blocks do not hold {prompt_tokens} tokens")
    turn = Turn(
        index=0,
        runs=from_ids(hash_ids),
        block_size=BLOCK_TOKENS,
        prompt_tokens=prompt_tokens,
        output_tokens=line.count("output_length"),
        gap_s=0.0,
        gap_kind="human",
        stop="end",
        stream=True,
        start_s=0.0,
        api_s=None,
    )
    session = Session(id=name, parent=None, agent="chat", tool_tokens=0, system_tokens=0, turns=(turn,))
    return Program(
        id=name,
        source="mooncake",
        scope=scope,
        start_s=line.number("timestamp") / 1000,
        open_loop=True,
        sessions=(session,),
    )
