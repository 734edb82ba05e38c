"""capacity.accelerator: the presets are complete and sourced, names are helpful, files are read strictly."""

from pathlib import Path

import pytest
import yaml

from agentic_serving.api.quantities import parse_bytes
from agentic_serving.assets import templates_dir
from agentic_serving.capacity.accelerator import find_accelerator, load_accelerators
from agentic_serving.errors import InvalidInput

PRESETS = load_accelerators()
NUMBERS = (
    "shared_memory_bytes",
    "devices_per_node",
    "memory_bytes",
    "cpu_request",
    "memory_request",
    "kv_cache_bytes",
    "hbm_bytes_per_s",
    "bf16_flops_per_s",
)


def test_the_presets_that_we_promise_are_there() -> None:
    assert set(PRESETS) == {"amd-mi300x", "cpu", "nvidia-b200", "nvidia-h100", "nvidia-h200"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_has_a_source(name: str) -> None:
    preset = PRESETS[name]
    numbers = {field for field in NUMBERS if getattr(preset, field) is not None}
    assert numbers <= set(preset.sources)
    assert not preset.node_selector or "node_selector" in preset.sources
    assert all(setting.source and setting.reason for setting in (*preset.env, *preset.args))


@pytest.mark.parametrize(
    ("name", "gib"),
    # What PyTorch reports as the device's total, not what is printed on the box.
    [("nvidia-h100", 79.10), ("nvidia-h200", 139.80), ("nvidia-b200", 178.35), ("amd-mi300x", 192.0)],
)
def test_memory_is_what_the_engine_sees(name: str, gib: float) -> None:
    memory = PRESETS[name].memory_bytes
    assert memory is not None
    assert memory / 2**30 == pytest.approx(gib, abs=0.001)


def test_the_cpu_preset_tells_the_engine_the_pool_that_we_size_with() -> None:
    cpu = PRESETS["cpu"]
    told = {setting.name: setting.value for setting in cpu.env}
    assert cpu.kv_cache_bytes == parse_bytes(told["VLLM_CPU_KVCACHE_SPACE"] + "Gi")
    assert cpu.resource_name is None


def test_a_toleration_leaves_out_what_it_does_not_say() -> None:
    (toleration,) = PRESETS["nvidia-h200"].tolerations
    assert toleration.to_dict() == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def test_an_unknown_preset_is_refused_with_the_known_and_the_nearest() -> None:
    with pytest.raises(InvalidInput) as refused:
        find_accelerator("nvidia-h20")
    assert refused.value.field == "spec.accelerator.preset"
    assert "amd-mi300x, cpu, nvidia-b200, nvidia-h100, nvidia-h200" in refused.value.message
    assert "did you mean 'nvidia-h200'?" in refused.value.message


def test_a_name_like_no_other_gets_no_hint() -> None:
    with pytest.raises(InvalidInput, match="no preset 'tpu-v6e'") as refused:
        find_accelerator("tpu-v6e")
    assert "did you mean" not in refused.value.message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"memroyBytes": 1}, "memroyBytes: Extra inputs are not permitted", id="a key we do not know"
        ),
        pytest.param({"memoryBytes": 5}, "memoryBytes", id="a number without its source"),
        pytest.param({"memoryBytes": {"value": 5, "source": ""}}, "memoryBytes.source", id="an empty source"),
        pytest.param(
            {"memoryBytes": {"value": "5", "source": "a" * 20}}, "memoryBytes.value", id="a number as text"
        ),
        pytest.param({"kvCacheBytes": {"value": 5, "source": "a" * 20}}, "CPU takes", id="a pool on a GPU"),
        pytest.param({"vendor": "Acme"}, "vendor", id="a vendor we do not know"),
        pytest.param({"name": "other"}, "the file must have its name", id="another name than its file"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    good = yaml.safe_load((templates_dir() / "accelerators" / "nvidia-h200.yaml").read_text())
    (tmp_path / "nvidia-h200.yaml").write_text(yaml.safe_dump({**good, **change}))
    with pytest.raises(InvalidInput, match=message) as refused:
        load_accelerators(tmp_path)
    assert refused.value.field == "nvidia-h200.yaml"


def test_a_file_that_is_no_yaml_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(InvalidInput, match=r"broken\.yaml: is not YAML"):
        load_accelerators(tmp_path)
