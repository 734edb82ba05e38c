"""CRDs of other projects, read from the Go module cache and never copied into this repository.

A set can be installed alone: a cluster without one of them is a case the operator must handle.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import gomod

__all__ = ["CRD_SETS", "ModuleCRDs", "crds"]

OWN_CRDS = Path(__file__).parent / "crds"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCRDs:
    """CRD files inside one released module."""

    module: str
    version: str
    files: tuple[str, ...]  # paths in the module


_INFERENCE_EXTENSION = "sigs.k8s.io/gateway-api-inference-extension"

CRD_SETS: dict[str, ModuleCRDs | Path] = {
    "gateway-api": ModuleCRDs(
        module="sigs.k8s.io/gateway-api",
        version="v1.7.0",
        files=tuple(
            f"config/crd/standard/gateway.networking.k8s.io_{kind}.yaml"
            for kind in ("gatewayclasses", "gateways", "httproutes", "referencegrants")
        ),
    ),
    "inference-pool": ModuleCRDs(
        module=_INFERENCE_EXTENSION,
        version="v1.5.0",
        files=("config/crd/bases/inference.networking.k8s.io_inferencepools.yaml",),
    ),
    # With picker release gie-1.5, objectives are of inference.networking.x-k8s.io/v1alpha2 ...
    "gie-objective": ModuleCRDs(
        module=_INFERENCE_EXTENSION,
        version="v1.5.0",
        files=("config/crd/bases/inference.networking.x-k8s.io_inferenceobjectives.yaml",),
    ),
    # ... with llm-d-0.10, of llm-d.ai/v1alpha2, which no module proxy serves.
    "llmd-objective": OWN_CRDS / "llm-d.ai_inferenceobjectives.yaml",
    "pod-monitor": ModuleCRDs(
        module="github.com/prometheus-operator/prometheus-operator",
        version="v0.85.0",
        files=("example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",),
    ),
}


def crds(*names: str) -> list[dict[str, Any]]:
    """The CustomResourceDefinitions of these sets; of every set when none is named.

    Raises:
        KeyError: no such set.
        gomod.BuildFailed: a module cannot be fetched.
    """
    return [crd for name in names or tuple(CRD_SETS) for crd in _read(CRD_SETS[name])]


def _read(source: ModuleCRDs | Path) -> list[dict[str, Any]]:
    if isinstance(source, Path):
        return _documents(source.read_text())
    found = gomod.download(source.module, source.version)
    with zipfile.ZipFile(found.archive) as archive:
        prefix = f"{source.module}@{source.version}/"
        return [crd for file in source.files for crd in _documents(archive.read(prefix + file).decode())]


def _documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]
