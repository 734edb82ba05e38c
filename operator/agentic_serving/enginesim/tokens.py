"""Text to token ids and back: the model's own tokenizer where its files are there, else a built-in one.

Prompts of agents grow at the end, so text is tokenized by segments between special tokens, and segments are
remembered. That is exact for byte-level BPE without a prefix space, which never merges across a special token; other
tokenizers get the whole text.
"""

import json
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import Tokenizer

__all__ = ["BuiltinTokenizer", "FolderTokenizer", "SegmentCache", "TextTokenizer", "load_tokenizer"]

#: Characters of text whose ids are remembered; about 40 bytes each with ids, so some 300 MB at most.
_REMEMBERED_CHARS = 8_000_000


class TextTokenizer(Protocol):
    """What the engine needs of a tokenizer."""

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Ids of text; `special`: with what the tokenizer adds of its own (a start token)."""
        ...

    def pieces(self, text: str) -> list[tuple[int, str]]:
        """Ids of text with the text that each stands for; the texts joined are `text`."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; special tokens are left out."""
        ...

    def spellings(self, ids: Sequence[int]) -> list[str]:
        """Each id as the vocabulary spells it."""
        ...

    def words(self) -> Sequence[int]:
        """Ids that are whole words and stay so beside each other: what pseudo-text is made of."""
        ...

    @property
    def end_id(self) -> int:
        """The id that ends an answer."""
        ...


class SegmentCache:
    """Ids by segment of text, the longest unused forgotten first."""

    def __init__(self, limit_chars: int = _REMEMBERED_CHARS) -> None:
        self._limit = limit_chars
        self._held = 0
        self._ids: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def get(self, text: str, encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
        found = self._ids.get(text)
        if found is not None:
            self._ids.move_to_end(text)
            return found
        ids = tuple(encode(text))
        if len(text) <= self._limit:
            self._ids[text] = ids
            self._held += len(text)
        while self._held > self._limit:
            self._held -= len(self._ids.popitem(last=False)[0])
        return ids


#: Special tokens of the built-in chat format (ChatML) and of tool calls in Hermes form.
_SPECIAL = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "<think>", "</think>")
_SPECIAL_IDS = {text: number for number, text in enumerate(_SPECIAL)}
_SPLIT = re.compile("(" + "|".join(map(re.escape, _SPECIAL)) + ")")
#: As GPT-2 splits, with words of at most eight letters: 1.3 tokens an English word, as usual for BPE.
_PIECES = re.compile(r" ?[^\W\d_]{1,8}| ?\d{1,3}| ?[^\w\s]{1,4}|_+|\s*\n+|\s+(?!\S)|\s+")
_VOWELS, _CONSONANTS = "aeiou", "bcdfgklmnprstvz"
#: Ids of pieces begin above the special ones; 31 bits, as vocabularies are small but never negative.
_FIRST_PIECE_ID, _ID_SPACE = 64, 2**31 - 64


class BuiltinTokenizer:
    """Deterministic in every process: an id is a checksum of its piece. Pieces seen can be decoded again."""

    end_id = _SPECIAL_IDS["<|im_end|>"]

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._texts: dict[int, str] = {number: text for text, number in _SPECIAL_IDS.items()}
        self._cache = SegmentCache()
        self._words = [self._id(word) for word in _pseudo_words()]

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        del special  # it adds none
        ids: list[int] = []
        for segment in _SPLIT.split(text):
            known = _SPECIAL_IDS.get(segment)
            ids.extend((known,) if known is not None else self._cache.get(segment, self._segment))
        return ids

    def pieces(self, text: str) -> list[tuple[int, str]]:
        return [(number, self._texts[number]) for number in self.encode(text)]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._texts.get(i, f"<{i}>") for i in ids if i >= len(_SPECIAL))

    def spellings(self, ids: Sequence[int]) -> list[str]:
        return [self._texts.get(i, f"<{i}>") for i in ids]

    def words(self) -> Sequence[int]:
        return self._words

    def _segment(self, text: str) -> list[int]:
        known = self._ids
        return [known.get(piece) or self._id(piece) for piece in _PIECES.findall(text)]

    def _id(self, piece: str) -> int:
        number = _FIRST_PIECE_ID + zlib.crc32(piece.encode("utf-8", "surrogatepass")) % _ID_SPACE
        while self._texts.setdefault(number, piece) != piece:
            number += 1  # two pieces with one checksum: about once in 60,000 pieces
        self._ids[piece] = number
        return number


