"""replay.text: equal blocks are equal words, different ones are not, sizes are as asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.replay.text import Scale, Stream, Vocabulary
from agentic_serving.replay.words import WORDS

SCALES = st.builds(Scale, token_scale=st.floats(0.02, 1), tokens_per_word=st.floats(0.8, 4))
BLOCKS = st.lists(st.integers(-5, 100_000), min_size=1, max_size=60)


def test_the_vocabulary_is_512_different_words() -> None:
    assert len(set(WORDS)) == len(WORDS) == 512
    assert all(word.isalpha() for word in WORDS)


@pytest.mark.parametrize(
    ("token_scale", "tokens"), [(1.0, 64), (0.5, 32), (0.02, 2), (0.001, 1), (1 / 64, 1), (0.1, 7)], ids=str
)
def test_a_block_is_shortened_to_the_next_whole_token(token_scale: float, tokens: int) -> None:
    assert Scale(token_scale=token_scale).block_tokens(64) == tokens


@given(SCALES, st.lists(st.integers(-1000, 1_000_000), min_size=2, max_size=50, unique=True))
def test_different_blocks_have_different_text(scale: Scale, blocks: list[int]) -> None:
    vocabulary = Vocabulary("s", 64, scale)
    several = [b for b in blocks if vocabulary.count(b) >= 3]
    assert len({vocabulary.text(b) for b in several}) == len(several)


@given(SCALES, BLOCKS, BLOCKS, BLOCKS)
def test_streams_that_begin_with_equal_blocks_begin_with_equal_text(
    scale: Scale, head: list[int], a: list[int], b: list[int]
) -> None:
    one = Stream(Vocabulary("s", 64, scale), [*head, *a])
    two = Stream(Vocabulary("s", 64, scale), [*head, *b])
    stop = one.position(64 * len(head))
    assert two.position(64 * len(head)) == stop
    assert one.text(0, stop) == two.text(0, stop)


@given(SCALES, BLOCKS, st.data())
def test_pieces_of_a_stream_join_to_the_whole(scale: Scale, blocks: list[int], data: st.DataObject) -> None:
    stream = Stream(Vocabulary("s", 64, scale), blocks)
    end = stream.position(64 * len(blocks))
    cut = data.draw(st.integers(0, end))
    pieces = [stream.text(0, cut), stream.text(cut, end)]
    assert " ".join(p for p in pieces if p) == stream.text(0, end)
    assert len(stream.text(0, end).split()) == end


def test_many_blocks_have_the_words_that_their_tokens_need() -> None:
    vocabulary = Vocabulary("s", 64, Scale(token_scale=0.1, tokens_per_word=1.3))  # 7 tokens, 5.38 words
    n_words = sum(vocabulary.count(block) for block in range(20_000))
    assert n_words / 20_000 == pytest.approx(7 / 1.3, rel=0.01)


def test_scopes_do_not_share_words() -> None:
    one, two = (Vocabulary(scope, 64, Scale()) for scope in ("a", "b"))
    assert not {one.text(i) for i in range(100)} & {two.text(i) for i in range(100)}
