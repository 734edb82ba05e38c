"""Whose a call is, as far as the call itself says, and what its program asks of us."""

from dataclasses import dataclass

from agentic_serving.program.events import Turn
from agentic_serving.program.identity import Identity, identify
from agentic_serving.program.match import Matcher
from agentic_serving.program.request import Request
from agentic_serving.router.config import Config, Program
from agentic_serving.router.words import Call, Came

__all__ = ["Attributed", "Attribution", "Rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A program's own; the defaults are of calls that no AgentProgram is for (`default`)."""

    priority: int = 0
    max_hold_s: float = 300.0
    idle_s: float = 1800.0


_DEFAULT = Rules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """A call with everything that is known of it.

    Attributes:
        attained_tokens: what its run's task was served so far, uncached: the order of waiting turns goes by it.
    """

    identity: Identity
    came: Came
    turn: Turn
    attained_tokens: int


class Attribution:
    """The programs of a configuration. Never changes: make a new one when they do."""

    def __init__(self, config: Config) -> None:
        self._matcher = Matcher(one.route for one in config.programs)
        self._rules = {one.route.name: _rules(one) for one in config.programs}
        #: The longest that any session is kept.
        self.idle_s = max([_DEFAULT.idle_s, *(one.idle_s for one in config.programs)])

    def identify(self, call: Call, body: object) -> Identity:
        """Only our Envoy can speak to us, and its edge has removed what others may not say."""
        matched = self._matcher.match(call.headers, from_our_envoy=True)
        request = Request(method=call.method, path=call.path, headers=call.headers, body=body)
        return identify(request, matched)

    def rules(self, program: str) -> Rules:
        return self._rules.get(program, _DEFAULT)


def _rules(program: Program) -> Rules:
    return Rules(priority=program.priority, max_hold_s=program.max_hold_s, idle_s=program.idle_s)
