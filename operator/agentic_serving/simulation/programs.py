"""Programs before they are simulated: repeated, and fit for one kind of replica."""

from collections.abc import Sequence
from dataclasses import replace

from agentic_serving.errors import InvalidInput
from agentic_serving.workload import Program

__all__ = ["check_one_block_size", "repeated"]


def repeated(programs: Sequence[Program], laps: int) -> tuple[Program, ...]:
    """Every program so many times; repetitions have ids and scopes of their own, so that they share no block.

    Recorded arrivals go on where the lap before had its last one.
    """
    lap_s = max((program.start_s for program in programs), default=0.0)
    return tuple(
        program
        if not lap
        else replace(
            program,
            id=f"{program.id}~{lap}",
            scope=f"{program.scope}~{lap}",
            start_s=program.start_s + lap * lap_s,
        )
        for lap in range(laps)
        for program in programs
    )


def check_one_block_size(programs: Sequence[Program]) -> int:
    """The tokens of every block of these programs.

    Raises:
        InvalidInput: they differ, as in a folder of traces of several formats.
    """
    sizes: dict[int, Program] = {}
    for program in programs:
        for _, turn in program.turns():
            sizes.setdefault(turn.block_size, program)
    if len(sizes) != 1:
        told = ", ".join(f"{size} ({one.source} {one.id})" for size, one in sorted(sizes.items()))
        raise InvalidInput(
            "programs", f"need blocks of one size, found {told or 'none'}; simulate them apart"
        )
    return next(iter(sizes))
