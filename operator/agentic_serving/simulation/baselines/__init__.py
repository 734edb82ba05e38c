"""Policies of others, by name, with parameters pinned to their sources."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from agentic_serving.simulation.baselines.autellix import Atlas, Autellix, HomeReplica
from agentic_serving.simulation.baselines.burst import BurstPrefix
from agentic_serving.simulation.baselines.continuum import ContinuumTTL
from agentic_serving.simulation.baselines.ledger import ThunderLedger
from agentic_serving.simulation.baselines.orders import LeastAttainedService, TurnPriority
from agentic_serving.simulation.baselines.placements import LeastLoad, RoundRobin, SessionAffinity
from agentic_serving.simulation.baselines.prefix import AffinityFilter, Scorers
from agentic_serving.simulation.baselines.routed import Gate, Routed
from agentic_serving.simulation.setup import Fleet
from agentic_serving.simulation.views import Policy

__all__ = [
    "BASELINES",
    "AffinityFilter",
    "Atlas",
    "Autellix",
    "Baseline",
    "BurstPrefix",
    "ContinuumTTL",
    "Gate",
    "HomeReplica",
    "LeastAttainedService",
    "LeastLoad",
    "RoundRobin",
    "Routed",
    "Scorers",
    "SessionAffinity",
    "ThunderLedger",
    "TurnPriority",
    "prefill_tokens_per_s",
]

#: llm-d's agentic guide: 133 turns for 128 sequences.
_LLMD_GATE = Gate(turns_per_seq=133 / 128)
#: Not llm-d's: one that lets the order matter where the KV cache is what runs out, in favour of these baselines.
_SHORT_GATE = Gate(turns_per_seq=1.0, engine_queue=1)


def prefill_tokens_per_s(fleet: Fleet) -> float:
    """Of a replica that prefills full steps from an empty context: what `peakPrefillThroughput` is calibrated to."""
    tokens = fleet.limits.max_batched_tokens
    return tokens / fleet.profile.prompt_s(tokens, max_batched_tokens=tokens)


_MAKERS: Mapping[str, Callable[[Fleet, int], Policy]] = MappingProxyType(
    {
        "round-robin": lambda _fleet, _seed: Routed(RoundRobin()),
        "least-load": lambda _fleet, _seed: Routed(LeastLoad()),
        "session-affinity": lambda _fleet, _seed: Routed(SessionAffinity()),
        "scorers": lambda _fleet, seed: Routed(Scorers(seed=seed)),
        "affinity-filter": lambda fleet, _seed: Routed(
            AffinityFilter(prefill_tokens_per_s=prefill_tokens_per_s(fleet))
        ),
        "burst-prefix": lambda fleet, _seed: BurstPrefix(prefill_tokens_per_s=prefill_tokens_per_s(fleet)),
        "autellix": lambda fleet, _seed: Autellix(
            prefill_tokens_per_s=prefill_tokens_per_s(fleet), gate=_LLMD_GATE
        ),
        "autellix-short": lambda fleet, _seed: Autellix(
            prefill_tokens_per_s=prefill_tokens_per_s(fleet), gate=_SHORT_GATE
        ),
        "las": lambda _fleet, seed: Routed(Scorers(seed=seed), LeastAttainedService(), _LLMD_GATE),
        "las-short": lambda _fleet, seed: Routed(Scorers(seed=seed), LeastAttainedService(), _SHORT_GATE),
        "turn-priority": lambda _fleet, seed: Routed(Scorers(seed=seed), TurnPriority(), _LLMD_GATE),
        "turn-priority-short": lambda _fleet, seed: Routed(Scorers(seed=seed), TurnPriority(), _SHORT_GATE),
        "thunder-ledger": lambda _fleet, _seed: ThunderLedger(),
        "thunder-ledger-plain": lambda _fleet, _seed: ThunderLedger(decay=False),
        "continuum-ttl": lambda fleet, _seed: ContinuumTTL(prefill_tokens_per_s=prefill_tokens_per_s(fleet)),
    }
)


@dataclass(frozen=True, slots=True)
class Baseline:
    """Makes a fresh policy for a fleet and a seed. A name, so that other processes can make it too."""

    name: str

    def __call__(self, fleet: Fleet, seed: int) -> Policy:
        return _MAKERS[self.name](fleet, seed)


BASELINES: Mapping[str, Baseline] = {name: Baseline(name) for name in _MAKERS}
