"""The three command-line clients from the npm registry, in a folder of the cache; nothing global is touched.

The registry is the one npm is configured with. The three packages are pinned and have no dependencies but their own
binaries for each platform, so the folder's name, made of the pins, says what is in it.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.realengines.cache import engines_dir, locked

__all__ = ["PACKAGES", "InstallFailed", "folder", "install"]

#: Package and version -> the command it brings. Raise a version, then look at what it sends (docs/agents.md).
PACKAGES: Mapping[str, tuple[str, str]] = {
    "@anthropic-ai/claude-code": ("2.1.197", "claude"),
    "@openai/codex": ("0.169.0", "codex"),
    "opencode-ai": ("1.18.33", "opencode"),
}
_RECIPE = 1  # raise it when `_make` makes something else of the same packages
#: Measured: 33 s on two shared cores, 1 GB.
_TYPICAL = "about a minute, 1 GB"
_INSTALL_TIMEOUT_S = 900.0
_CHECK_TIMEOUT_S = 60.0


class InstallFailed(RuntimeError):
    """The clients could not be installed; the message ends with what npm or apt said."""


def folder() -> Path:
    """Where these versions are, installed or not: `${XDG_CACHE_HOME:-~/.cache}/agentic-serving/agents-<hash>`."""
    made_of = json.dumps([_RECIPE, sorted(PACKAGES.items())]).encode()
    return engines_dir().parent / f"agents-{hashlib.sha256(made_of).hexdigest()[:12]}"


def install() -> Path:
    """The folder with the commands `claude`, `codex` and `opencode`. The first call takes a minute or so.

    Raises:
        InstallFailed: node, npm or a package could not be had; the next call starts anew.
    """
    goal = folder()
    _need_node()  # also when the packages are there: Codex is started by node
    if not (goal / "ready").is_file():
        with locked(goal):
            if not (goal / "ready").is_file():  # another process may have made it while we waited
                started_s = time.monotonic()
                _say(f"installing {', '.join(_pinned())}, once: {_TYPICAL}")
                _make(goal)
                (goal / "ready").touch()
                _say(f"installed into {goal} in {time.monotonic() - started_s:.0f} s")
    return _commands(goal)


def _pinned() -> list[str]:
    return [f"{name}@{version}" for name, (version, _) in PACKAGES.items()]


def _commands(goal: Path) -> Path:
    return goal / "node_modules" / ".bin"


def _need_node() -> None:
    """Node.js and npm, by Debian's packages where they are missing."""
    if shutil.which("node") and shutil.which("npm"):
        return
    if shutil.which("apt-get") is None:
        raise InstallFailed("Node.js 18 or newer and npm are needed, and there is no apt-get to install them")
    with locked(folder().with_name("nodejs")):
        if shutil.which("node") and shutil.which("npm"):
            return
        _say("installing Debian's nodejs and npm: about a minute")
        _run(["apt-get", "update", "-qq"])
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nodejs", "npm"])


def _make(goal: Path) -> None:
    shutil.rmtree(goal, ignore_errors=True)
    goal.mkdir(parents=True)
    # Two packages put the platform's binary in its place after the download; newer releases of npm want that allowed.
    allowed = dict.fromkeys(PACKAGES, True)
    versions = {name: version for name, (version, _) in PACKAGES.items()}
    manifest = {"private": True, "dependencies": versions, "allowScripts": allowed}
    (goal / "package.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    downloads = goal / "downloads"
    options = ["--ignore-scripts=false", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error"]
    _run(["npm", "install", f"--prefix={goal}", f"--cache={downloads}", *options])
    shutil.rmtree(downloads, ignore_errors=True)
    for version, command in PACKAGES.values():
        said = _run([str(_commands(goal) / command), "--version"], home=goal, timeout_s=_CHECK_TIMEOUT_S)
        if version not in said:
            raise InstallFailed(f"{command} --version says {said.strip()!r}, not {version}")


def _run(command: list[str], *, home: Path | None = None, timeout_s: float = _INSTALL_TIMEOUT_S) -> str:
    env = dict(os.environ)
    if home is not None:
        env["HOME"] = str(home / "home")
        Path(env["HOME"]).mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=env,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallFailed(f"{' '.join(command)} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise InstallFailed(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def _say(text: str) -> None:
    print(f"agents: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(install())
