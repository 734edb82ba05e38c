"""The canonical workloads by name."""

from collections.abc import Mapping
from dataclasses import fields
from random import Random
from types import MappingProxyType
from typing import Any, Protocol

from agentic_serving.errors import InvalidInput
from agentic_serving.workload.generate.fanout import FanOut, Rollouts
from agentic_serving.workload.generate.longhorizon import LongHorizon
from agentic_serving.workload.generate.pipeline import Pipeline
from agentic_serving.workload.generate.reasoning import Reasoning
from agentic_serving.workload.generate.tree import TreeSearch
from agentic_serving.workload.types import Program

__all__ = ["KINDS", "generate"]


class _Kind(Protocol):
    def programs(self, n: int, random: Random) -> tuple[Program, ...]: ...


#: Name to its moments. `tree-search` and `rollouts` are fan-outs too.
KINDS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "long-horizon": LongHorizon,
        "fan-out": FanOut,
        "tree-search": TreeSearch,
        "rollouts": Rollouts,
        "pipeline": Pipeline,
        "reasoning": Reasoning,
    }
)

#: Nothing of these is a workload too.
_MAY_BE_ZERO = frozenset({"from_context", "rejected", "system_tokens", "tools"})


def generate(kind: str, n: int, seed: int, **options: object) -> tuple[Program, ...]:
    """So many programs of a kind; the same seed and options give the same programs.

    Args:
        options: attributes of the kind's class that are to differ from the published ones, `block_size` among them
            (tokens; 64 unless told otherwise).

    Raises:
        InvalidInput: no such kind or option, or a size that is not positive.
    """
    made = KINDS.get(kind)
    if made is None:
        raise InvalidInput("workload", f"{kind!r} is not one of {', '.join(KINDS)}")
    if n < 1:
        raise InvalidInput("workload", f"needs at least one program, not {n}")
    known = {field.name for field in fields(made)}
    for name, value in options.items():
        if name not in known:
            raise InvalidInput(name, f"is no option of {kind}; there are {', '.join(sorted(known))}")
        _check(name, value)
    shape: _Kind = made(**options)
    return shape.programs(n, Random(seed))  # noqa: S311 - a workload, not a secret


def _check(name: str, value: object) -> None:
    """The first number of a pair (a mean, or the fewest) and single ones are sizes; deviations may be 0."""
    first, *others = value if isinstance(value, tuple) else (value,)
    if not isinstance(first, (int, float)) or not (first > 0 or (first == 0 and name in _MAY_BE_ZERO)):
        raise InvalidInput(
            name, f"must be a positive number, or a pair that begins with one, found {value!r}"
        )
    if any(not isinstance(one, (int, float)) or one < 0 for one in others):
        raise InvalidInput(name, f"must not hold a negative number, found {value!r}")
