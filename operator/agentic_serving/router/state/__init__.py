"""What outlives the scheduler's process, and what stacks of a pipeline know of each other's runs."""

from agentic_serving.clock import Clock
from agentic_serving.router.config import Config
from agentic_serving.router.state.link import PASSWORD_VARIABLE
from agentic_serving.router.state.state import Deliver, Known, Loaded, Memory, State
from agentic_serving.router.state.store import Valkey

__all__ = ["PASSWORD_VARIABLE", "Deliver", "Known", "Loaded", "Memory", "State", "open_state"]


def open_state(config: Config, password: str | None, clock: Clock) -> State:
    """The backend that is configured; nothing is connected yet, and a wrong address is a `problem`, not an error.

    Args:
        password: what the environment has under `PASSWORD_VARIABLE`.
    """
    return Memory() if config.valkey is None else Valkey(config, password, clock)
