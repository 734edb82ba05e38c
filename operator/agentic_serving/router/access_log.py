"""Envoy's access log over gRPC: what became of each call, with the tokens that its answer reported.

It is best effort: an entry that is lost costs the measured usage of a call, nothing else, as the end of a call is the
end of its own stream (`processor`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry, ResponseFlags
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from google.protobuf.struct_pb2 import Struct

from agentic_serving.router.words import Usage

__all__ = ["POD_METADATA", "USAGE_METADATA", "AccessLog", "usage_of", "usages"]

#: The namespace that Envoy's usage filters write to (`render/envoy_filters.py`).
USAGE_METADATA = "usage"
#: The namespace in which Envoy keeps the pod that answered (`render/envoy_picking.py`).
POD_METADATA = "agentic-serving.pod"

#: Why Envoy says that an answer broke off, by whichever side. The others refuse a request before there is an answer.
_BROKEN = (
    "local_reset",
    "upstream_remote_reset",
    "upstream_connection_termination",
    "downstream_connection_termination",
    "downstream_remote_reset",
    "upstream_request_timeout",
    "stream_idle_timeout",
    "duration_timeout",
    "upstream_max_stream_duration_reached",
    "downstream_protocol_error",
    "upstream_protocol_error",
)

Context = grpc.aio.ServicerContext[StreamAccessLogsMessage, StreamAccessLogsResponse]


@dataclass(frozen=True, slots=True)
class AccessLog:
    """The service `envoy.service.accesslog.v3.AccessLogService`.

    Attributes:
        hear: takes each entry; must not raise.
        mishap: takes an exception with the part that it happened in.
    """

    hear: Callable[[Usage], None]
    mishap: Callable[[str, Exception], None]

    async def stream(self, _requests: object, context: Context) -> StreamAccessLogsResponse:
        """One of Envoy's threads, as long as it lives."""
        while isinstance(message := await context.read(), StreamAccessLogsMessage):
            try:
                for usage in usages(message):
                    self.hear(usage)
            except Exception as error:  # noqa: BLE001 - the log must go on: Envoy would connect again and again
                self.mishap("access_log", error)
        return StreamAccessLogsResponse()


def usages(message: StreamAccessLogsMessage) -> Iterator[Usage]:
    """What a message says of the calls that have an id."""
    for entry in message.http_logs.log_entry:
        if entry.request.request_id:
            yield usage_of(entry)


def usage_of(entry: HTTPAccessLogEntry) -> Usage:
    common = entry.common_properties
    fields = common.metadata.filter_metadata.get(USAGE_METADATA, Struct())
    pod = common.metadata.filter_metadata.get(POD_METADATA, Struct()).fields
    return Usage(
        call_id=entry.request.request_id,
        endpoint=pod["pod"].string_value if "pod" in pod else "",
        status=entry.response.response_code.value,
        aborted=_broken(common.response_flags),
        prompt_tokens=_count(fields, "prompt_tokens"),
        cached_tokens=_count(fields, "cached_tokens"),
        output_tokens=_count(fields, "completion_tokens"),
    )


def _broken(flags: ResponseFlags) -> bool:
    return any(getattr(flags, name) for name in _BROKEN)


def _count(fields: Struct, key: str) -> int | None:
    """A whole number that is not negative; an engine that says something else says nothing."""
    if key not in fields.fields:
        return None
    value = fields.fields[key]
    if value.WhichOneof("kind") != "number_value" or not 0 <= value.number_value < 2**53:
        return None
    return int(value.number_value)
