"""engines.options: arguments are read as vLLM's own parser reads them, and what it would refuse is found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.engines.options import check, parse
from agentic_serving.engines.tables import load_vllm

TABLE = load_vllm().versions[-1]


@pytest.mark.parametrize(
    ("args", "name", "values"),
    [
        (["--tensor-parallel-size=4"], "--tensor-parallel-size", ("4",)),
        (["--tensor-parallel-size", "4"], "--tensor-parallel-size", ("4",)),
        (["--tensor_parallel_size=4"], "--tensor-parallel-size", ("4",)),
        (["-tp", "4"], "--tensor-parallel-size", ("4",)),
        (["-tp=4"], "--tensor-parallel-size", ("4",)),
        (["--kv-transfer-config.kv_role=kv_both"], "--kv-transfer-config", ("kv_both",)),
        (["--kv_transfer_config.kv_connector_extra_config.a", "1"], "--kv-transfer-config", ("1",)),
        (["-cc.mode=3"], "--compilation-config", ("3",)),
        (["-O3"], "--optimization-level", ("3",)),
        (["-O", "1"], "--optimization-level", ("1",)),
        (["-O=2"], "--optimization-level", ("2",)),
        (["--served-model-name", "a", "b"], "--served-model-name", ("a", "b")),
        (["--seed", "-1"], "--seed", ("-1",)),
        (["--hf-token"], "--hf-token", ()),
        (["--device-memory-utilization=0.8"], "--gpu-memory-utilization", ("0.8",)),
        (["--served-model-name=-x --port=1"], "--served-model-name", ("-x --port=1",)),
    ],
    ids=str,
)
def test_every_spelling_is_one_option(args: list[str], name: str, values: tuple[str, ...]) -> None:
    (argument,) = parse(args, TABLE)
    assert (argument.name, argument.values, argument.problem) == (name, values, None)
    assert argument.last == len(args) - 1


@pytest.mark.parametrize(
    ("spelling", "negated"),
    [
        ("--enable-prefix-caching", False),
        ("--disable-prefix-caching", True),
        ("--no-enable-prefix-caching", True),
        ("--no_enable_prefix_caching", True),
        ("--disable-hybrid-kv-cache-manager", False),
        ("--enable-hybrid-kv-cache-manager", True),
        ("--no-disable-hybrid-kv-cache-manager", True),
        ("--no-enforce-eager", True),
    ],
)
def test_switches_know_whether_they_are_off(spelling: str, *, negated: bool) -> None:
    (argument,) = parse([spelling], TABLE)
    assert argument.option is not None
    assert argument.negated is negated


@pytest.mark.parametrize(
    ("args", "index", "reason", "says"),
    [
        (["--tensor-par=2"], 0, "UnknownArgument", "--tensor-parallel-size"),
        (["--max-num-seq=2"], 0, "UnknownArgument", "--max-num-seqs"),
        (["--swap-space=4"], 0, "UnknownArgument", "no option --swap-space"),
        (["--guided-decoding-backend=x"], 0, "UnknownArgument", "no option"),
        (["--seed=1", "stray"], 1, "MalformedArgument", "belongs to no option"),
        (["--"], 0, "MalformedArgument", "belongs to no option"),
        (["--seed 4"], 0, "MalformedArgument", "two elements"),
        (["--seed"], 0, "MalformedArgument", "needs a value"),
        (["--seed", "--enforce-eager"], 0, "MalformedArgument", "needs a value"),
        (["--enforce-eager=true"], 0, "MalformedArgument", "takes no value"),
        (["--seed.a=1"], 0, "MalformedArgument", "no JSON"),
        (["--dtype=bfloat"], 0, "InvalidArgument", "bfloat16"),
        (["--kv-offloading-backend=disk"], 0, "InvalidArgument", "lmcache, native"),
        (["--tool-call-parser=qwen3"], 0, "UnknownParser", "qwen3_xml"),
        (["--reasoning-parser=openai"], 0, "UnknownParser", "openai_gptoss"),
        (["--seed=1", "--enforce-eager", "--seed", "2"], 2, "DuplicateArgument", "spec.engine.args[0]"),
        (["--data-parallel-size=2", "-dp", "2"], 1, "DuplicateArgument", "twice"),
        (["--enable-eplb", "--disable-eplb"], 1, "DuplicateArgument", "twice"),
    ],
    ids=str,
)
def test_what_the_engine_would_refuse_is_found(args: list[str], index: int, reason: str, says: str) -> None:
    (finding,) = check(args, TABLE)
    assert (finding.path, finding.reason) == (f"spec.engine.args[{index}]", reason)
    assert says in finding.message


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--kv-cache-dtype=fp8", "--gpu-memory-utilization", "0.85", "--enforce-eager", "-q", "fp8"],
        ["--middleware=a", "--middleware=b"],
        ["--reasoning-config.a=1", "--reasoning-config.b=2"],
        ["--tool-parser-plugin=/x.py", "--tool-call-parser=mine"],
        ['--limit-mm-per-prompt={"image": 2}'],
    ],
    ids=str,
)
def test_what_the_engine_takes_is_left_alone(args: list[str]) -> None:
    assert check(args, TABLE) == []


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_text_is_read_whole_and_in_order(args: list[str]) -> None:
    arguments = parse(args, TABLE)
    covered = [i for a in arguments for i in range(a.index, a.last + 1)]
    assert covered == list(range(len(args)))
    check(args, TABLE)
