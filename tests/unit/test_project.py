"""The project's own promises: the source root shadows nothing, generated files are current, commands exist."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from agentic_serving import __version__
from agentic_serving.engines.images import image

ROOT = Path(__file__).parents[2]


def test_the_source_root_shadows_no_standard_module() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    top = {p.stem for p in (ROOT / "operator").iterdir() if not p.name.startswith((".", "__"))}
    assert not top & sys.stdlib_module_names


def test_the_version_is_said_once() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__


@pytest.mark.parametrize("script", ["deploy/generate.py", "operator/agentic_serving/api/generate.py"])
def test_generated_files_are_up_to_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_names_only_targets_and_files_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", readme, re.MULTILINE)) <= targets
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", readme) if not link.startswith("http")]
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert "make demo" in readme
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_documents_link_only_to_what_exists() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in (ROOT / "docs").rglob("*.md")
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert broken == []


def test_the_one_file_install_is_what_kustomize_would_build() -> None:
    """Resource by resource: what the base lists, in any order, in the namespace that it sets."""
    base = ROOT / "deploy" / "base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())
    built = []
    for name in listed["resources"]:
        path = base / name
        files = (
            [path]
            if path.is_file()
            else [path / f for f in yaml.safe_load((path / "kustomization.yaml").read_text())["resources"]]
        )
        built += [d for f in files for d in yaml.safe_load_all(f.read_text())]
    installed = list(yaml.safe_load_all((ROOT / "deploy" / "install.yaml").read_text()))
    key = lambda d: (d["kind"], d["metadata"]["name"])  # noqa: E731 (one use, one line)
    assert sorted(installed, key=key) == sorted(built, key=key)
    namespaced = [
        d
        for d in installed
        if d["kind"] not in ("Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding")
    ]
    assert {d["metadata"]["namespace"] for d in namespaced} == {listed["namespace"]}


def test_program_schedulers_run_from_the_operators_own_image() -> None:
    pod = yaml.safe_load((ROOT / "deploy/base/deployment.yaml").read_text())["spec"]["template"]["spec"]
    (operator,) = pod["containers"]
    (given,) = [one["value"] for one in operator["env"] if one["name"] == "AGENTIC_SERVING_SCHEDULER_IMAGE"]
    assert operator["image"] == given == image("scheduler")


def test_the_operator_asks_for_no_wildcard_and_no_secrets() -> None:
    module = runpy.run_path(str(ROOT / "deploy" / "generate.py"))
    rules = [r for d in (*module["base_rbac"](), *module["namespaced_rbac"]()) for r in d.get("rules", [])]
    assert not any("*" in part for r in rules for part in (*r["apiGroups"], *r["resources"], *r["verbs"]))
    assert not any("secrets" in r["resources"] for r in rules)


def test_the_package_is_importable_as_the_operator_starts_it() -> None:
    """The standard library's `operator` stays what it is beside ours."""
    code = "import operator, agentic_serving.controller.main; assert operator.eq(1, 1)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(ROOT / "operator")}, cwd="/"
    )
