"""A tiny Llama with random weights, a tokenizer and a chat template: a folder that vLLM serves like any model.

16 MB of memory and no download. Its text means nothing; its tokens, blocks and caches are as real as any model's. The
engine simulator reads the same folder, so that both cut prompts into the same tokens. Sizes are those of
`templates/models/tiny-random-llama.yaml`; the weights are the same on every machine.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.e2e.realengines.cache import engines_dir, locked, say

__all__ = ["CONTEXT_TOKENS", "tiny_model"]

CONTEXT_TOKENS = 131_072
_VOCABULARY, _HIDDEN, _INNER, _LAYERS = 1024, 128, 256, 2
_HEADS, _KV_HEADS, _HEAD_DIM = 2, 1, 64  # head sizes that vLLM's CPU attention takes: 32, 64, 80, ...
_SEED = 20_261_123
#: A request without max_tokens ends here, not at the end of the context: minutes on a CPU.
_LONGEST_ANSWER = 2048

_END = "<|im_end|>"
_SPECIAL = ("<|endoftext|>", "<|im_start|>", _END)
#: Tokens of their own, as vLLM's Hermes and Qwen3 parsers expect them; ordinary text in an answer.
_MARKS = ("<tool_call>", "</tool_call>", "<think>", "</think>")

_HERE = Path(__file__).parent
_WORDS, _TEMPLATE = _HERE / "words.txt", _HERE / "chat_template.jinja"


def tiny_model() -> Path:
    """The model's folder in the cache; made if it is not there (1 s)."""
    digest = hashlib.sha256()
    for path in (Path(__file__), _WORDS, _TEMPLATE):
        digest.update(path.read_bytes())
    goal = engines_dir() / f"tiny-llama-{digest.hexdigest()[:12]}"
    if goal.is_dir():
        return goal
    with locked(goal):
        if not goal.is_dir():  # another process may have made it while we waited
            partial = goal.with_name(f"{goal.name}.partial")
            _make(partial)
            partial.rename(goal)
            say(f"made the tiny model in {goal}")
    return goal


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "tokenizer_config.json", _tokenizer_config())
    _write(folder / "config.json", _config())
    end = _id_of(_END)
    _write(
        folder / "generation_config.json",
        {"bos_token_id": 0, "eos_token_id": end, "max_new_tokens": _LONGEST_ANSWER},
    )
    (folder / "model.safetensors").write_bytes(_safetensors(dict(_weights(_unsaid(tokenizer)))))


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _id_of(token: str) -> int:
    """Tokens that are added come first, in order."""
    return (*_SPECIAL, *_MARKS).index(token)


def _tokenizer() -> Tokenizer:
    """Byte-level BPE, trained on common words: about three characters of English a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    added = [AddedToken(text, special=True, normalized=False) for text in _SPECIAL]
    added += [AddedToken(text, special=False, normalized=False) for text in _MARKS]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=added,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_training_text(), trainer)
    tokenizer.add_special_tokens(added[: len(_SPECIAL)])
    tokenizer.add_tokens(added[len(_SPECIAL) :])
    return tokenizer


def _training_text() -> Iterator[str]:
    """Every word after a space, earlier ones more often, so that they become tokens first."""
    words = _WORDS.read_text(encoding="utf-8").split()
    for position, word in enumerate(words):
        yield f" {word}" * (len(words) - position)


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT_TOKENS,
        "bos_token": _SPECIAL[0],
        "pad_token": _SPECIAL[0],
        "eos_token": _END,
        "clean_up_tokenization_spaces": False,
        "chat_template": _TEMPLATE.read_text(encoding="utf-8"),
    }


def _config() -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": _VOCABULARY,
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _KV_HEADS,
        "head_dim": _HEAD_DIM,
        "max_position_embeddings": CONTEXT_TOKENS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": _id_of(_END),
    }


def _unsaid(tokenizer: Tokenizer) -> list[int]:
    """Tokens that answers must not hold: special ones, marks, and parts of characters, which make text come late."""
    plain = {*map(chr, range(0x21, 0x7F)), "\u0120"}  # U+0120 is how a byte-level tokenizer writes a space
    words = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    return [
        i for i, word in enumerate(words) if word in (*_SPECIAL, *_MARKS) or not plain.issuperset(word or "")
    ]


def _weights(unsaid: list[int]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    rng = np.random.default_rng(_SEED)

    def random(*shape: int, scale: float = 0.2) -> NDArray[np.float32]:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    def ones() -> NDArray[np.float32]:
        return np.ones(_HIDDEN, dtype=np.float32)

    yield "model.embed_tokens.weight", random(_VOCABULARY, _HIDDEN)
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", ones()
        yield f"{at}.post_attention_layernorm.weight", ones()
        yield f"{at}.self_attn.q_proj.weight", random(_HEADS * _HEAD_DIM, _HIDDEN)
        yield f"{at}.self_attn.k_proj.weight", random(_KV_HEADS * _HEAD_DIM, _HIDDEN)
        yield f"{at}.self_attn.v_proj.weight", random(_KV_HEADS * _HEAD_DIM, _HIDDEN)
        yield f"{at}.self_attn.o_proj.weight", random(_HIDDEN, _HEADS * _HEAD_DIM)
        yield f"{at}.mlp.gate_proj.weight", random(_INNER, _HIDDEN)
        yield f"{at}.mlp.up_proj.weight", random(_INNER, _HIDDEN)
        yield f"{at}.mlp.down_proj.weight", random(_HIDDEN, _INNER)
    yield "model.norm.weight", ones()
    head = random(_VOCABULARY, _HIDDEN)
    head[unsaid] = 0  # never the likeliest: at temperature 0 answers have their full length, in plain text
    yield "lm_head.weight", head


def _safetensors(tensors: Mapping[str, NDArray[np.float32]]) -> bytes:
    """The format of huggingface/safetensors: length of the header, JSON header, data. NumPy knows no bf16."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, tensor in tensors.items():
        # bf16 is the upper half of a float32.
        raw = (tensor.view(np.uint32) >> 16).astype("<u2").tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(data)
