"""What we ask of the Go tool: fetch a module, write a module file, build one program.

`go install pkg@version` refuses modules with replace directives (Kubernetes, etcd), so each program is
built from a small go.mod of our own.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BuildFailed", "Module", "build", "download", "module_file", "require_blocks", "staging_modules"]

# The `go` line of our module files: what k8s.io/kubernetes v1.36 needs at least.
GO_LINE = "go 1.26.0"


class BuildFailed(RuntimeError):
    """A tool could not be fetched or compiled; the message ends with what Go said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One module in Go's download cache; both files have been checked against the checksum database."""

    go_mod: Path
    archive: Path  # a zip whose members start with `path@version/`


def download(path: str, version: str) -> Module:
    """Fetch a module through Go's proxy (cached by Go).

    Only the archive is used, never the unpacked folder: Go does not unpack a module that asks for a
    newer Go than the one installed, and we only read data from it.

    Raises:
        BuildFailed: the proxy does not have it, cannot be reached, or Go is missing.
    """
    with tempfile.TemporaryDirectory(prefix="agentic-gomod-") as empty:
        done = subprocess.run(
            [go(), "mod", "download", "-json", f"{path}@{version}"],
            cwd=empty, env=_environment(), check=False, capture_output=True, text=True,
        )  # fmt: skip
    found = json.loads(done.stdout or "{}")
    if not found.get("Zip") or not Path(found["Zip"]).is_file():
        raise BuildFailed(f"cannot fetch {path}@{version}: {found.get('Error') or done.stderr.strip()}")
    return Module(go_mod=Path(found["GoMod"]), archive=Path(found["Zip"]))


def go() -> str:
    """Path of the Go tool.

    Raises:
        BuildFailed: none is on PATH.
    """
    found = shutil.which("go")
    if found is None:
        raise BuildFailed("Go is not on PATH: install Go 1.26 or newer from https://go.dev/dl/, or set KUBECONFIG "
                          "of a running cluster in AGENTIC_E2E_KUBECONFIG")  # fmt: skip
    return found


def module_file(
    requires: Mapping[str, str], *, replaces: Mapping[str, str] | None = None, blocks: str = ""
) -> str:
    """Text of a go.mod that requires and replaces these (module to version); `blocks` is added as it is."""
    lines = ["module agentic.example/build", "", GO_LINE, ""]
    lines += [f"require {path} {version}" for path, version in requires.items()]
    lines += [f"replace {path} => {path} {version}" for path, version in (replaces or {}).items()]
    return "\n".join([*lines, "", blocks])


def staging_modules(go_mod: str) -> list[str]:
    """Modules that Kubernetes's own go.mod maps to its ./staging folder (33 in v1.36)."""
    return re.findall(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/", go_mod, flags=re.MULTILINE)


def require_blocks(go_mod: str) -> str:
    """The `require ( ... )` blocks of a go.mod, unchanged, so that no version moves when we build it."""
    return "\n".join(re.findall(r"^require \(.*?^\)", go_mod, flags=re.MULTILINE | re.DOTALL))


def build(package: str, *, go_mod: str, ldflags: Sequence[str], output: Path) -> None:
    """Compile one program, statically and without paths of this machine in it.

    Raises:
        BuildFailed: Go refused; the message ends with the last lines it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="agentic-gobuild-") as folder:
        (Path(folder) / "go.mod").write_text(go_mod)
        command = ["nice", "-n", "5", go(), "build", "-mod=mod", "-trimpath", "-ldflags", " ".join(ldflags)]
        done = subprocess.run(
            [*command, "-o", str(output), package],
            cwd=folder, env=_environment(), check=False, capture_output=True, text=True,
        )  # fmt: skip
    if done.returncode != 0:
        raise BuildFailed(f"building {package} failed:\n{done.stderr[-2000:]}")


def _environment() -> dict[str, str]:
    # GOFLAGS and GOWORK of the caller's own Go projects must not steer these builds.
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
