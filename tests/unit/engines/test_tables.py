"""engines.tables, versions, images: the data agrees with itself and with what was recorded of the engine."""

import json
import re
from pathlib import Path

import pytest

from agentic_serving.assets import templates_dir
from agentic_serving.engines.images import image
from agentic_serving.engines.rules import _OPTIONS
from agentic_serving.engines.tables import Family, VersionTable, load_vllm
from agentic_serving.engines.versions import known_versions, resolve
from agentic_serving.errors import Bug

ENGINE = load_vllm()
NEWEST = ENGINE.versions[-1]


def test_the_recorded_parser_is_complete() -> None:
    # vllm 0.33.0: 321 options with --help, which is left out.
    file = json.loads((templates_dir() / "engines" / "vllm-0.33.0-options.json").read_text())
    assert len(file["options"]) == 320
    assert {option.takes for option in NEWEST.options.values()} == {"value", "switch", "list", "optional"}


def test_no_spelling_stands_for_two_options() -> None:
    file = json.loads((templates_dir() / "engines" / "vllm-0.33.0-options.json").read_text())
    names = [name for option in file["options"] for name in option["names"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "gone", ["--swap-space", "--num-lookahead-slots", "--guided-decoding-backend", "--enable-reasoning"]
)
def test_options_that_the_release_dropped_are_unknown(gone: str) -> None:
    assert gone not in NEWEST.options


@pytest.mark.parametrize("name", sorted(ENGINE.adopted))
def test_adopted_options_exist(name: str) -> None:
    assert NEWEST.options[name].name == name


@pytest.mark.parametrize("name", sorted(ENGINE.owned))
def test_owned_options_exist_under_their_canonical_name(name: str) -> None:
    known = {option.name for option in NEWEST.options.values()}
    assert any(n.startswith(name[:-1]) if name.endswith("*") else n == name for n in known)
    assert name not in ENGINE.adopted


@pytest.mark.parametrize("family", ENGINE.families, ids=lambda f: f.pattern)
def test_families_name_parsers_that_exist(family: Family) -> None:
    re.compile(family.pattern)
    for table in ENGINE.versions:
        assert family.tool in table.tool_parsers
        assert family.reasoning is None or family.reasoning in table.reasoning_parsers


@pytest.mark.parametrize(
    ("model", "tool", "reasoning"),
    [
        ("Qwen/Qwen3-32B", "hermes", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", None),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "qwen3_xml", None),
        ("Qwen/Qwen2.5-72B-Instruct", "hermes", None),
        ("openai/gpt-oss-120b", "openai", "openai_gptoss"),
        ("moonshotai/Kimi-K2-Thinking", "kimi_k2", "kimi_k2"),
        ("moonshotai/Kimi-K2-Instruct", "kimi_k2", None),
        ("zai-org/GLM-4.6", "glm45", "glm45"),
    ],
)
def test_well_known_models_get_their_parsers(model: str, tool: str, reasoning: str | None) -> None:
    family = ENGINE.family("/models/weights", model)
    assert family is not None
    assert (family.tool, family.reasoning) == (tool, reasoning)


@pytest.mark.parametrize(
    "model",
    [
        "Qwen/Qwen3-Embedding-8B",
        "Qwen/Qwen2.5-Coder-32B-Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        "tiny",
        "",
    ],
)
def test_models_without_a_known_parser_get_none(model: str) -> None:
    assert ENGINE.family(model) is None


@pytest.mark.parametrize(
    ("version", "table", "reasons"),
    [
        ("0.33.0", "0.33.0", []),
        ("0.33.0+cu130", "0.33.0", []),
        ("0.33.0rc1", "0.33.0", ["UnknownEngineVersion"]),
        ("0.33.1", "0.33.0", ["UnknownEngineVersion"]),
        ("1.0.0", "0.33.0", ["UnknownEngineVersion"]),
        ("0.32.9", "0.32.0", ["UnknownEngineVersion"]),
        ("0.32.0", "0.32.0", []),
        ("0.31.1", None, ["EngineVersionUnsupported"]),
        ("latest", None, ["EngineVersionUnsupported"]),
    ],
)
def test_versions_find_the_nearest_older_table(version: str, table: str | None, reasons: list[str]) -> None:
    resolved = resolve(version)
    assert (resolved.table.version if resolved.table else None) == table
    assert [f.reason for f in resolved.findings] == reasons
    assert all((f.severity == "Error") == (table is None) for f in resolved.findings)


def test_the_default_version_has_a_table() -> None:
    assert ENGINE.default_version in known_versions()


@pytest.mark.parametrize("table", ENGINE.versions, ids=lambda table: table.version)
def test_every_version_has_the_options_that_are_generated(table: VersionTable) -> None:
    """Whichever version a stack names: what we write for it, its own parser takes."""
    missing = [name for name in _OPTIONS if name not in table.options]
    assert missing == []


def test_0_32_cannot_turn_a_switch_off_by_disable() -> None:
    """What users write differs there: `--no-enable-x` is understood by both."""
    (older, newer) = ENGINE.versions
    assert (older.version, newer.version) == ("0.32.0", "0.33.0")
    assert "--disable-prefix-caching" in newer.options
    assert "--disable-prefix-caching" not in older.options
    assert "--no-enable-prefix-caching" in older.options
    only_newer = {o.name for o in newer.options.values()} - {o.name for o in older.options.values()}
    assert only_newer == {
        "--monokernel",
        "--reasoning-effort-map",
        "--sleep-mode-backend",
        "--watchdog-config",
    }


@pytest.mark.parametrize("variant", ["cuda", "rocm", "cpu"])
def test_every_variant_has_an_image_of_the_wanted_version(variant: str) -> None:
    assert image("vllm", variant, version="0.33.0").endswith(":v0.33.0")
    assert variant in NEWEST.packages
    assert variant in NEWEST.max_num_seqs


def test_images_that_are_not_in_the_table_are_our_mistake() -> None:
    with pytest.raises(Bug, match="has no vllm for tpu"):
        image("vllm", "tpu", version="0.33.0")
    with pytest.raises(Bug, match="needs a version"):
        image("vllm", "cuda")
    assert image("vllm", "cuda", version="0.33.0+cu130").endswith(":v0.33.0-cu130")


def test_a_damaged_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "vllm.yaml").write_text("default: 1\n")
    monkeypatch.setattr("agentic_serving.engines.tables.templates_dir", lambda: tmp_path)
    with pytest.raises(Bug, match="templates/engines"):
        load_vllm.__wrapped__()
