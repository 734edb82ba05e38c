"""router.access_log: what an entry of Envoy's log says of a call."""

import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage
from google.protobuf.json_format import ParseDict

from agentic_serving.render.envoy_filters import USAGE_METADATA as RENDERED
from agentic_serving.render.envoy_picking import POD_METADATA as RENDERED_POD
from agentic_serving.router.access_log import POD_METADATA, USAGE_METADATA, usage_of, usages
from agentic_serving.router.words import Usage

#: Every answer comes over the chain inside Envoy, which says what pod gave it.
WITHIN = {"envoy_internal_address": {"server_listener_name": "picking"}}
POD = {"pod": "10.0.0.7:8000"}


def entry(*, code: int = 200, **common: object) -> HTTPAccessLogEntry:
    written = {
        "common_properties": {"upstream_remote_address": WITHIN, **common},
        "request": {"request_id": "c"},
        "response": {"response_code": code},
    }
    return ParseDict(written, HTTPAccessLogEntry())


def tokens(**fields: object) -> dict[str, object]:
    return {"filter_metadata": {USAGE_METADATA: fields}}


def answered(**fields: object) -> dict[str, object]:
    return {"filter_metadata": {POD_METADATA: POD, USAGE_METADATA: fields}}


@pytest.mark.parametrize(
    ("found", "usage"),
    [
        pytest.param(
            entry(metadata=answered(prompt_tokens=11, completion_tokens=7, cached_tokens=5)),
            Usage(call_id="c", endpoint="10.0.0.7:8000", status=200, prompt_tokens=11, cached_tokens=5, output_tokens=7),
            id="answered",
        ),
        pytest.param(entry(metadata=answered()), Usage(call_id="c", endpoint="10.0.0.7:8000", status=200), id="no-usage"),
        pytest.param(
            entry(code=0, response_flags={"downstream_connection_termination": True}),
            Usage(call_id="c", aborted=True),
            id="client-left",
        ),
        pytest.param(
            entry(metadata=answered(), response_flags={"upstream_connection_termination": True}),
            Usage(call_id="c", endpoint="10.0.0.7:8000", status=200, aborted=True),
            id="engine-died",
        ),
        pytest.param(
            entry(code=503, response_flags={"no_healthy_upstream": True}), Usage(call_id="c", status=503), id="refused"
        ),
        *(
            pytest.param(entry(metadata=tokens(prompt_tokens=odd)), Usage(call_id="c", status=200), id=f"odd-{odd}")
            for odd in (-1, "11", None, True, [], 1e300)
        ),
    ],
)  # fmt: skip
def test_an_entry_says(found: HTTPAccessLogEntry, usage: Usage) -> None:
    assert usage_of(found) == usage


def test_entries_without_an_id_are_of_no_call() -> None:
    message = StreamAccessLogsMessage()
    message.http_logs.log_entry.extend([HTTPAccessLogEntry(), entry()])
    assert [usage.call_id for usage in usages(message)] == ["c"]


def test_usage_is_read_where_the_filters_write_it() -> None:
    assert (USAGE_METADATA, POD_METADATA) == (RENDERED, RENDERED_POD)
