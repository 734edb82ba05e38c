"""Python's collector and the C library's allocator, as a process with large bodies and many sessions needs them."""

import ctypes
import gc

__all__ = ["keep_heap", "spare_old_objects"]

#: Objects made since the last look before the youngest are looked at, and how often the next older ones are. Never all of
#: them: with 2.4 million containers, as of some 100,000 sessions, one look at everything takes 0.5 s of CPU in which no
#: call is answered; at 50,000 young ones 1.4 ms, at 50 times as many 145 ms (CPython 3.11, one run). Cycles hardly arise.
_GC = (50_000, 50, 1_000_000)

#: glibc's malloc.h. A body of 400 KB is above the first limit for a mapping of its own, so each of its copies was mapped,
#: faulted in page by page, and given back: 100,000 faults in 500 calls, 10,000 with these, and a quarter of gRPC's CPU.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LIMITS = {
    _M_MMAP_THRESHOLD: 32 << 20,  # the most that glibc takes
    _M_TRIM_THRESHOLD: 64 << 20,
    _M_TOP_PAD: 16 << 20,
}


def keep_heap() -> bool:
    """Memory that was used once is kept for the next body, up to 64 MiB of it; False where the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in _LIMITS.items())


def spare_old_objects() -> None:
    """What is there now is never looked at again, and what comes later seldom."""
    gc.freeze()
    gc.set_threshold(*_GC)
