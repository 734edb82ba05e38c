"""router.kvwire: what engines write, made into counts; whatever else comes is counted as missed and raises nothing."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.events import CacheNews
from agentic_serving.router.kvwire import Reader


def stored(n_blocks: int, **fields: Any) -> dict[str, Any]:
    """As vLLM 0.32 writes it."""
    return {
        "type": "BlockStored",
        "block_hashes": list(range(n_blocks)),
        "parent_block_hash": None,
        "token_ids": list(range(16 * n_blocks)),
        "block_size": 16,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [("salt",)] * n_blocks,
        "group_idx": 0,
        **fields,
    }


def removed(n_blocks: int, **fields: Any) -> dict[str, Any]:
    return {
        "type": "BlockRemoved",
        "block_hashes": [b"x"] * n_blocks,
        "medium": "GPU",
        "group_idx": 0,
        **fields,
    }


CLEARED = {"type": "AllBlocksCleared"}


def frames(number: int, *events: object) -> list[bytes]:
    payload = msgspec.msgpack.encode([1700000000.5, list(events), 0])
    return [b"kv@10.0.0.1:8000@m", number.to_bytes(8, "big"), payload]


def news(*messages: list[bytes], reader: Reader | None = None) -> CacheNews:
    reader = reader or Reader()
    for message in messages:
        reader.read(message)
    found = reader.take("r", loads=False)
    assert found is not None
    assert reader.take("r", loads=False) is None, "said once"
    return found


def told(**fields: Any) -> CacheNews:
    return CacheNews(replica="r", **{"block_tokens": 16, "gap": True, **fields})


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([frames(0, stored(3)), frames(1, removed(1), stored(2))], told(stored_tokens=80, removed_tokens=16)),
        ([frames(0, stored(3, medium=None))], told(stored_tokens=48)),
        ([frames(0, stored(3, medium="CPU"), removed(3, medium="STORAGE"))], told(block_tokens=0)),
        ([frames(0, stored(3), CLEARED, stored(1))], told(stored_tokens=16, cleared=True)),
        ([frames(7, stored(1)), frames(8, stored(1))], told(stored_tokens=32)),
        ([frames(5, stored(9)), frames(0, stored(1))], told(stored_tokens=16, cleared=True)),
        ([frames(0, {"type": "BlockMoved", "n": 1}, stored(2))], told(stored_tokens=32)),
        ([frames(0, stored(2), stored(9, group_idx=1))], told()),
        ([frames(0, stored(4), stored(1, block_size=4))], told(stored_tokens=68)),
        ([frames(0, stored(1, block_size=-16), removed(1))], told(block_tokens=0)),
    ],
    ids=[
        "stored and removed",
        "a medium without a name",
        "other tiers",
        "cleared",
        "joined later",
        "another process",
        "an event of a newer engine",
        "layers that cache differently",
        "a part of a block",
        "an impossible size",
    ],
)
def test_what_is_counted(messages: list[list[bytes]], expected: CacheNews) -> None:
    assert news(*messages) == expected


def test_the_first_news_follow_a_gap_and_the_next_ones_do_not() -> None:
    reader = Reader()
    assert news(frames(3, stored(1)), reader=reader).gap
    assert not news(frames(4, stored(1)), reader=reader).gap
    assert news(frames(6, stored(1)), reader=reader) == told(stored_tokens=16)


@pytest.mark.parametrize(
    "message",
    [
        [],
        [b"kv@", b"1", b""],
        [b"kv@", bytes(8), b"\xc1"],
        [b"kv@", bytes(8), msgspec.msgpack.encode([1.0, [{"type": "BlockStored"}], 0])],
        [b"kv@", bytes(8), msgspec.msgpack.encode({"events": []})],
    ],
    ids=["no frames", "short number", "no msgpack", "an event without its fields", "a map"],
)
def test_what_cannot_be_read_is_a_gap(message: list[bytes]) -> None:
    reader = Reader()
    news(frames(0, stored(1)), reader=reader)
    assert news(message, reader=reader).gap
    assert reader.unreadable == 1


@given(
    st.lists(
        st.one_of(
            st.lists(st.binary(max_size=40), max_size=4),
            st.builds(
                lambda number, events: frames(number, *events),
                st.integers(0, 2**64 - 1),
                st.lists(
                    st.fixed_dictionaries(
                        {"type": st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "", 3])},
                        optional={
                            "block_hashes": st.lists(st.integers(-5, 5), max_size=3) | st.none(),
                            "block_size": st.integers(-(2**63), 2**63) | st.text(max_size=2),
                            "medium": st.sampled_from(["GPU", None, "CPU", 1]),
                            "group_idx": st.sampled_from([0, None, 1, "a"]),
                        },
                    ),
                    max_size=4,
                ),
            ),
        ),
        max_size=12,
    )
)
def test_anything_may_come_and_counts_stay_counts(messages: list[list[bytes]]) -> None:
    reader = Reader()
    for message in messages:
        reader.read(message)
        found = reader.take("r", loads=True)
        assert found is not None
        assert 0 <= found.stored_tokens <= 4 * 3 << 20
        assert 0 <= found.removed_tokens <= 4 * 3 << 20
        assert 0 <= found.block_tokens <= 1 << 20
