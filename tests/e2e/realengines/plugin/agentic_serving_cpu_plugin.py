"""A general plugin of vLLM that lets KV transfer over NIXL run without a GPU. Test equipment.

Does nothing unless the process is one of a prefill/decode pair (VLLM_NIXL_SIDE_CHANNEL_HOST is set) and there is no
GPU. Then:

- `torch.accelerator.current_device_index` answers 0 instead of failing;
- no core is pinned, and NIXL starts no progress thread: both starve machines of two cores.
"""

import functools
import os

__all__ = ["register"]


def register() -> None:
    """Called by vLLM in each of its processes before anything else."""
    if "VLLM_NIXL_SIDE_CHANNEL_HOST" not in os.environ:
        return
    import torch  # type: ignore[import-not-found,unused-ignore] # in the engines' environment only

    if torch.cuda.is_available():
        return
    torch.accelerator.current_device_index = lambda: 0
    _pin_no_core()
    _start_no_progress_thread()


def _pin_no_core() -> None:
    from vllm.platforms.cpu import CpuPlatform  # type: ignore[import-not-found,unused-ignore] # in the engines' environment only

    CpuPlatform.discover_numa_topology = classmethod(lambda _: [])


def _start_no_progress_thread() -> None:
    try:
        from nixl import _api  # type: ignore[import-not-found,unused-ignore] # in the engines' environment only
    except ImportError:
        return
    _api.nixl_agent_config = functools.partial(_api.nixl_agent_config, enable_prog_thread=False)
