"""router.config: what is written is what is read, also by programs older or newer than the writer."""

import json

import pytest

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.api.program import HeaderMatch
from agentic_serving.errors import InvalidInput
from agentic_serving.program.policy import Policy
from agentic_serving.router.config import CacheEvents, Config, Program, Valkey

ROUTE = ProgramRoute(
    namespace="ns", name="review", clients=("Codex",), headers=(HeaderMatch(name="x-team", value="blue"),)
)
FULL = Config(
    namespace="ns",
    stack="chat",
    mode="Enforce",
    programs=(Program(route=ROUTE, priority=3, max_hold_s=60.0, completion_s=120.0),),
    picker_headers={"fairness": "x-fair"},
    valkey=Valkey(address="valkey:6379", tls=True),
    cache_events=CacheEvents(port=6000, ranks=2, topic="kv@a", loads=True),
    policy=Policy.for_step(2048),
)


def test_what_is_written_is_read() -> None:
    assert Config.from_json(FULL.to_json()) == FULL


def test_an_older_file_gets_the_defaults_of_what_it_lacks() -> None:
    assert Config.from_json('{"namespace": "ns", "stack": "chat", "mode": "Observe"}').policy == Policy()


def test_a_newer_file_may_say_more_at_every_level() -> None:
    data = json.loads(FULL.to_json())
    for part in (
        data,
        data["policy"],
        data["valkey"],
        data["cache_events"],
        data["programs"][0],
        data["programs"][0]["route"],
    ):
        part["from_the_future"] = 1
    assert Config.from_json(json.dumps(data)) == FULL


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"namespace": 1}', '{"namespace":"a","stack":"b","mode":"Off","policy":{"keep_s":-1}}'],
    ids=["empty", "list", "nothing", "unlike", "impossible-policy"],
)
def test_what_cannot_be_read_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidInput):
        Config.from_json(text)


def test_the_policy_of_the_default_step_is_the_default() -> None:
    assert Policy.for_step(8192) == Policy()
