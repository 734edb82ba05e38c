"""Chained block hashes.

As in vLLM a block's hash covers its parent's hash, its tokens and, for the first block, the request's cache salt, so
equal hashes mean equal prefixes. The bytes are not vLLM's (it hashes a pickle or CBOR of the same parts): pickers
compute keys of their own from the token ids in the events. `--prefix-caching-hash-algo` chooses SHA-256 or, for
the xxhash names, BLAKE2b of 16 bytes.
"""

import hashlib
from array import array
from collections.abc import Callable, Sequence

__all__ = ["block_hashes", "public_hash"]

_SEED = hashlib.sha256(b"agentic-serving enginesim").digest()


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _blake2b(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _function(algorithm: str) -> Callable[[bytes], bytes]:
    return _blake2b if algorithm.startswith("xxhash") else _sha256


def block_hashes(
    ids: Sequence[int], block_tokens: int, *, algorithm: str = "sha256", salt: str = ""
) -> list[bytes]:
    """Hashes of the full blocks of `ids`, in order."""
    function = _function(algorithm)
    data = array("q", ids).tobytes()
    width = 8 * block_tokens
    parent = function(_SEED + salt.encode()) if salt else _SEED
    found: list[bytes] = []
    for start in range(0, len(data) - width + 1, width):
        parent = function(parent + data[start : start + width])
        found.append(parent)
    return found


def public_hash(digest: bytes, *, as_int: bool) -> int | bytes:
    """As events carry it: the low 64 bits as an integer, unless VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES is 0."""
    return int.from_bytes(digest[-8:], "big") if as_int else digest
