"""router.wire: a body is what protobuf's own reader finds, or it is left to that."""

from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from agentic_serving.router.wire import Body, body_of, message_of


def _message(body: bytes, *, ended: bool, attribute: str = "") -> pb.ProcessingRequest:
    made = pb.ProcessingRequest(request_body=pb.HttpBody(body=body, end_of_stream=ended))
    if attribute:
        made.attributes["envoy.filters.http.ext_proc"].update({"name": attribute})
        made.metadata_context.filter_metadata["a"].update({"b": 1})
    return made


@given(st.binary(max_size=300), st.booleans(), st.text(max_size=200))
def test_a_body_is_what_protobuf_finds(body: bytes, ended: bool, attribute: str) -> None:
    sent = _message(body, ended=ended, attribute=attribute).SerializeToString()
    assert body_of(sent) == Body(body, ended)


def test_a_large_body_comes_whole() -> None:
    body = bytes(range(256)) * 2_000
    assert body_of(_message(body, ended=True).SerializeToString()) == Body(body, ended=True)


def test_other_messages_are_left_to_protobuf() -> None:
    others = (
        pb.ProcessingRequest(request_headers=pb.HttpHeaders(end_of_stream=True)),
        pb.ProcessingRequest(response_body=pb.HttpBody(body=b"x")),
        pb.ProcessingRequest(response_trailers=pb.HttpTrailers()),
        pb.ProcessingRequest(),
    )
    assert [body_of(one.SerializeToString()) for one in others] == [None] * len(others)


def test_a_body_in_two_parts_is_left_to_protobuf() -> None:
    """Which joins them, as the format has it; nobody writes so."""
    first, second = (_message(body, ended=False).SerializeToString() for body in (b"x", b"y"))
    assert body_of(first + second) is None
    assert message_of(first + second) == Body(b"y", ended=False)


@given(st.binary(max_size=64))
def test_whatever_comes_nothing_raises(message: bytes) -> None:
    body_of(message)


@given(st.binary(max_size=64), st.data())
def test_what_is_cut_off_is_no_body(body: bytes, data: st.DataObject) -> None:
    sent = _message(body, ended=True).SerializeToString()
    cut = sent[: data.draw(st.integers(0, len(sent) - 1))]
    assert body_of(cut) is None
