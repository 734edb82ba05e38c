"""workload.read: what the sample traces hold, and how bad ones are refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from agentic_serving.errors import InvalidInput
from agentic_serving.workload import parse, read, totals

TRACES = Path(__file__).parents[2] / "traces"

SESSION: dict[str, Any] = {
    "id": "s",
    "block_size": 64,
    "tool_tokens": 64,
    "system_tokens": 64,
    "requests": [{"t": 0.0, "type": "n", "in": 200, "out": 5, "stop": "end_turn", "hash_runs": [[1, 3]]}],
}
MOONCAKE = {"timestamp": 1500, "input_length": 600, "output_length": 5, "hash_ids": [0, 7]}


def request(**changes: Any) -> dict[str, Any]:
    """The session with its one request changed."""
    return {**SESSION, "requests": [{**SESSION["requests"][0], **changes}]}


def line(value: object) -> bytes:
    return json.dumps(value).encode()


def test_a_claude_code_file_holds_what_its_lines_say() -> None:
    raw = [json.loads(text) for text in (TRACES / "claude_code.jsonl").read_text().splitlines()]
    found = totals(read(TRACES / "claude_code.jsonl"))
    calls = [r for s in raw for r in s["requests"] if r["type"] != "subagent"]
    calls += [r for s in raw for a in s["requests"] if a["type"] == "subagent" for r in a["requests"]]
    assert found.programs == len(raw)
    assert found.turns == len(calls)
    assert found.prompt_tokens == sum(r["in"] for r in calls)
    assert found.output_tokens == sum(r["out"] for r in calls)


def test_a_folder_is_all_its_files() -> None:
    assert totals(read(TRACES)).programs == 14 + 150 + 4


def test_a_zipped_file_is_the_same(tmp_path: Path) -> None:
    zipped = tmp_path / "mooncake.jsonl.gz"
    zipped.write_bytes(gzip.compress((TRACES / "mooncake.jsonl").read_bytes()))
    assert read(zipped) == read(TRACES / "mooncake.jsonl")


def test_mooncake_requests_arrive_as_recorded_and_share_ids_within_the_file() -> None:
    one, two = parse(line(MOONCAKE) + b"\n\n" + line(MOONCAKE), name="log.jsonl")
    assert one.open_loop
    assert one.start_s == 1.5
    assert one.sessions[0].turns[0].runs == ((0, 1), (7, 1))
    assert one.scope == two.scope
    assert one.id != two.id


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"^t\.jsonl: is empty"),
        (line(SESSION) + b"\n{oops\n", r"^t\.jsonl:2: is not JSON"),
        (b"[1]\n", r"^t\.jsonl:1: expected a JSON object, found a list"),
        (b'{"a": 1}\n', r"^t\.jsonl:1: is none of the known formats"),
        (line({**SESSION, "block_size": None}), r"^t\.jsonl:1: block_size: expected a number, found nothing"),
        (line({**SESSION, "requests": []}), r"^t\.jsonl:1: requests: holds no request"),
        (line({**SESSION, "requests": [7]}), r"requests\[0\]: expected a JSON object, found a number"),
        (line(request(**{"in": "x"})), r"^t\.jsonl:1: requests\[0\]: in: expected a number, found a string"),
        (line(request(out=-1)), r"requests\[0\]: out: must be at least 0, found -1"),
        (line(request(hash_runs=[[1, 4]])), r"hash_runs: covers more than the 200 tokens"),
        (line(request(hash_runs=[[1]])), r"hash_runs: expected \[\[first_id, count\]"),
        (line(request(type="subagent")), r"a sub-agent before its parent's first request"),
        (line({**MOONCAKE, "hash_ids": [1]}), r"hash_ids: 1 blocks do not hold 600 tokens"),
        (line({"spans": []}), r"spans: holds no span"),
    ],
)
def test_a_malformed_trace_is_refused_by_file_and_line(data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse(data, name="t.jsonl")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.jsonl: No such file"):
        read(tmp_path / "absent.jsonl")
    with pytest.raises(InvalidInput, match=r"the folder holds no \.json"):
        read(tmp_path)
    torn = tmp_path / "torn.jsonl.gz"
    torn.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(InvalidInput, match=r"torn\.jsonl\.gz: is not whole gzip data"):
        read(torn)
