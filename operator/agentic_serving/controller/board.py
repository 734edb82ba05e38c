"""What the last reconcile of each stack found, for programs, policies and the schedulers' loop to read.

Kept in memory and rebuilt at start: a program or policy waits until all its stacks have been looked at. That
keeps their reconciles free of reads and of rendering, and one policy on 500 stacks linear.
"""

from collections.abc import ItemsView, Mapping
from dataclasses import dataclass, field

from agentic_serving.api.capability import Capability
from agentic_serving.controller.keys import Key

__all__ = ["Board", "ProgramView", "StackView"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramView:
    """What a stack's router makes of one program."""

    generation: int
    accepted: bool
    reason: str
    message: str
    overlaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackView:
    """What the last reconcile of a stack found."""

    uid: str
    accepted: bool
    reason: str = ""  # why it is not accepted
    applied: bool = False
    router_ready: bool = False
    scheduling: str = ""  # spec.programScheduling.mode, of a refused spec too; empty: it cannot be read
    programs: Mapping[Key, ProgramView] = field(default_factory=dict)
    capabilities: tuple[Capability, ...] = ()


class Board:
    """One view per stack."""

    def __init__(self) -> None:
        self._views: dict[Key, StackView] = {}

    def put(self, key: Key, view: StackView) -> bool:
        """Whether the view differs from the one before."""
        changed = self._views.get(key) != view
        self._views[key] = view
        return changed

    def get(self, key: Key) -> StackView | None:
        return self._views.get(key)

    def items(self) -> ItemsView[Key, StackView]:
        return self._views.items()

    def remove(self, key: Key) -> bool:
        return self._views.pop(key, None) is not None
