"""router.state.records: what is written is read again; of what is not ours nothing is believed."""

import math
from array import array

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.events import Declared
from agentic_serving.program.graph_path import Path
from agentic_serving.program.keeping.kept import Away, Drawn, Home, Kept, Learned, Task, Total
from agentic_serving.router.state import records

_NAMES = st.sampled_from(["agents/s1", "agents/s2", "agents/~3", "r0", "r1"]) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40
)
_COUNTS = st.integers(0, 1 << 40)
_TIMES = st.integers(-(10**9), 10**9).map(lambda ms: ms / 1000)


@st.composite
def _paths(draw: st.DrawFn) -> Path:
    n = draw(st.integers(1, 12))
    path = Path()
    path.chains = array("Q", draw(st.lists(st.integers(1, (1 << 64) - 1), min_size=n, max_size=n)))
    path.contents = array("I", draw(st.lists(st.integers(0, (1 << 32) - 1), min_size=n, max_size=n)))
    path.sizes = array("I", draw(st.lists(st.integers(0, (1 << 32) - 1), min_size=n, max_size=n)))
    path.kinds = bytearray(draw(st.lists(st.integers(0, 31), min_size=n, max_size=n)))
    path.tokens_per_byte, path.whole = draw(st.floats(0.02, 2.0)), n + draw(st.integers(0, 100))
    return path


_DECLARED = st.builds(
    Declared, gap_s=st.none() | _TIMES, remaining_s=st.none() | _TIMES, gap_said=st.booleans()
)
SESSIONS = st.builds(
    Kept,
    name=_NAMES,
    seen_s=_TIMES,
    parent=st.none() | _NAMES,
    own=st.booleans(),
    seen=st.booleans(),
    tools=st.booleans(),
    final=st.booleans(),
    turns=_COUNTS,
    chain=st.integers(0, (1 << 64) - 1),
    attained_tokens=_COUNTS,
    homes=st.lists(
        st.builds(Home, replica=_NAMES, tokens=_COUNTS, base=st.just("") | _NAMES, shared=_COUNTS), max_size=3
    ).map(tuple),
    away=st.none()
    | st.builds(
        Away, program=_NAMES, since_s=_TIMES, replica=st.just("") | _NAMES, declared=st.none() | _DECLARED
    ),
    drawn=st.none()
    | st.builds(
        Drawn,
        path=_paths(),
        parent=st.none() | _NAMES,
        told=st.booleans(),
        child_seen=st.booleans(),
        child_told=st.booleans(),
    ),
    total=st.none()
    | st.builds(
        Total, started_s=_TIMES, turns=_COUNTS, tasks=_COUNTS, attained_tokens=_COUNTS, task_tokens=_COUNTS
    ),
    task=st.none()
    | st.builds(
        Task,
        since_s=_TIMES,
        tokens=_COUNTS,
        others=st.dictionaries(_NAMES, _COUNTS, max_size=3),
        began=st.booleans(),
    ),
)


def _plain(value: object) -> object:
    """Comparable: paths by their columns, times to the millisecond."""
    if isinstance(value, Path):
        return (value.chains, value.contents, value.sizes, value.kinds, value.tokens_per_byte, value.whole)
    if isinstance(value, float):
        return round(value, 3)
    if hasattr(value, "__slots__"):
        return [type(value).__name__, *(_plain(getattr(value, name)) for name in value.__slots__)]
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


@given(SESSIONS, st.integers(0, 2**31))
def test_a_session_is_read_as_it_was_written(kept: Kept, offset_s: int) -> None:
    record = records.encode(kept, offset_s)
    found = records.decode(record, offset_s)
    assert _plain(found) == _plain(kept)
    assert records.head(record) == (pytest.approx(kept.seen_s + offset_s, abs=0.002), kept.name)


def test_times_are_on_the_readers_clock() -> None:
    record = records.encode(Kept(name="p/a", seen_s=100.0), 1_000_000.0)
    found = records.decode(record, 999_000.0)  # a process that began 1000 s later
    assert found is not None
    assert found.seen_s == 1100.0


@given(SESSIONS, st.data())
def test_a_damaged_record_is_refused_or_read_and_never_raises(kept: Kept, data: st.DataObject) -> None:
    record = bytearray(records.encode(kept, 0.0))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(record) - 1))
        record[place] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    for damaged in (bytes(record), bytes(record[:cut])):
        records.head(damaged)
        records.decode(damaged, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"hello",
        b'[1,"p/a"]',
        b'[1,"p/a"]\n[]\n',
        b'[1,"p/a"]\n{}\n',
        b'[1,"p/a"]\n[null,0,-1,0,0,[],null,null,null,null]\n',  # a negative count
        b'[1,"p/a"]\n[null,0,1.5,0,0,[],null,null,null,null]\n',  # a broken one
        b'[1,"p/a"]\n[null,0,true,0,0,[],null,null,null,null]\n',
        b'[1,""]\n[null,0,1,0,0,[],null,null,null,null]\n',  # no name
        b'[1,"p/a"]\n[null,0,1,0,0,[["r",1,"",0,0]],null,null,null,null]\n',
        b'[1,"p/a"]\n[null,0,1,0,0,[],null,[4,0.2,null,0],null,null]\nshort',  # half a boundary
        b'[1,"p/a"]\n[null,0,1,0,0,[],null,[4,0.0,null,0],null,null]\n' + bytes(17),  # no tokens at all
        b"[" * 5000,
    ],
)
def test_what_we_did_not_write_is_not_believed(text: bytes) -> None:
    assert records.decode(text, 0.0) is None


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"made": -1}', b"\xff", b"[" * 5000])
def test_nor_is_it_of_what_was_learned(text: bytes) -> None:
    assert records.learned_from(text) is None


def test_what_was_learned_is_read_as_it_was_written() -> None:
    told = Learned(
        made=7,
        per_s=12.5,
        error=(0.25, 90),
        rates={"ns/a": (0.3, 4)},
        trust={"ns/a": 0.75},
        decoding=(400.0, 1.0, 2.0, 0.01, 4.0, 0.02),
        replicas={"pod-0": (0.9, 1000, 15000.0, -2.5)},
        gaps={"": {"kind:tool": (1.0, 2.0)}, "ns/a": {"cause:any": (0.5, 0.0)}},
    )
    assert records.learned_from(records.learned_text(told)) == told


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e400], ids=str)
def test_numbers_that_are_none_do_not_get_in(number: float) -> None:
    """orjson writes them as null, others as they are."""
    text = records.learned_text(Learned(per_s=number))
    assert records.learned_from(text) is None
    assert records.learned_from(orjson.dumps({"per_s": 1}) + b"NaN") is None
