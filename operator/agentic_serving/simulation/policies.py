"""Every policy that can be simulated, by the name that users give: baselines and ours."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from agentic_serving.errors import InvalidInput
from agentic_serving.simulation.baselines import BASELINES
from agentic_serving.simulation.grid import MakePolicy
from agentic_serving.simulation.hosted import OURS

__all__ = ["POLICIES", "find_policies", "planning_policy"]

POLICIES: Mapping[str, MakePolicy] = MappingProxyType({**BASELINES, **OURS})

#: Fleets are planned for the first of these that there is: llm-d's newest mix of scorers is what runs without ours.
_FOR_PLANNING = ("agentic", "affinity-filter")


def find_policies(names: Iterable[str], *, field: str = "policy") -> dict[str, MakePolicy]:
    """The policies of these names, in this order, each once.

    Raises:
        InvalidInput: there is none of a name; the message lists those there are.
    """
    found: dict[str, MakePolicy] = {}
    for name in names:
        if name not in POLICIES:
            raise InvalidInput(field, f"there is no {name!r}; use some of {', '.join(POLICIES)}")
        found[name] = POLICIES[name]
    return found


def planning_policy() -> str:
    """The policy that fleets are planned for where none is named."""
    return next(name for name in _FOR_PLANNING if name in POLICIES)