def _pseudo_words() -> list[str]:
    """750 words of two syllables and a consonant: " kalop". Short enough to stay one piece each."""
    syllables = [c + v for c in _CONSONANTS for v in _VOWELS]
    return [
        f" {a}{syllables[(3 * i + 7 * j) % len(syllables)]}n"
        for i, a in enumerate(syllables)
        for j in range(10)
    ]


class FolderTokenizer:
    """`tokenizer.json` of a model's folder, as vLLM's fast tokenizers read it."""

    def __init__(self, folder: Path) -> None:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(text)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        layout = json.loads(text)
        self._cache = SegmentCache()
        self._specials = {t["content"]: int(t["id"]) for t in layout.get("added_tokens", [])}
        self._special_ids = frozenset(
            int(t["id"]) for t in layout.get("added_tokens", []) if t.get("special")
        )
        self._split = _splitter(layout)
        self._words: list[int] | None = None
        self.end_id = self._end_id(folder)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        if self._split is None:
            return list(self._tokenizer.encode(text, add_special_tokens=special).ids)
        ids: list[int] = self._added() if special else []
        for segment in self._split.split(text):
            known = self._specials.get(segment)
            ids.extend((known,) if known is not None else self._cache.get(segment, self._segment))
        return ids

    def pieces(self, text: str) -> list[tuple[int, str]]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        found: list[tuple[int, str]] = []
        done = 0
        for number, (_, end) in zip(encoding.ids, encoding.offsets, strict=True):
            found.append((number, text[done:end]))
            done = max(done, end)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def spellings(self, ids: Sequence[int]) -> list[str]:
        return [self._tokenizer.id_to_token(i) or "" for i in ids]

    def words(self) -> Sequence[int]:
        if self._words is None:
            self._words = self._find_words()
        return self._words

    def _segment(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids) if text else []

    def _added(self) -> list[int]:
        """What the tokenizer puts before every text."""
        return list(self._tokenizer.encode("", add_special_tokens=True).ids)

    def _find_words(self) -> list[int]:
        found: list[int] = []
        for number in sorted(self._tokenizer.get_vocab().values()):
            text = self._tokenizer.decode([number], skip_special_tokens=False)
            if re.fullmatch(r" [a-z]{2,}", text) and self._segment(text + text) == [number, number]:
                found.append(number)
        return (
            found or [n for n in range(self._tokenizer.get_vocab_size()) if n not in self._special_ids][:64]
        )

    def _end_id(self, folder: Path) -> int:
        for name in ("generation_config.json", "config.json"):
            found = _json(folder / name).get("eos_token_id")
            if isinstance(found, list) and found:
                return int(found[0])
            if isinstance(found, int):
                return found
        named = _json(folder / "tokenizer_config.json").get("eos_token")
        text = named.get("content") if isinstance(named, dict) else named
        return self._specials.get(str(text), 0)


def _splitter(layout: dict[str, Any]) -> re.Pattern[str] | None:
    """What splits text at added tokens; None where splitting could change ids."""
    added = layout.get("added_tokens", [])
    plain = all(not (t.get("lstrip") or t.get("rstrip") or t.get("single_word")) for t in added)
    if not added or not plain or not _byte_level(layout.get("pre_tokenizer")):
        return None
    if (layout.get("normalizer") or {"type": "NFC"}).get("type") != "NFC":
        return None
    if layout.get("post_processor") is not None and layout["post_processor"].get("type") != "ByteLevel":
        return None
    longest_first = sorted((t["content"] for t in added), key=len, reverse=True)
    return re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")


def _byte_level(pre_tokenizer: dict[str, Any] | None) -> bool:
    if pre_tokenizer is None:
        return False
    if pre_tokenizer.get("type") == "Sequence":
        return _byte_level((pre_tokenizer.get("pretokenizers") or [None])[-1])
    return pre_tokenizer.get("type") == "ByteLevel" and not pre_tokenizer.get("add_prefix_space")


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def load_tokenizer(model: str) -> TextTokenizer:
    """The tokenizer of a model's folder; the built-in one where there is none."""
    folder = Path(model)
    return FolderTokenizer(folder) if (folder / "tokenizer.json").is_file() else BuiltinTokenizer()
