"""Which program a request belongs to: the one that our Envoy names, else the first whose rules hold.

The order of the rules, what overlaps and what can never match are `api.matching`'s, as they are for the router that is
rendered. Regular expressions are never tried here: users write them in RE2, and Python's engine backtracks on hostile
headers. Envoy tries them and says so in PROGRAM_HEADER (docs/decisions/0005); without it, a program with an expression
does not match, and what comes after it is called uncertain.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agentic_serving.api.matching import (
    PROGRAM_HEADER,
    Condition,
    Ordering,
    ProgramRoute,
    conditions,
    holds,
    order_programs,
    route_of,
)
from agentic_serving.api.program import DEFAULT_PROGRAM, AgentProgram
from agentic_serving.api.validate import cross_field_findings
from agentic_serving.program.request import identifier

__all__ = ["Matched", "Matcher"]

#: A Kubernetes object's name of the kinds that we read: a DNS label.
_MAX_NAME_CHARS = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The program of a request.

    Attributes:
        source: `stamp`: our Envoy said so; `rules`: found here.
        certain: no program that would have come first was left untried for its regular expressions.
        route: its rules; None for `default`, and for a program that Envoy knows already and this process not yet.
    """

    program: str
    source: Literal["stamp", "rules"]
    certain: bool = True
    route: ProgramRoute | None = None


class Matcher:
    """The programs of one stack, in the order in which they are tried. Never changes: make a new one when programs do.

    Attributes:
        ordering: with the overlaps and the problems found.
    """

    def __init__(self, programs: Iterable[ProgramRoute]) -> None:
        self.ordering: Ordering = order_programs(programs)
        self._routes = {route.name: route for route in self.ordering.programs}
        self._rules = tuple((route, tuple(conditions(route))) for route in self.ordering.programs)

    @classmethod
    def of(cls, programs: Iterable[AgentProgram]) -> "Matcher":
        """Of a stack's objects. One that is not valid is left out, as the router leaves it out."""
        return cls(route_of(p) for p in programs if not cross_field_findings(p.spec, "spec"))

    def match(self, headers: Mapping[str, str], *, from_our_envoy: bool) -> Matched:
        """The program of a request.

        Args:
            headers: by lower-case name.
            from_our_envoy: the host knows that our Envoy sent it, whose edge has removed what others may not say.
        """
        name = identifier(headers.get(PROGRAM_HEADER)) if from_our_envoy else None
        if name is not None and len(name) <= _MAX_NAME_CHARS:
            return Matched(program=name, source="stamp", route=self._routes.get(name))
        certain = True
        for route, alternatives in self._rules:
            met = _met(alternatives, headers)
            if met:
                return Matched(program=route.name, source="rules", certain=certain, route=route)
            certain = certain and met is not None
        return Matched(program=DEFAULT_PROGRAM, source="rules", certain=certain)


def _met(alternatives: Iterable[tuple[Condition, ...]], headers: Mapping[str, str]) -> bool | None:
    """Whether any list holds as a whole; None where only expressions keep one from holding."""
    result: bool | None = False
    for listed in alternatives:
        found = [holds(condition, headers) for condition in listed]
        if all(found):
            return True
        if False not in found:
            result = None
    return result
