"""A prompt as typed blocks, each with the hash of everything up to it and an estimate of its tokens."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from agentic_serving.program.hashing import ROOT, chained, content_hash
from agentic_serving.program.memo import Memo, fingerprints
from agentic_serving.program.normalise import (
    Part,
    Template,
    entries_of,
    head_of,
    ordered,
    parts_of,
    written,
)
from agentic_serving.program.prompt import Block, Prompt, possible

__all__ = ["Block", "Memo", "Prompt", "Template", "TokenRate", "blocks_of", "previous_response"]

#: Bytes of English and code per token before anything was measured; OpenAI's rule of thumb.
_FIRST_BYTES_PER_TOKEN = 4.0
#: What one finished turn changes: about the last 20 turns count.
_WEIGHT = 0.05


class TokenRate:
    """Tokens per byte, learned from the prompt tokens that engines report: their mean, and of many turns mostly the last."""

    def __init__(self) -> None:
        self.tokens_per_byte = 1 / _FIRST_BYTES_PER_TOKEN
        self._turns = 0

    def learn(self, n_bytes: int, tokens: int) -> None:
        """One finished turn; reports that cannot be true are ignored."""
        if possible(n_bytes, tokens):
            self._turns += 1
            weight = max(1 / self._turns, _WEIGHT)
            self.tokens_per_byte += weight * (tokens / n_bytes - self.tokens_per_byte)


def blocks_of(
    body: object,
    *,
    tokens_per_byte: float = 1 / _FIRST_BYTES_PER_TOKEN,
    template: Template = Template(),  # noqa: B008 - frozen
    after: Sequence[Block] = (),
    memo: Memo | None = None,
) -> Prompt:
    """The blocks of a request.

    Args:
        body: the parsed JSON; anything that is no request gives no blocks.
        template: what the model's chat template does.
        after: the blocks of the request that `previous_response` names. Its answer, which nobody here has read, becomes one
            block of unknown size that is known by its id.
        memo: of the session, if it is known: its last prompt, from which this one may go on. It is replaced by this one.
    """
    made = Prompt(tokens_per_byte)
    for block in after:
        made.append(block, block.content, block.chain, block.n_bytes)
    if not isinstance(body, dict):
        return made
    previous = previous_response(body)
    if previous is not None and made:
        answer = Part("Turn", "assistant", previous.encode("utf-8", "surrogatepass"))
        _extend(made, [answer, *_whole(body, _groups(entries_of(body), template), template)])
    elif memo is not None:
        return _remembered(body, template, memo, tokens_per_byte)
    else:
        _extend(made, _whole(body, _groups(entries_of(body), template), template))
    return made


def previous_response(body: object) -> str | None:
    """The response that a Responses body goes on from, if it says so."""
    value = body.get("previous_response_id") if isinstance(body, dict) else None
    return value if isinstance(value, str) and value else None


def _groups(entries: Iterable[object], template: Template) -> list[list[Part]]:
    return [parts_of(entry, template) for entry in entries]


def _whole(body: dict[str, Any], groups: list[list[Part]], template: Template) -> list[Part]:
    turns = [part for group in written(groups, template) for part in group]
    return ordered(head_of(body), turns, template)


def _extend(made: Prompt, found: Iterable[Part]) -> None:
    chain = made.chains[-1] if made else ROOT
    for part in found:
        content = content_hash(part.kind + part.role, part.content)
        chain = chained(chain, content)
        made.append(part, content, chain, len(part.content))


def _remembered(body: dict[str, Any], template: Template, memo: Memo, tokens_per_byte: float) -> Prompt:
    entries = entries_of(body)
    fingers = fingerprints(body, entries, template)
    made = Prompt(tokens_per_byte)
    n_entries, n_blocks = memo.known(fingers)
    groups = _groups(entries[n_entries:], template)
    if template.reasoning == "last" and any(part.asked for group in groups for part in group):
        # A new human message takes reasoning out of what is known.
        groups = _groups(entries[:n_entries], template) + groups
        n_entries = n_blocks = 0
    if n_entries:
        made.begin(memo.prompt, n_blocks)
        _extend(made, [part for group in groups for part in group])
        ends = {places: blocks for places, blocks in memo.places() if places <= n_entries}
    else:
        groups = written(groups, template)
        _extend(made, _whole(body, groups, template))
        n_blocks, ends = len(made) - sum(map(len, groups)), {}
    ends |= _ends(groups, template, n_entries, n_blocks)
    memo.keep(made, fingers, ends)
    return made


def _ends(
    groups: Sequence[Sequence[Part]], template: Template, n_entries: int, n_blocks: int
) -> Mapping[int, int]:
    """Blocks of the first messages, by their number, where what follows cannot change them.

    It can while only system text was read (a template may gather it before the tools), and until the last human message where
    that decides which reasoning is written.
    """
    least = 0
    if not n_entries:
        least = next(
            (i for i, group in enumerate(groups, 1) if any(p.kind != "System" for p in group)),
            len(groups) + 1,
        )
    if template.reasoning == "last":
        least = max([least, *(i for i, group in enumerate(groups, 1) if any(p.asked for p in group))])
    counts = accumulate(map(len, groups), initial=n_blocks)
    return {n_entries + i: blocks for i, blocks in enumerate(counts) if i >= least and n_entries + i}
