"""tools: where a program is looked for, and that a failed or half-done build never passes for one."""

from pathlib import Path

import pytest

from tests.e2e.localcluster import gomod, tools


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return tmp_path


def built(name: str) -> Path:
    path = tools.built_path(name)
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_the_cache_follows_xdg_and_is_keyed_by_version(empty_cache: Path) -> None:
    root = empty_cache / "cache" / "agentic-serving" / "bin"
    assert tools.built_path("kwok") == root / f"kwok-{tools.KWOK}" / "kwok"


def test_a_cached_program_is_used_as_it_is() -> None:
    path = built("etcd")
    assert tools.ensure("etcd") == path


def test_envtest_binaries_come_first_for_what_they_have(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    assets = empty_cache / "assets"
    assets.mkdir()
    (assets / "etcd").touch()
    (assets / "kwok").touch()  # envtest has none: this is some other file
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    cached_kwok, cached_kubectl = built("kwok"), built("kubectl")
    assert tools.ensure("etcd") == assets / "etcd"
    assert tools.ensure("kwok") == cached_kwok
    assert tools.ensure("kubectl") == cached_kubectl


def test_a_failed_build_leaves_nothing_that_looks_built(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    """Go is replaced by a program that writes half an output and fails, as a full disk would."""
    fake = empty_cache / "bin" / "go"
    fake.parent.mkdir()
    # The output follows -o, the last option but one.
    fake.write_text(
        '#!/bin/sh\nfor a; do last2=$last; last=$a; done\necho half > "$last2"\necho no space >&2\nexit 1\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    with pytest.raises(gomod.BuildFailed, match="no space"):
        tools.ensure("etcd")
    assert list(tools.built_path("etcd").parent.iterdir()) == []


@pytest.mark.parametrize("name", ["kube-apiserver", "kubectl"])
def test_a_missing_program_is_built_and_then_kept(
    monkeypatch: pytest.MonkeyPatch, empty_cache: Path, name: str
) -> None:
    """Go is replaced by a program that answers `mod download` and counts its builds."""
    fake = empty_cache / "bin" / "go"
    fake.parent.mkdir()
    (empty_cache / "k.mod").write_text("replace k8s.io/api => ./staging/src/k8s.io/api\n")
    (empty_cache / "k.zip").touch()
    fake.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = mod ]; then echo \'{{"GoMod":"{empty_cache}/k.mod","Zip":"{empty_cache}/k.zip"}}\'; exit; fi\n'
        f"cat go.mod >> {empty_cache}/built\n"
        'for a; do last2=$last; last=$a; done\necho program > "$last2"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:/usr/bin:/bin")
    path = tools.ensure(name)
    assert path.read_text() == "program\n"
    assert tools.ensure(name) == path
    go_mod = (empty_cache / "built").read_text()
    assert go_mod.count("module ") == 1  # built once
    assert f"replace k8s.io/api => k8s.io/api v0{tools.KUBERNETES.removeprefix('v1')}" in go_mod
