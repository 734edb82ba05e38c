"""router.parsing: lists are read member by member, and what is read is what a plain reader of JSON finds."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.program.blocks import Memo, blocks_of
from agentic_serving.program.entries import Entries
from agentic_serving.router.parsing import parsed
from agentic_serving.router.words import Call

_LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "name", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
_BODIES = st.dictionaries(st.sampled_from(["messages", "input", "tools", "system", "model"]), _JSON)


def _parsed(body: bytes) -> dict[str, Any] | None:
    call = Call(id="q", method="POST", path="/v1/messages", headers={}, body=body, complete=True)
    return parsed(call)


def _read(value: object) -> object:
    return list(value) if isinstance(value, Entries) else value


@given(_BODIES)
def test_what_is_read_is_what_was_sent(body: dict[str, Any]) -> None:
    found = _parsed(orjson.dumps(body))
    assert found is not None
    assert {name: _read(value) for name, value in found.items()} == body


@given(st.lists(_BODIES, max_size=4))
def test_blocks_are_those_of_the_same_body_read_at_once(bodies: list[dict[str, Any]]) -> None:
    memo = Memo()
    for body in bodies:
        assert blocks_of(_parsed(orjson.dumps(body)), memo=memo) == blocks_of(body)


def test_of_a_body_that_goes_on_only_what_is_new_is_read() -> None:
    written = [orjson.dumps({"role": "user", "content": f"message {i}"}) for i in range(30)]
    seen: list[bytes] = []

    def read(one: bytes) -> object:
        seen.append(one)
        return orjson.loads(one)

    memo = Memo()
    for n in (28, 30):
        seen.clear()
        blocks_of({"messages": Entries(written[:n], read)}, memo=memo)
    assert seen == written[27:]  # the one that was last may have been changed since


def test_a_member_that_nobody_can_read_is_no_message() -> None:
    found = _parsed(b'{"messages": [{"role": "user", "content": "\xff"}, {"role": "user", "content": "x"}]}')
    assert found is not None
    assert list(found["messages"]) == [None, {"role": "user", "content": "x"}]


def test_a_message_of_more_pieces_than_are_read_one_by_one_is_one_piece() -> None:
    pieces = b",".join([b"{}"] * 10_000)
    body = _parsed(b'{"messages": [{"role": "user", "content": [' + pieces + b"]}]}")
    blocks = blocks_of(body)
    assert (len(blocks), blocks[0].role) == (1, "user")
    assert blocks[0].n_bytes > len(pieces)


@pytest.mark.parametrize("n", [390_000, 410_000])
def test_so_many_brackets_are_not_read(n: int) -> None:
    body = b'{"x": [' + b",".join([b"[]"] * n) + b"]}"
    assert (_parsed(body) is None) == (n > 400_000)
