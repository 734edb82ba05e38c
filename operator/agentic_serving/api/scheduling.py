"""The program scheduler of a stack: what it may do, and where its state outlives it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from agentic_serving.api.base import ApiModel, CelRule
from agentic_serving.api.model import KeySelector

__all__ = ["ProgramScheduling", "SchedulingState", "Valkey"]


class Valkey(ApiModel):
    """A Valkey (or Redis) server that you run."""

    address: Annotated[
        str,
        Field(
            min_length=3,
            max_length=261,
            pattern=r"^([A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]):[1-9][0-9]{0,4}$",
        ),
    ]
    """Host and port, such as `valkey.data.svc:6379`."""
    tls: Literal["Enabled", "Disabled"] = "Disabled"
    """Whether the connection is encrypted; the server's certificate is checked against the system's authorities."""
    password_secret_ref: KeySelector | None = None
    """Key of a Secret in the stack's namespace that holds the password; without it, none is sent."""


class SchedulingState(ApiModel):
    """Where the scheduler keeps what it has learned of programs and runs."""

    backend: Literal["Memory", "Valkey"] = "Memory"
    """`Memory`: a new scheduler learns anew, within minutes. `Valkey`: it goes on where the last one was, and the stacks of
    a pipeline know of each other's runs."""
    valkey: Valkey | None = None
    """Settings for backend `Valkey`."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="(self.backend == 'Valkey') == has(self.valkey)",
            holds=lambda self: (self.backend == "Valkey") == (self.valkey is not None),
            message="backend Valkey needs valkey.address, and valkey is for backend Valkey only",
            field_path=".valkey",
        ),
    )


class ProgramScheduling(ApiModel):
    """The program scheduler, in the path of every request."""

    mode: Literal["Enforce", "Observe", "Off"] = "Enforce"
    """`Enforce`: it places and orders turns, and holds them back where caches are full; the picker's own queue is off.
    `Observe`: it only measures, and says what it would do. `Off`: there is none."""
    state: SchedulingState = SchedulingState()
    """Where its state is kept."""

    cel_rules: ClassVar[tuple[CelRule, ...]] = (
        CelRule(
            cel="self.mode != 'Off' || !has(self.state) || self.state.backend == 'Memory'",
            holds=lambda self: self.mode != "Off" or self.state.backend == "Memory",
            message="mode Off runs no scheduler, so there is no state to keep: remove state, or set mode to Enforce or Observe",
            field_path=".state",
        ),
    )
