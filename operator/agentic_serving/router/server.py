"""The scheduler's gRPC server: external processor, access log and health on one port and one event loop."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import grpc
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from agentic_serving.router.access_log import AccessLog
from agentic_serving.router.delivery import Delivery, Mishaps
from agentic_serving.router.processor import Message, Processor
from agentic_serving.router.wire import message_of
from agentic_serving.router.words import Host, Word

__all__ = ["ACTIVE_SERVICE", "Server", "serve"]

#: Health of the one active scheduler of a stack (`render/envoy_scheduler.py`).
ACTIVE_SERVICE = "active"

#: Twice the longest body that is read (`processor`). A longer one, sent in chunks so that its length is not known before,
#: ends that call's stream: it goes on unseen. So many clients cannot fill the memory by what nobody reads.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: Until the answers to calls that were just let go are written.
STOP_GRACE_S = 1.0

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A body of 400 KB in one flight instead of many frames that each wait for a window.
    ("grpc.http2.max_frame_size", 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    # Envoy pings each second to find a scheduler that hangs; by default the library takes that for an attack.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
    ("grpc.http2.max_ping_strikes", 0),
    (
        "grpc.so_reuseport",
        0,
    ),  # a second scheduler on this port is a mistake, and must not get half of the calls
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs. `port`: where; of interest if any was asked for."""

    port: int
    delivery: Delivery
    _grpc: grpc.aio.Server
    _health: health.HealthServicer

    def deliver(self, words: Iterable[Word]) -> None:
        """Words that the host said to someone else (`Host.pods`), for the calls that they are for."""
        self.delivery.deliver(words)

    async def set_active(self, active: bool) -> None:  # noqa: FBT001 - the only thing it says
        """Whether Envoys ask this scheduler or another. Calls that are held by one that no longer is go on."""
        state = HealthCheckResponse.SERVING if active else HealthCheckResponse.NOT_SERVING
        await self._health.set(ACTIVE_SERVICE, state)
        if not active:
            self.delivery.release_all()

    async def stop(self) -> None:
        """Lets held calls go, ends the streams: Envoy goes on without us."""
        await self._health.enter_graceful_shutdown()
        self.delivery.release_all()
        self.delivery.stop()
        await self._grpc.stop(STOP_GRACE_S)


async def serve(
    host: Host,
    *,
    port: int,
    address: str = "[::]",  # IPv4 too
    clock: Callable[[], float] = time.monotonic,
    count_mishap: Callable[[str], None] = lambda _: None,
    active: bool = True,
) -> Server:
    """Serves until `Server.stop`.

    Args:
        port: 0: any that is free.
        count_mishap: called with `desk`, `processor` or `access_log` for each exception that was kept from a request.
        active: whether Envoys of other pods may ask this scheduler from the start.

    Raises:
        RuntimeError: the port is in use.
    """
    delivery = Delivery(host=host, clock=clock, mishaps=Mishaps(clock=clock, count=count_mishap))
    log = AccessLog(hear=delivery.usage, mishap=delivery.mishaps.add)
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_processor(Processor(delivery)), _access_log(log), _turns(delivery)))
    health_servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    bound = server.add_insecure_port(f"{address}:{port}")
    await server.start()
    found = Server(port=bound, delivery=delivery, _grpc=server, _health=health_servicer)
    await found.set_active(active)
    return found


def _processor(processor: Processor) -> grpc.GenericRpcHandler:
    """Answers are bytes already (`codec`)."""
    handler: grpc.RpcMethodHandler[Message, bytes] = grpc.stream_stream_rpc_method_handler(
        processor.process, request_deserializer=message_of, response_serializer=None
    )
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    return grpc.method_handlers_generic_handler(service, {"Process": handler})


def _access_log(log: AccessLog) -> grpc.GenericRpcHandler:
    handler: grpc.RpcMethodHandler[StreamAccessLogsMessage, StreamAccessLogsResponse] = (
        grpc.stream_unary_rpc_method_handler(
            log.stream,
            request_deserializer=StreamAccessLogsMessage.FromString,
            response_serializer=StreamAccessLogsResponse.SerializeToString,
        )
    )
    service = "envoy.service.accesslog.v3.AccessLogService"
    return grpc.method_handlers_generic_handler(service, {"StreamAccessLogs": handler})


def _turns(delivery: Delivery) -> grpc.GenericRpcHandler:
    """What Envoy tells by a script of its own (`render/envoy_first_token.py`). The message is the call's id as text."""

    async def first_token(call_id: bytes, _context: object) -> bytes:
        delivery.first_token(call_id.decode("latin-1"))
        return b""

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(first_token)
    return grpc.method_handlers_generic_handler("agentic_serving.v1.Turns", {"FirstToken": handler})
