"""The contention-free critical path: what a program takes when every turn has a replica's whole attention.

Every block is computed once and never lost, whoever computed it; nothing waits but for its inputs. For a program whose
turns follow each other that is the program alone on one replica; siblings of a fan-out are counted as if each ran
alone with their common prefix cached, so that it is a lower bound there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agentic_serving.errors import Bug
from agentic_serving.fleet.profile import StepProfile
from agentic_serving.fleet.replica import MANY_STEPS, Replica
from agentic_serving.fleet.types import Finished, Limits, Request
from agentic_serving.simulation.scripts import Script

__all__ = ["Alone", "alone"]

#: More blocks than any workload has.
_ENDLESS = 1 << 50


@dataclass(frozen=True, slots=True)
class Alone:
    """Seconds: of the run without the root's human gaps, of each task, and when each turn arrives and ends."""

    run_s: float
    tasks_s: tuple[float, ...]
    ready_s: tuple[float, ...]
    end_s: tuple[float, ...]


def alone(script: Script, kinds: Mapping[str, tuple[Limits, StepProfile]]) -> Alone:
    """The path of one script through replicas of these kinds, by stack."""
    replicas = {
        name: Replica(replace(limits, n_blocks=_ENDLESS, watermark=0.0), profile)
        for name, (limits, profile) in kinds.items()
    }
    ready_s = [0.0] * len(script.works)
    end_s = [0.0] * len(script.works)
    clock_s = 0.0
    for at in script.order:
        work = script.works[at]
        replica = replicas[work.stack]
        replica.admit(
            Request(
                id=str(at),
                runs=work.runs,
                prompt_tokens=work.prompt_tokens,
                output_tokens=work.output_tokens,
            ),
            clock_s,
        )
        done = _serve(replica, clock_s)
        ready_s[at] = max((end_s[one] for one in work.after), default=0.0) + work.gap_s
        end_s[at] = ready_s[at] + done.finished_s - clock_s
        clock_s = done.finished_s
    return Alone(
        run_s=max(end_s) - script.human_s,
        tasks_s=tuple(end_s[task.last] - ready_s[task.first] for task in script.tasks),
        ready_s=tuple(ready_s),
        end_s=tuple(end_s),
    )


def _serve(replica: Replica, now_s: float) -> Finished:
    while replica.begin(now_s, max_steps=MANY_STEPS) is not None:
        outcome = replica.end()
        now_s = outcome.end_s
        if outcome.finished:
            return outcome.finished[0]
    raise Bug("a request alone on an endless replica cannot run")
