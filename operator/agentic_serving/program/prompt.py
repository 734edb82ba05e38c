"""The blocks of a prompt, in columns: 21 bytes a block, shared by whoever keeps the prompt (graph, memo)."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import overload

from agentic_serving.program.normalise import BlockKind, Part, Role

__all__ = ["Block", "Prompt", "columns", "kind_of", "role_of"]

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
    """A sequence of blocks. Its columns are shared, so nobody changes them once it is made."""

    __slots__ = ("chains", "contents", "kinds", "sizes", "tokens")

    def __init__(self) -> None:
        self.chains = array("Q")
        self.contents = array("I")
        self.tokens = array("I")
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

    def begin(self, of: "Prompt", blocks: int, tokens_per_byte: float) -> None:
        """Start with the first blocks of another prompt; their tokens are estimated anew."""
        self.chains, self.contents = of.chains[:blocks], of.contents[:blocks]
        self.sizes, self.kinds = of.sizes[:blocks], of.kinds[:blocks]
        self.tokens = array("I", [min(ceil(n * tokens_per_byte), _MOST) for n in self.sizes])

    def add(self, block: Block) -> None:
        """One more at the end."""
        self.append(block, block.content, block.chain, block.n_bytes, block.tokens)

    def append(self, named: Block | Part, content: int, chain: int, n_bytes: int, tokens: int) -> None:
        """The same without a block: kind, role and mark are those of `named`."""
        self.chains.append(chain)
        self.contents.append((content & _MOST) or 1)
        self.tokens.append(min(tokens, _MOST))
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
            self.tokens[index],
            code >= _HINTED,
        )


def columns(blocks: Iterable[Block]) -> Prompt:
    """The same blocks in columns; a prompt is what it is."""
    if isinstance(blocks, Prompt):
        return blocks
    made = Prompt()
    for block in blocks:
        made.add(block)
    return made


def kind_of(code: int) -> BlockKind:
    """The kind in an element of the column `kinds`."""
    return _KINDS[code % _HINTED // 4]


def role_of(code: int) -> Role:
    """The role in the same element."""
    return _ROLES[code % 4]
