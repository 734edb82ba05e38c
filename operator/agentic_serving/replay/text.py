"""Block ids to text: equal id, equal words; different ids, different words.

A prompt is a stream of words, as many for each block as its tokens need. The first words of a block spell its id in base
512 (with an offset per scope, so that sessions do not share text that the trace did not share); the rest follow from the id.
A block of a single word cannot tell more than 512 ids apart.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import accumulate
from math import ceil, floor

from agentic_serving.replay.words import WORDS

__all__ = ["Scale", "Stream", "Vocabulary"]

_BASE = len(WORDS)
#: Words that spell the id: 512^3 is 134 million blocks.
_ID_WORDS = 3
#: Odd, hence a permutation of ids modulo any power of two; neighbouring ids get unlike words.
_SPREAD = 0x9E3779B1
_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How recorded tokens become words.

    Attributes:
        token_scale: every block is shortened to `ceil(block_size * token_scale)` tokens.
        tokens_per_word: of the server's tokenizer, measured.
    """

    token_scale: float = 1.0
    tokens_per_word: float = 1.0

    def block_tokens(self, block_size: int) -> int:
        """Tokens that a block of `block_size` is shortened to."""
        return max(1, ceil(round(block_size * self.token_scale, 9)))

    def tokens(self, recorded: int, block_size: int) -> int:
        """What a recorded prompt or part of one comes to, in tokens."""
        return ceil(round(recorded * self.block_tokens(block_size) / block_size, 9))


class Vocabulary:
    """The words of every block of one scope.

    Args:
        scope: block ids mean the same within it.
        block_size: recorded tokens of a block.
        scale: how many words they become.
    """

    def __init__(self, scope: str, block_size: int, scale: Scale) -> None:
        self.block_size = block_size
        self._words_per_block = scale.block_tokens(block_size) / scale.tokens_per_word
        self._offset = int.from_bytes(blake2b(scope.encode(), digest_size=8).digest(), "big")
        self._texts: dict[int, str] = {}
        self._counts: dict[int, int] = {}

    def count(self, block: int) -> int:
        """Words of a block: the fraction is drawn by the id, so that many blocks have the right number."""
        found = self._counts.get(block)
        if found is None:
            whole = floor(self._words_per_block)
            extra = _mixed(block ^ self._offset) / (_MASK + 1) < self._words_per_block - whole
            found = self._counts[block] = max(1, whole + extra)
        return found

    def text(self, block: int) -> str:
        """The block's words, a space before each."""
        found = self._texts.get(block)
        if found is None:
            found = self._texts[block] = "".join(f" {w}" for w in self.words(block))
        return found

    def words(self, block: int) -> list[str]:
        """The block's words."""
        n_words = self.count(block)
        spelled = min(n_words, _ID_WORDS)
        number = (block * _SPREAD + self._offset) % _BASE**spelled
        found = []
        for _ in range(spelled):
            number, digit = divmod(number, _BASE)
            found.append(WORDS[digit])
        state = _mixed(block * _SPREAD ^ self._offset)
        while len(found) < n_words:
            state = _mixed(state)
            found.append(WORDS[state % _BASE])
        return found


class Stream:
    """A prompt's words, to be cut at recorded token positions.

    Args:
        vocabulary: of the prompt's scope.
        blocks: ids of its blocks; the last may be used in part.
    """

    def __init__(self, vocabulary: Vocabulary, blocks: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self._blocks = blocks
        self._starts = list(accumulate((vocabulary.count(b) for b in blocks), initial=0))

    def position(self, token: int) -> int:
        """The word at which a recorded token position lies."""
        index, rest = divmod(token, self._vocabulary.block_size)
        if index >= len(self._blocks):
            return self._starts[-1]
        inside = self._vocabulary.count(self._blocks[index]) * rest // self._vocabulary.block_size
        return self._starts[index] + inside

    def text(self, start: int, stop: int) -> str:
        """Words `start` to `stop` (exclusive), one space between."""
        if start >= stop:
            return ""
        first, last = self._block_at(start), self._block_at(stop - 1)
        if first == last:
            return " ".join(self._words(first)[start - self._starts[first] : stop - self._starts[first]])
        head = "".join(f" {w}" for w in self._words(first)[start - self._starts[first] :])
        middle = "".join(self._vocabulary.text(b) for b in self._blocks[first + 1 : last])
        tail = "".join(f" {w}" for w in self._words(last)[: stop - self._starts[last]])
        return (head + middle + tail)[1:]

    def _block_at(self, word: int) -> int:
        return bisect_right(self._starts, word) - 1

    def _words(self, index: int) -> list[str]:
        return self._vocabulary.words(self._blocks[index])


def _mixed(value: int) -> int:
    """One step of splitmix64 (Steele, Lea, Flood 2014): a well-spread 64-bit number for each 64-bit number."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
