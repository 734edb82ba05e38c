"""Pieces of knowledge as bytes, and back: what is written to the store.

A session is three lines: when it was seen and its name (to sort by without reading the rest), its fields, and the boundaries of its prompt
as they lie in memory. Times are on the wall clock, in milliseconds, as the next reader has another clock. What is read is
data from outside: of a record that is not as `encode` writes it nothing is believed.
"""

import math
import sys
from array import array
from typing import Any

import orjson

from agentic_serving.program.events import Declared
from agentic_serving.program.graph_path import Path
from agentic_serving.program.keeping.kept import Away, Drawn, Home, Kept, Learned, Task, Total

__all__ = ["FORMAT", "decode", "encode", "head", "learned_from", "learned_text"]

#: Whoever finds another one begins anew. Boundaries are in the byte order of the machine.
FORMAT = f"1-{sys.byteorder}"

#: A name is a program, a run and an agent of at most 128 characters each.
_MOST_CHARS = 600
_BOUNDARY_BYTES = 17
_MOST_BOUNDARIES = 64
_MOST_HOMES = 64
_MOST_COUNT = 1 << 62

Json = Any  # what orjson gives: read with the checks below only


def encode(kept: Kept, offset_s: float) -> bytes:
    """
    Args:
        offset_s: wall clock less the clock of `kept`.
    """
    flags = kept.own | kept.seen << 1 | kept.tools << 2 | kept.final << 3
    rest = [
        kept.parent,
        flags,
        kept.turns,
        kept.chain,
        kept.attained_tokens,
        [[one.replica, one.tokens, one.base, one.shared] for one in kept.homes[:_MOST_HOMES]],
        _away(kept.away, offset_s) if kept.away else None,
        _drawn(kept.drawn) if kept.drawn else None,
        _total(kept.total, offset_s) if kept.total else None,
        _task(kept.task, offset_s) if kept.task else None,
    ]
    lines = (orjson.dumps([_wall(kept.seen_s, offset_s), kept.name]), orjson.dumps(rest))
    return b"\n".join((*lines, _boundaries(kept.drawn.path) if kept.drawn else b""))


def head(record: bytes) -> tuple[float, str] | None:
    """When it was seen, in seconds on the wall clock, and its name; None: it is none of ours."""
    try:
        seen, name = orjson.loads(record[: record.index(b"\n")])
        return _number(seen) / 1000, _name(name)
    except (ValueError, TypeError):
        return None


def decode(record: bytes, offset_s: float) -> Kept | None:
    """
    Args:
        offset_s: wall clock less the clock that is wanted.
    """
    try:
        first, second, boundaries = record.split(b"\n", 2)
        seen, name = orjson.loads(first)
        parent, flags, turns, chain, attained, homes, away, drawn, total, task = orjson.loads(second)
        return Kept(
            name=_name(name),
            seen_s=_clock(seen, offset_s),
            parent=_name(parent) if parent is not None else None,
            own=bool(_count(flags) & 1),
            seen=bool(flags & 2),
            tools=bool(flags & 4),
            final=bool(flags & 8),
            turns=_count(turns),
            chain=_count(chain, 1 << 64),
            attained_tokens=_count(attained),
            homes=tuple(_home(*one) for one in homes[:_MOST_HOMES]),
            away=_away_from(away, offset_s) if away is not None else None,
            drawn=_drawn_from(drawn, boundaries) if drawn is not None else None,
            total=_total_from(total, offset_s) if total is not None else None,
            task=_task_from(task, offset_s) if task is not None else None,
        )
    except (ValueError, TypeError, OverflowError):
        return None


def learned_text(learned: Learned) -> bytes:
    return orjson.dumps({name: getattr(learned, name) for name in Learned.__slots__})


