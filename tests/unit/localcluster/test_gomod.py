"""gomod: what is read from other modules' go.mod files, and what ours say."""

from pathlib import Path

import pytest

from tests.e2e.localcluster import gomod

KUBERNETES = """\
module k8s.io/kubernetes

go 1.26.0

require (
	github.com/a/b v1.0.0
	k8s.io/api v0.0.0
)

require (
	github.com/c/d v0.1.0 // indirect
)

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	k8s.io/client-go => ./staging/src/k8s.io/client-go
	github.com/a/b => github.com/fork/b v1.0.1
)
"""


def test_staging_modules_are_those_replaced_by_the_staging_folder() -> None:
    assert gomod.staging_modules(KUBERNETES) == ["k8s.io/api", "k8s.io/client-go"]


def test_a_single_line_replace_is_read_too() -> None:
    assert gomod.staging_modules("replace k8s.io/cri-api => ./staging/src/k8s.io/cri-api\n") == [
        "k8s.io/cri-api"
    ]


def test_every_require_block_is_kept_as_it_is() -> None:
    blocks = gomod.require_blocks(KUBERNETES)
    assert "github.com/a/b v1.0.0" in blocks
    assert "github.com/c/d v0.1.0 // indirect" in blocks
    assert "staging" not in blocks


def test_a_module_file_names_what_it_requires_and_replaces() -> None:
    text = gomod.module_file({"k8s.io/kubernetes": "v1.36.3"}, replaces={"k8s.io/api": "v0.36.3"})
    assert "require k8s.io/kubernetes v1.36.3\n" in text
    assert "replace k8s.io/api => k8s.io/api v0.36.3\n" in text
    assert text.startswith("module ")


def test_without_go_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(gomod.BuildFailed, match=r"https://go\.dev/dl/"):
        gomod.go()
