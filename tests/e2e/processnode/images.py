"""Which local program a container image stands for. One table, read from the data of the operator and its examples.

Nothing is pulled. An image is known by its repository; its tag must name the release of the program that runs here, as
another one would behave differently. `engine` chooses what vLLM's images run: the simulator or the real vLLM.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import yaml

from tests.e2e.localcluster import tools

__all__ = ["TEST_IMAGE", "Engine", "Images", "Program", "UnknownImage"]

Engine = Literal["sim", "vllm"]

#: An image with a shell and the machine's programs, for tests of the process node itself.
TEST_IMAGE = "localhost/processnode-tests:1"

_ROOT = Path(__file__).parents[3]
_HERE = Path(__file__).parent
#: Built by others, as they are not on Go's module proxy; taken by path.
_LLMD_SIM = "ghcr.io/llm-d/llm-d-inference-sim"
#: For programs of this checkout: they run as it is, whatever the image's tag.
_CHECKOUT: Mapping[str, str] = {
    "AGENTIC_PYTHON": sys.executable,
    "PYTHONPATH": str(_ROOT / "operator"),
    "PYTHONDONTWRITEBYTECODE": "1",
}


class UnknownImage(LookupError):
    """No local program stands for an image; the message names it and says what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What an image holds, as far as a pod can tell."""

    entrypoint: tuple[str, ...]  # a container's `command` replaces it; empty: the container must have one
    path: tuple[Path, ...] = ()  # folders that come first on PATH
    env: Mapping[str, str] = field(default_factory=dict)  # below the container's own


# Given the image's tag; called when a container of the image starts, as it may have to build something.
_Make = Callable[[str], Program]


class Images:
    """The table of one process node."""

    def __init__(self, engine: Engine = "sim", *, venv: Path | None = None) -> None:
        """
        Args:
            venv: the environment with the real vLLM and LMCache; made when first needed if not given.
        """
        self._engine = engine
        self._venv = venv

    def resolve(self, image: str) -> Program:
        """The program of an image such as `docker.io/envoyproxy/envoy:distroless-v1.40.0`.

        Raises:
            UnknownImage: none stands for it, or the one here is of another release.
            gomod.BuildFailed, realengines.InstallFailed: it cannot be had.
        """
        repository, tag = _split(image)
        make = self._table.get(repository)
        if make is None:
            known = ", ".join(sorted(self._table))
            raise UnknownImage(
                f"no local program for image {image!r}; known in tests/e2e/processnode/images.py: {known}"
            )
        return make(tag)

    @cached_property
    def _table(self) -> Mapping[str, _Make]:
        table: dict[str, _Make] = {}
        images = _yaml(_ROOT / "templates" / "images.yaml")
        for component in ("tokenizer", "vllm"):  # vllm last: its variant says which packages are in the image
            for variant, entry in images[component].items():
                table[_split(entry["image"])[0]] = partial(self._vllm, variant)
        for image in _example_engines():
            table[_split(image)[0]] = partial(self._vllm, None)
        repository, tag = _split(images["envoy"]["default"]["image"])
        table[repository] = partial(_envoy, tag)
        for release in (_yaml(file) for file in sorted((_ROOT / "templates" / "pickers").glob("*.yaml"))):
            table.update(_picker(release))
        table[_split(images["scheduler"]["default"]["image"])[0]] = lambda _tag: _ours()
        table[_LLMD_SIM] = partial(_given, "AGENTIC_E2E_LLMD_SIM", None)
        table[_split(TEST_IMAGE)[0]] = lambda _tag: Program(entrypoint=())
        return table

    def _vllm(self, variant: str | None, tag: str) -> Program:
        """`variant`: of vLLM's own images; None for a user's, which hold LMCache as well."""
        if self._engine == "vllm":
            return self._real_vllm(tag)
        release = tag.removeprefix("v").partition("-")[0]  # 0.33.0-cu130 is 0.33.0
        lmcache = variant is None or "lmcache" in _packages(release, variant)
        folders = [_HERE / "images-sim" / "vllm"] + [_HERE / "images-sim" / "lmcache"] * lmcache
        env = {**_CHECKOUT, "ENGINESIM_VERSION": release}
        return Program(entrypoint=("vllm", "serve"), path=tuple(folders), env=env)

    def _real_vllm(self, tag: str) -> Program:
        # Late: only who runs the real one pays for its installation.
        from tests.e2e.realengines.install import VLLM, install

        if tag.removeprefix("v") != VLLM:
            raise UnknownImage(
                f"the image's vLLM is {tag}, the one here is v{VLLM}: set spec.engine.version to {VLLM}"
            )
        venv = self._venv or install()
        return Program(entrypoint=("vllm", "serve"), path=(venv / "equipment", venv / "bin"))


def _ours() -> Program:
    return Program(
        entrypoint=("agentic-serving",), path=(_HERE / "images-sim" / "agentic-serving",), env=_CHECKOUT
    )


def _split(image: str) -> tuple[str, str]:
    """Repository and tag. A colon before the last slash belongs to the registry's port."""
    name = image.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "")


def _yaml(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def _packages(release: str, variant: str) -> tuple[str, ...]:
    """Connector packages in vLLM's own images of a release; of the default one where it has no table."""
    data = _yaml(_ROOT / "templates" / "engines" / "vllm.yaml")
    tables = {table["version"]: table for table in data["versions"]}
    return tuple(tables.get(release, tables[data["default"]])["packages"].get(variant, ()))


def _example_engines() -> Iterator[str]:
    """Engine images of the examples' own."""
    for file in sorted((_ROOT / "examples").glob("*/*.yaml")):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            image = ((document or {}).get("spec", {}).get("engine") or {}).get("image")
            if image:
                yield str(image)


def _envoy(release: str, tag: str) -> Program:
    _same_release("Envoy", release, tag)
    # Hot restart uses shared memory of a fixed name, for which several Envoys of one machine would fight.
    return Program(entrypoint=(str(tools.envoy_path()), "--disable-hot-restart"))


def _picker(release: Mapping[str, Any]) -> Iterator[tuple[str, _Make]]:
    repository, tag = _split(release["image"])
    if release["version"] == tools.EPP and release["source"].startswith("sigs.k8s.io/"):
        yield repository, partial(_epp, tag)
    else:
        yield repository, partial(_given, "AGENTIC_E2E_LLMD_EPP", tag)
    if release["sidecar"]:
        repository, tag = _split(release["sidecar"]["image"])
        yield repository, partial(_given, "AGENTIC_E2E_LLMD_SIDECAR", tag)


def _epp(release: str, tag: str) -> Program:
    _same_release("the upstream endpoint picker", release, tag)
    return Program(entrypoint=(str(tools.ensure("epp")),))


def _given(variable: str, release: str | None, tag: str) -> Program:
    """A program that the environment names; whoever built it knows its release."""
    if release is not None:
        _same_release(f"the program of {variable}", release, tag)
    path = os.environ.get(variable)
    if not path:
        raise UnknownImage(f"the image's program is built by others: set {variable} to its path")
    if not os.access(path, os.X_OK):
        raise UnknownImage(f"{variable} names {path}, which cannot be run")
    return Program(entrypoint=(path,))


def _same_release(what: str, here: str, asked: str) -> None:
    if asked != here:
        raise UnknownImage(f"the image asks for {what} {asked or 'without a tag'}, the one here is {here}")