def learned_from(text: bytes) -> Learned | None:
    """None: it is none of ours."""
    try:
        data = orjson.loads(text)
        error, n_reported = data["error"]
        return Learned(
            made=_count(data["made"]),
            per_s=abs(_number(data["per_s"])),
            error=(min(1.0, abs(_number(error))), _count(n_reported)),
            rates={_name(key): (_rate(rate), _count(n)) for key, (rate, n) in data["rates"].items()},
            trust={_name(key): _share(value) for key, value in data["trust"].items()},
            decoding=_numbers(data["decoding"]),
            replicas={_name(key): _replica(*value) for key, value in data["replicas"].items()},
            gaps={
                str(program): {_name(level): _weights(value) for level, value in levels.items()}
                for program, levels in data["gaps"].items()
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def _wall(clock_s: float, offset_s: float) -> int:
    return round(1000 * (clock_s + offset_s))


def _clock(wall_ms: Json, offset_s: float) -> float:
    return _number(wall_ms) / 1000 - offset_s


def _away(away: Away, offset_s: float) -> list[Json]:
    said = away.declared
    declared = [said.gap_s, said.remaining_s, said.gap_said] if said is not None else None
    return [away.program, _wall(away.since_s, offset_s), away.replica, declared]


def _away_from(data: Json, offset_s: float) -> Away:
    program, since, replica, said = data
    declared = None
    if said is not None:
        gap_s, remaining_s, gap_said = said
        declared = Declared(
            gap_s=_number(gap_s) if gap_s is not None else None,
            remaining_s=_number(remaining_s) if remaining_s is not None else None,
            gap_said=bool(gap_said),
        )
    return Away(
        program=_text(program),
        since_s=_clock(since, offset_s),
        replica=_text(replica),
        declared=declared,
    )


def _home(replica: Json, tokens: Json, base: Json, shared: Json) -> Home:
    return Home(replica=_name(replica), tokens=_count(tokens), base=_text(base), shared=_count(shared))


def _drawn(drawn: Drawn) -> list[Json]:
    flags = drawn.told | drawn.child_seen << 1 | drawn.child_told << 2
    return [drawn.path.whole, drawn.path.tokens_per_byte, drawn.parent, flags]


def _boundaries(path: Path) -> bytes:
    return b"".join((path.chains.tobytes(), path.contents.tobytes(), path.sizes.tobytes(), bytes(path.kinds)))


def _drawn_from(data: Json, boundaries: bytes) -> Drawn:
    whole, tokens_per_byte, parent, flags = data
    n, odd = divmod(len(boundaries), _BOUNDARY_BYTES)
    if odd or not 0 < n <= min(_MOST_BOUNDARIES, _count(whole)):
        raise ValueError("boundaries are missing")
    path = Path()
    path.chains = array("Q", boundaries[: 8 * n])
    path.contents = array("I", boundaries[8 * n : 12 * n])
    path.sizes = array("I", boundaries[12 * n : 16 * n])
    path.kinds = bytearray(one & 31 for one in boundaries[16 * n :])
    path.tokens_per_byte, path.whole = _rate(tokens_per_byte), whole
    return Drawn(
        path=path,
        parent=_name(parent) if parent is not None else None,
        told=bool(_count(flags) & 1),
        child_seen=bool(flags & 2),
        child_told=bool(flags & 4),
    )


def _total(total: Total, offset_s: float) -> list[Json]:
    started = _wall(total.started_s, offset_s)
    return [started, total.turns, total.tasks, total.attained_tokens, total.task_tokens]


def _total_from(data: Json, offset_s: float) -> Total:
    started, turns, tasks, attained, task = data
    return Total(
        started_s=_clock(started, offset_s),
        turns=_count(turns),
        tasks=_count(tasks),
        attained_tokens=_count(attained),
        task_tokens=_count(task),
    )


def _task(task: Task, offset_s: float) -> list[Json]:
    return [_wall(task.since_s, offset_s), task.tokens, dict(task.others), task.began]


def _task_from(data: Json, offset_s: float) -> Task:
    since, tokens, others, began = data
    return Task(
        since_s=_clock(since, offset_s),
        tokens=_count(tokens),
        others={_name(stack): _count(part) for stack, part in others.items()},
        began=bool(began),
    )


def _replica(share: Json, held: Json, tokens_per_s: Json, budget_s: Json) -> tuple[float, int, float, float]:
    speed = _number(tokens_per_s)
    if speed <= 0:
        raise ValueError("a speed is above 0")
    return _share(share), _count(held), speed, _number(budget_s)


def _weights(data: Json) -> tuple[float, ...]:
    found = _numbers(data)
    if min(found, default=0.0) < 0:
        raise ValueError("a weight is not negative")
    return found


def _numbers(data: Json) -> tuple[float, ...]:
    return tuple(_number(one) for one in data)


def _number(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a number is expected")
    return float(value)


def _rate(value: Json) -> float:
    """Tokens per byte: a token has at most some 100 bytes, and a byte is at most a few tokens."""
    if not 0.001 < _number(value) < 100:
        raise ValueError("a rate is expected")
    return float(value)


def _share(value: Json) -> float:
    return min(1.0, max(0.0, _number(value)))


def _count(value: Json, most: int = _MOST_COUNT) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < most:
        raise ValueError("a count is expected")
    return value


def _text(value: Json) -> str:
    if not isinstance(value, str) or len(value) > _MOST_CHARS:
        raise ValueError("a text is expected")
    return value


def _name(value: Json) -> str:
    if not _text(value):
        raise ValueError("a name is expected")
    return str(value)
