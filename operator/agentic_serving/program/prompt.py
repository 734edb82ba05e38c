"""The blocks of a prompt, in columns: 17 bytes a block, shared by whoever keeps the prompt (graph, memo)."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import overload

from agentic_serving.program.normalise import BlockKind, Part, Role

__all__ = ["Block", "Prompt", "columns", "kind_of", "possible", "role_of", "tokens_of"]

_KINDS: tuple[BlockKind, ...] = ("System", "ToolCatalog", "Turn", "Reasoning")
_ROLES: tuple[Role, ...] = ("", "user", "assistant", "tool")
_CODES = {(kind, role): 4 * k + r for k, kind in enumerate(_KINDS) for r, role in enumerate(_ROLES)}
_HINTED = 16
_MOST = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Block:
    """A typed piece of a prompt.

    Attributes:
        content: 32 bits of the hash of this block alone, never 0: to find a block at another place.
        chain: 64 bits: hash of the prompt up to and with this block.
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


class Prompt(Sequence[Block]):
    """A sequence of blocks. Its columns are shared, so nobody changes them once it is made.

    Args:
        tokens_per_byte: by which all its tokens are estimated.
    """

    __slots__ = ("chains", "contents", "kinds", "sizes", "tokens_per_byte")

    def __init__(self, tokens_per_byte: float = 1.0) -> None:
        self.tokens_per_byte = tokens_per_byte
        self.chains = array("Q")
        self.contents = array("I")
        self.sizes = array("I")
        self.kinds = bytearray()

    def __len__(self) -> int:
        return len(self.chains)

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Block, ...]: ...
    def __getitem__(self, index: int | slice) -> Block | tuple[Block, ...]:
        if isinstance(index, slice):
            return tuple(self._block(i) for i in range(*index.indices(len(self))))
        return self._block(index)

    def __iter__(self) -> Iterator[Block]:
        return (self._block(i) for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt | tuple | list) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]  # as of any sequence that compares by value and is not frozen

    @property
    def n_bytes(self) -> int:
        """Of all blocks together."""
        return sum(self.sizes)

    def begin(self, of: "Prompt", blocks: int) -> None:
        """Start with the first blocks of another prompt."""
        self.chains, self.contents = of.chains[:blocks], of.contents[:blocks]
        self.sizes, self.kinds = of.sizes[:blocks], of.kinds[:blocks]

    def append(self, named: Block | Part, content: int, chain: int, n_bytes: int) -> None:
        """One more at the end; kind, role and mark are those of `named`."""
        self.chains.append(chain)
        self.contents.append((content & _MOST) or 1)
        self.sizes.append(min(n_bytes, _MOST))
        self.kinds.append(_CODES[named.kind, named.role] + _HINTED * named.hinted)

    def _block(self, index: int) -> Block:
        code = self.kinds[index]
        return Block(
            kind_of(code),
            role_of(code),
            self.contents[index],
            self.chains[index],
            self.sizes[index],
            tokens_of(self.sizes[index], self.tokens_per_byte),
            code >= _HINTED,
        )


def columns(blocks: Sequence[Block]) -> Prompt:
    """Blocks that were counted in tokens, as a prompt of one byte a token; a prompt is what it is."""
    if isinstance(blocks, Prompt):
        return blocks
    made = Prompt()
    for block in blocks:
        made.append(block, block.content, block.chain, block.tokens)
    return made


def tokens_of(n_bytes: int, tokens_per_byte: float) -> int:
    """Rounded up, but for what is only the error of floats."""
    return ceil(n_bytes * tokens_per_byte - 1e-6)


def kind_of(code: int) -> BlockKind:
    """The kind in an element of the column `kinds`."""
    return _KINDS[code % _HINTED // 4]


def role_of(code: int) -> Role:
    """The role in the same element."""
    return _ROLES[code % 4]


def possible(n_bytes: int, tokens: int) -> bool:
    """Whether a report of so many tokens can be true: some bytes, at most 2 and at least 1/64 tokens a byte."""
    return n_bytes > 0 and n_bytes <= 64 * tokens <= 128 * n_bytes
