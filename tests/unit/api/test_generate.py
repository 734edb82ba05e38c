"""api.generate and api.reference: what is committed is what the types say, and staleness is noticed."""

import shutil
from pathlib import Path

import pytest
import yaml

from agentic_serving.api import generate
from agentic_serving.api.conditions import PolicyCondition, ProgramCondition, Reason, StackCondition
from agentic_serving.api.crd import KIND_INFOS, KindInfo, crd, object_schema
from agentic_serving.api.schema import nodes

ROOT = Path(__file__).parents[3]


def test_committed_files_are_up_to_date() -> None:
    assert generate.stale_files(ROOT) == [], "run `make generate`"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "operator/agentic_serving/api").mkdir(parents=True)
    return tmp_path


def test_check_names_what_is_stale_and_writes_nothing(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check", str(checkout)]) == 1
    assert "stale: docs/api.md" in capsys.readouterr().out
    assert not (checkout / "docs").exists()


def test_generating_twice_changes_nothing(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main([str(checkout)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(generate.generated_files())
    assert generate.main([str(checkout)]) == 0
    assert capsys.readouterr().out == ""
    assert generate.main(["--check", str(checkout)]) == 0
    shutil.rmtree(checkout / "crds")
    assert generate.main(["--check", str(checkout)]) == 1


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main([str(tmp_path)])
    assert "is not a checkout" in capsys.readouterr().err


@pytest.mark.parametrize("info", KIND_INFOS.values(), ids=KIND_INFOS)
def test_a_crd_reads_back_as_it_was(info: KindInfo) -> None:
    definition = crd(info.model)
    text = generate.generated_files()[f"crds/{definition['metadata']['name']}.yaml"]
    assert yaml.safe_load(text) == definition
    assert "&id" not in text


def test_the_reference_names_every_field() -> None:
    text = generate.generated_files()["docs/api.md"]
    for info in KIND_INFOS.values():
        for part in ("spec", "status"):
            for path, node in nodes(object_schema(info.model)["properties"][part]):
                name = path.rpartition(".")[2]
                if name and not name.endswith(("[]", "{}")) and "properties" not in node:
                    assert f"`{name}`" in text or f".{name}`" in text, path


def test_the_reference_gives_each_rule_once_with_its_place() -> None:
    text = generate.generated_files()["docs/api.md"]
    assert text.count("name exactly one topology: aggregated or disaggregated") == 1
    assert "- `spec.topology`: name exactly one topology" in text


def test_conditions_are_listed_with_their_reasons() -> None:
    text = generate.generated_files()["docs/conditions.md"]
    for word in (*StackCondition, *ProgramCondition, *PolicyCondition, *Reason):
        assert f"| `{word}` |" in text
