"""Gives back what was learned of all sessions; what is not of the right form is left out, and learned anew."""

# ruff: noqa: SLF001 - what is kept of these classes is written and read in one place, beside them

from collections.abc import Mapping

from agentic_serving.program.blocks import TokenRate
from agentic_serving.program.gaps import _BUCKETS, GapKind, GapModel, _Histogram
from agentic_serving.program.keeping.kept import Learned, World
from agentic_serving.program.replicas import Decoding

__all__ = ["learned", "replica"]

_KINDS: tuple[GapKind, ...] = ("human", "tool")


def learned(world: World, kept: Learned) -> None:
    """Where nothing was learned here yet; `replica` follows once each is known."""
    scheduler, ledger = world.scheduler, world.scheduler.ledger
    world.sessions._made = max(world.sessions._made, kept.made)
    if not scheduler.service.tokens_in(1.0):
        scheduler.service.restore_rate(kept.per_s)
    if not ledger._n_reported:
        ledger.error, ledger._n_reported = kept.error
    for program, (tokens_per_byte, turns) in kept.rates.items():
        rate = world.rates.setdefault(program, TokenRate())
        if not rate._turns:
            rate.tokens_per_byte, rate._turns = tokens_per_byte, turns
    scheduler.absence._trust = {**kept.trust, **scheduler.absence._trust}
    _decoding(scheduler._placing.decoding, kept.decoding)
    if not len(scheduler.absence.gaps):
        _gaps(scheduler.absence.gaps, kept.gaps)


def replica(world: World, kept: Learned, name: str) -> bool:
    """How a replica was. False: it is not known (yet)."""
    one = world.scheduler._placing.replicas.get(name)
    found = world.scheduler.ledger._replicas.get(name)
    told = kept.replicas.get(name)
    if one is None or found is None:
        return False
    if told is not None:
        share, _, one.tokens_per_s, one._budget_s = told
        found.believe(share)
    return True


def _decoding(decoding: Decoding, kept: tuple[float, ...]) -> None:
    if not decoding._n and len(kept) == 6:
        decoding._answer, decoding._n, decoding._x, decoding._y, decoding._xx, decoding._xy = kept


def _gaps(model: GapModel, kept: Mapping[str, Mapping[str, tuple[float, ...]]]) -> None:
    for program, levels in kept.items():
        for name, weights in levels.items():
            how, _, key = name.partition(":")
            if len(weights) != _BUCKETS + 1 or not sum(weights) > 0:
                continue
            histogram = _Histogram()
            histogram.fill(weights)
            if how == "cause" and program:
                known = model._known(program)
                model._own(known, key)
                known.causes[key] = histogram
            elif how == "kind" and key in _KINDS:
                kinds = model._known(program).kinds if program else model._kinds
                kinds[key] = histogram
    for program in [name for name, one in model._programs.items() if not one.causes]:
        del model._programs[program]
    while model._n_keys > model._max_keys:
        model._forget()
