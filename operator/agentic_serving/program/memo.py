"""What one session's last prompt was read from, so that of the next one only what is new is normalised and hashed.

Bodies grow by appending. Each message is known again by Python's own hash of its JSON, or of its serialised form where it was
read already: keyed anew in each process, fast, and never written anywhere or compared with another process's. Reading with a
memo gives the same blocks as reading without.
"""

import marshal
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentic_serving.program.entries import Entries
from agentic_serving.program.normalise import Template
from agentic_serving.program.prompt import Prompt

__all__ = ["Memo", "fingerprints"]

#: Version of marshal's format without references: equal values have equal bytes, however they came to be.
_PLAIN = 2
#: A mark this many messages before the end: clients move the caching marks of the last one to three user messages.
_BACK = (1, 2, 4, 8, 16)
#: 17 KiB. A longer prompt is read whole every time.
_MOST_BLOCKS = 1024
_MASK = 0xFFFFFFFFFFFFFFFF


def fingerprints(body: Mapping[str, Any], entries: Sequence[Any], template: Template) -> list[int]:
    """One number for what stands before the messages, then one for each message but the last; empty if there is no saying."""
    tools = body.get("tools")
    before = (
        [body.get(name) for name in ("system", "instructions")],
        tools.fingerprints() if isinstance(tools, Entries) else tools,
        ["system" in body, template.head, template.call_ids, template.reasoning],
    )
    try:
        head = hash(marshal.dumps(before, _PLAIN))
        if isinstance(entries, Entries):
            return [head, *entries.fingerprints()[:-1]]
        return [head, *(hash(marshal.dumps(entry, _PLAIN)) for entry in entries[:-1])]
    except ValueError:  # nested more than 2000 deep, or no JSON
        return []


class Memo:
    """One session's last prompt, and up to five places in it from which a next one may go on: 17 bytes a block, shared with the
    graph, and 250 bytes."""

    __slots__ = ("_marks", "prompt")

    def __init__(self) -> None:
        self.prompt = Prompt()
        self._marks = array("Q")  # triples: messages, blocks, fingerprint of all these messages

    def known(self, fingers: list[int]) -> tuple[int, int]:
        """How many messages, and blocks of the last prompt, this one begins with as well; (0, 0) if none."""
        for i in range(0, len(self._marks), 3):
            entries, blocks, finger = self._marks[i : i + 3]
            if _joined(fingers, entries) == finger:  # of fewer messages it never is
                return entries, blocks
        return 0, 0

    def keep(self, prompt: Prompt, fingers: list[int], ends: Mapping[int, int]) -> None:
        """Remember a prompt.

        Args:
            ends: how many blocks its first messages are, where that is known and does not depend on what follows.
        """
        n = len(fingers)  # messages: the last has none, what is before them has one
        self._marks = array("Q")
        self.prompt = prompt
        if len(prompt) > _MOST_BLOCKS:
            self.prompt = Prompt()
            return
        for back in _BACK:
            if (blocks := ends.get(n - back)) is not None:
                self._marks.extend((n - back, blocks, _joined(fingers, n - back)))

    def places(self) -> Iterable[tuple[int, int]]:
        """Messages and blocks of each mark."""
        return zip(self._marks[::3], self._marks[1::3], strict=True)


def _joined(fingers: list[int], entries: int) -> int:
    return hash(tuple(fingers[: entries + 1])) & _MASK
