"""What is measured, as processes: `python -m benchmarks.overhead.schedulers ours|no-op GRPC_PORT ENGINE_PORT FOLDER`.

`ours` is the scheduler's own process with everything it does, but for the API server, which is one in memory: two pods,
whose engine's page is scraped. `no-op` is an external processor in the same library that lets everything go unread.
"""

import asyncio
import sys
from pathlib import Path
from random import Random

import grpc
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

from agentic_serving.api.matching import ProgramRoute
from agentic_serving.clock import SystemClock
from agentic_serving.cluster import kinds
from agentic_serving.cluster.fake import FakeCluster
from agentic_serving.names import ROLE_LABEL
from agentic_serving.router import main
from agentic_serving.router.codec import CONTINUE_BODY, CONTINUE_HEADERS
from agentic_serving.router.config import Config, Program
from agentic_serving.router.server import _OPTIONS
from agentic_serving.router.settings import SchedulerSettings

CODER = ProgramRoute(namespace="ns", name="coder", clients=("ClaudeCode",))
HOSTS = ("127.0.0.2", "127.0.0.3")


async def ours(grpc_port: int, engine_port: int, folder: Path) -> None:
    labels = {"app": "engine"}
    config = Config(
        namespace="ns",
        stack="chat",
        mode="Enforce",
        programs=(Program(route=CODER),),
        pod_labels=labels,
        engine_port=engine_port,
    )
    file = folder / "scheduler.json"
    file.write_text(config.to_json())
    cluster = FakeCluster()
    for index, host in enumerate(HOSTS):
        cluster.seed(kinds.POD, _pod(f"engine-{index}", host, {**labels, ROLE_LABEL: "aggregated"}))
    settings = SchedulerSettings(config=str(file), grpc_port=grpc_port, http_port=0, log_level="WARNING")
    await main.run(settings, clock=SystemClock(), rng=Random(1), cluster=cluster)  # noqa: S311 - jitter, no secret


async def no_op(grpc_port: int) -> None:
    async def process(_: object, context: grpc.aio.ServicerContext[pb.ProcessingRequest, bytes]) -> None:
        while isinstance(request := await context.read(), pb.ProcessingRequest):
            headers = request.WhichOneof("request") == "request_headers"
            await context.write(CONTINUE_HEADERS if headers else CONTINUE_BODY)

    handler = grpc.stream_stream_rpc_method_handler(
        process, request_deserializer=pb.ProcessingRequest.FromString, response_serializer=None
    )
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Process": handler})])
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await server.start()
    await server.wait_for_termination()


def _pod(name: str, address: str, labels: dict[str, str]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns", "labels": labels},
        "spec": {"containers": [{"name": "engine", "image": "process"}]},
        "status": {"podIP": address, "conditions": [{"type": "Ready", "status": "True"}]},
    }


if __name__ == "__main__":
    which, grpc_port, engine_port, folder = sys.argv[1:]
    running = (
        ours(int(grpc_port), int(engine_port), Path(folder)) if which == "ours" else no_op(int(grpc_port))
    )
    asyncio.run(running)
