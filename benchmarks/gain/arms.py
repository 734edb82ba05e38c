"""What is compared: who takes part in the chain, arm by arm, with the scheduler's parameters at the workload's scale."""

from dataclasses import replace

from benchmarks.gain.workload import Scaling

from agentic_serving.program.policy import Policy
from tests.e2e.routerkit.chains import Link

__all__ = ["ARMS", "BASE", "link_of"]

#: The scheduler's mode and how the picker is used. Off, Observe and Enforce are what the operator renders; in the first two
#: the picker has its own queue (flow control), which `prefix+load` goes without.
_LINKS = {
    "prefix+load": Link(scheduler="Off", picking="load"),
    "affinity": Link(scheduler="Off", picking="session"),
    "Off": Link(scheduler="Off", picking="flow"),
    "Observe": Link(scheduler="Observe", picking="flow"),
    "Enforce": Link(scheduler="Enforce", picking="flow"),
    "Enforce, 10 min": Link(scheduler="Enforce", picking="flow"),
}
ARMS = tuple(_LINKS)
#: What the others are compared with.
BASE = "prefix+load"

#: Seconds, of recorded time: the defaults of `maxHold` and `idleTimeout`, and the longest `maxHold` that the API takes.
_MAX_HOLD_S, _IDLE_S = 300.0, 1800.0
_LONG_HOLD_S = {"Enforce, 10 min": 600.0}


def link_of(arm: str, release: str, scaling: Scaling) -> Link:
    """An arm for this picker; tokens and seconds of the scheduler's policy are divided as the workload's are."""
    return replace(
        _LINKS[arm],
        release=release,
        policy=Policy().scaled(scaling.gaps, 1 / scaling.tokens),
        max_hold_s=_LONG_HOLD_S.get(arm, _MAX_HOLD_S) * scaling.gaps,
        idle_s=_IDLE_S * scaling.gaps,
    )
