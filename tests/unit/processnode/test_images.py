"""processnode.images: everything that the operator and its examples render has a program, and nothing else has."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from agentic_serving.engines.images import image
from agentic_serving.render.releases import load_release, release_names
from tests.e2e.localcluster import tools
from tests.e2e.processnode.images import TEST_IMAGE, Images, Program, UnknownImage

ROOT = Path(__file__).parents[3]
QUICKSTART = "localhost:5001/vllm-openai-cpu-lmcache:v0.33.0"
GIVEN = ("AGENTIC_E2E_LLMD_EPP", "AGENTIC_E2E_LLMD_SIDECAR", "AGENTIC_E2E_LLMD_SIM")


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GIVEN:
        monkeypatch.delenv(name, raising=False)


def _programs(program: Program) -> set[str]:
    return {name for name in ("vllm", "lmcache") if shutil.which(name, path=":".join(map(str, program.path)))}


@pytest.mark.parametrize(
    ("reference", "programs"),
    [
        (image("vllm", "cuda", version="0.33.0"), {"vllm", "lmcache"}),
        (image("vllm", "cpu", version="0.33.0"), {"vllm"}),
        (image("tokenizer", "cpu", version="0.33.0"), {"vllm"}),
        (QUICKSTART, {"vllm", "lmcache"}),
    ],
    ids=["cuda", "cpu", "tokenizer", "the quick start's own"],
)
def test_engine_images_hold_what_the_real_ones_hold(reference: str, programs: set[str]) -> None:
    program = Images().resolve(reference)
    assert program.entrypoint == ("vllm", "serve")
    assert _programs(program) == programs
    assert program.env["ENGINESIM_VERSION"] == "0.33.0"


def test_the_operators_image_runs_this_checkout() -> None:
    program = Images().resolve(image("scheduler"))
    assert program.entrypoint == ("agentic-serving",)
    path = ":".join(map(str, program.path))
    for name, said in (("agentic-serving", "agentic-serving, version"), ("python", "Python 3")):
        found = shutil.which(name, path=path)
        assert found is not None
        answer = subprocess.run([found, "--version"], env=dict(program.env), capture_output=True, text=True)
        assert answer.stdout.startswith(said), answer.stderr


def test_every_image_of_the_golden_manifests_is_known() -> None:
    images = Images()
    table = images._table
    for file in sorted((ROOT / "tests" / "unit" / "golden").glob("*/*.yaml")):
        for found in _images(list(yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader))):
            repository = found.rpartition(":")[0]
            assert repository in table or found.startswith("registry.example.com/"), f"{found} in {file.name}"


def _images(value: object) -> set[str]:
    if isinstance(value, dict):
        own = {value["image"]} if isinstance(value.get("image"), str) else set()
        return own.union(*map(_images, value.values()))
    return set().union(*map(_images, value)) if isinstance(value, list) else set()


def test_envoy_is_the_real_one() -> None:
    assert Images().resolve(image("envoy")).entrypoint == (str(tools.envoy_path()), "--disable-hot-restart")


def test_pickers_and_sidecar_of_others_are_taken_by_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    release = load_release("llm-d-0.10")
    assert release.sidecar is not None
    for variable, reference in ((GIVEN[0], release.image), (GIVEN[1], release.sidecar.image)):
        with pytest.raises(UnknownImage, match=variable):
            Images().resolve(reference)
        program = tmp_path / variable
        program.touch()
        monkeypatch.setenv(variable, str(program))
        with pytest.raises(UnknownImage, match="cannot be run"):
            Images().resolve(reference)
        program.chmod(stat.S_IRWXU)
        assert Images().resolve(reference).entrypoint == (str(program),)


def test_every_picker_release_is_in_the_table() -> None:
    for name in release_names():
        assert load_release(name).image.rpartition(":")[0] in Images()._table


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("docker.io/library/nginx:1", "no local program for image 'docker.io/library/nginx:1'"),
        ("localhost:5001/nginx", "no local program for image 'localhost:5001/nginx'"),
        (
            "docker.io/envoyproxy/envoy:distroless-v1.39.0",
            r"distroless-v1\.39\.0, the one here is distroless-v1\.40\.0",
        ),
        ("docker.io/envoyproxy/envoy", "without a tag"),
        ("registry.k8s.io/gateway-api-inference-extension/epp:v1.4.0", r"v1\.4\.0, the one here is v1\.5\.0"),
    ],
    ids=["unknown", "port, no tag", "other release", "no tag", "other picker"],
)
def test_others_are_refused_by_name(reference: str, told: str) -> None:
    with pytest.raises(UnknownImage, match=told):
        Images().resolve(reference)


def test_the_real_engine_must_be_of_the_images_release() -> None:
    with pytest.raises(UnknownImage, match=r"set spec\.engine\.version"):
        Images("vllm", venv=Path("/nowhere")).resolve("docker.io/vllm/vllm-openai-cpu:v0.1.0")


def test_the_test_image_has_no_entrypoint() -> None:
    assert Images().resolve(TEST_IMAGE) == Program(entrypoint=())
