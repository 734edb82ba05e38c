"""enginesim's tokenizers: the built-in one by laws, a model's own against the library without our shortcuts."""

import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from agentic_serving.enginesim.tokens import BuiltinTokenizer, FolderTokenizer, SegmentCache

SPECIAL = ["<|im_start|>", "<|im_end|>"]
TEXT = "the quick brown fox jumps over the lazy dog while reading and writing files in a small test"


@given(st.text(max_size=400))
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(piece for _, piece in BuiltinTokenizer().pieces(text)) == text


@given(st.text(max_size=200), st.text(max_size=200))
def test_a_special_token_keeps_what_is_before_it_the_same(before: str, after: str) -> None:
    tokenizer = BuiltinTokenizer()
    whole = tokenizer.encode(f"{before}<|im_end|>{after}")
    assert whole[: len(tokenizer.encode(before))] == tokenizer.encode(before)


def test_ids_are_the_same_in_every_process() -> None:
    # Recorded in another process: 64 + CRC-32 of " hello"; a salted hash() would differ each time.
    assert BuiltinTokenizer().encode(" hello") == [1180497230]


def test_answers_tokenize_to_their_own_ids() -> None:
    tokenizer = BuiltinTokenizer()
    ids = random.Random(1).choices(tokenizer.words(), k=500)
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_a_prompt_of_400_kb_is_tokenized_fast_and_grown_ones_faster() -> None:
    rng = random.Random(2)
    text = " ".join("".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(60_000))[:400_000]
    tokenizer = BuiltinTokenizer()
    tokenizer.encode(text)
    start = time.perf_counter()
    tokenizer.encode(f"<|im_start|>{text}<|im_end|>more")
    # Measured 0.1 ms when remembered; the bound leaves room for a busy machine.
    assert time.perf_counter() - start < 0.05


def test_the_least_used_segment_is_forgotten_first() -> None:
    cache = SegmentCache(limit_chars=10)
    calls: list[str] = []

    def encode(text: str) -> list[int]:
        calls.append(text)
        return [len(text)]

    for text in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):
        assert cache.get(text, encode) == (4,)
    assert calls == ["aaaa", "bbbb", "cccc", "bbbb"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of 400 tokens, as a model's folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    path = tmp_path_factory.mktemp("model")
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps({"eos_token_id": 1}))
    return path


@given(
    parts=st.lists(
        st.sampled_from(["the quick", " fox", "\n", "ä", "<|im_end|>", "<|im_start|>user\n", "  x", "😀"])
    )
)
def test_segments_give_the_librarys_ids(folder: Path, parts: list[str]) -> None:
    text = "".join(parts)
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=True).ids
    assert FolderTokenizer(folder).encode(text) == expected


def test_a_models_answers_are_words_that_stay_one_token_each(folder: Path) -> None:
    tokenizer = FolderTokenizer(folder)
    ids = random.Random(3).choices(tokenizer.words(), k=100)
    assert tokenizer.encode(tokenizer.decode(ids), special=False) == ids
    assert tokenizer.end_id == 1
