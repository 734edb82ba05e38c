"""Programs to choose parameters on, and programs to report figures of: no program is in both.

Fixed before anything was tuned. The half hangs on the program's id alone, so that it stays what it is when programs are
added to a trace or taken away.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Literal

from agentic_serving.workload import Program

__all__ = ["Half", "half_of", "of_half"]

Half = Literal["tuning", "reported"]


def half_of(program_id: str) -> Half:
    """The half of a program: the lowest bit of its id's hash."""
    return "reported" if sha256(program_id.encode()).digest()[0] & 1 else "tuning"


def of_half(programs: Iterable[Program], half: Half) -> tuple[Program, ...]:
    """The programs of one half, in their order."""
    return tuple(one for one in programs if half_of(one.id) == half)
