"""A prompt as typed blocks, each with the hash of everything up to it and an estimate of its tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentic_serving.program.hashing import ROOT, chained, content_hash
from agentic_serving.program.normalise import BlockKind, HeadOrder, Part, Role, parts

__all__ = ["Block", "TokenRate", "blocks_of", "previous_response"]

#: Bytes of English and code per token before anything was measured; OpenAI's rule of thumb.
_FIRST_BYTES_PER_TOKEN = 4.0
#: What one finished turn changes: about the last 20 turns count.
_WEIGHT = 0.05


@dataclass(frozen=True, slots=True)
class Block:
    """A typed piece of a prompt.

    Attributes:
        content: hash of this block alone.
        chain: hash of the prompt up to and with this block.
        n_bytes: of its canonical text.
        tokens: estimated; the template's own are not counted.
        hinted: the client marked it for caching. Not part of any hash.
    """

    kind: BlockKind
    role: Role
    content: int
    chain: int
    n_bytes: int
    tokens: int
    hinted: bool = False


class TokenRate:
    """Tokens per byte, learned from the prompt tokens that engines report."""

    def __init__(self) -> None:
        self.tokens_per_byte = 1 / _FIRST_BYTES_PER_TOKEN

    def learn(self, n_bytes: int, tokens: int) -> None:
        """One finished turn; reports that cannot be true (no bytes, over 2 or under 1/64 tokens a byte) are ignored."""
        if n_bytes > 0 and n_bytes <= 64 * tokens <= 128 * n_bytes:
            self.tokens_per_byte += _WEIGHT * (tokens / n_bytes - self.tokens_per_byte)


def blocks_of(
    body: object,
    *,
    tokens_per_byte: float = 1 / _FIRST_BYTES_PER_TOKEN,
    head: HeadOrder = "tools-first",
    call_ids: bool = False,
    after: Sequence[Block] = (),
) -> tuple[Block, ...]:
    """The blocks of a request.

    Args:
        body: the parsed JSON; anything that is no request gives no blocks.
        head: the order of tools and system in the model's template.
        call_ids: the template writes ids of tool calls.
        after: the blocks of the request that `previous_response` names. Its answer, which nobody here has read, becomes one
            block of unknown size that is known by its id.
    """
    made = list(after)
    found = parts(body, head=head, call_ids=call_ids)
    previous = previous_response(body)
    if previous is not None and made:
        found.insert(0, Part("Turn", "assistant", previous.encode("utf-8", "surrogatepass")))
    chain = made[-1].chain if made else ROOT
    for part in found:
        content = content_hash(part.kind + part.role, part.content)
        chain = chained(chain, content)
        n_bytes = len(part.content)
        tokens = -int(-n_bytes * tokens_per_byte // 1)  # ceiling
        made.append(Block(part.kind, part.role, content, chain, n_bytes, tokens, part.hinted))
    return tuple(made)


def previous_response(body: object) -> str | None:
    """The response that a Responses body goes on from, if it says so."""
    value = body.get("previous_response_id") if isinstance(body, dict) else None
    return value if isinstance(value, str) and value else None
