"""An engine stand-in: answers every POST with what arrived, and scrapes with vLLM's metric names."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["DELAY", "PAUSE", "STATUS", "Echo", "echo"]

#: What the pickers scrape (llm-d-router v0.10.0, extractor/metrics/factories.go): an idle engine of 1,000 blocks of 16.
METRICS = """\
vllm:num_requests_waiting{model_name="m"} 0
vllm:num_requests_running{model_name="m"} 0
vllm:kv_cache_usage_perc{model_name="m"} 0
vllm:lora_requests_info{max_lora="0",running_lora_adapters="",waiting_lora_adapters=""} 1
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1
"""
CHAT_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}
RESPONSES_USAGE = {"input_tokens": 11, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 5}}
MESSAGES_USAGE = {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 5}

#: A request with this header is answered after so many seconds.
DELAY = "x-echo-delay-s"
#: A stream with this header pauses for so many seconds after its headers and after each event.
PAUSE = "x-echo-pause-s"
#: An answer has this status.
STATUS = "x-echo-status"


class Echo(ThreadingHTTPServer):
    """The server; `endpoint` is its `address:port`."""

    daemon_threads = True

    @property
    def endpoint(self) -> str:
        address, port = self.server_address[:2]
        return f"{address!s}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A picker that ends in the middle of a scrape is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as socketserver passes them


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer("text/plain; version=0.0.4", METRICS.encode())
        else:
            self._echo(b"")

    def do_POST(self) -> None:
        self._echo(self._body())

    def _body(self) -> bytes:
        """The whole body; pickers forward it in chunks."""
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()  # the end of the chunk's line
        self.rfile.readline()  # no trailers are sent here
        return body

    def _echo(self, body: bytes) -> None:
        time.sleep(float(self.headers.get(DELAY, 0)))
        arrived: dict[str, Any] = {
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "path": self.path,
            "n_bytes": len(body),
            "served_by": self.server.endpoint,  # type: ignore[attr-defined]  # the server is an Echo
        }
        if b'"stream": true' in body:
            named = "responses" in self.path
            events = [_event(event, named=named) for event in _events(self.path, arrived)]
            self._answer("text/event-stream", *events, b"data: [DONE]\n\n")
        else:
            self._answer("application/json", json.dumps({**arrived, "usage": _usage(self.path)}).encode())

    def _answer(self, content_type: str, *pieces: bytes) -> None:
        pause_s = float(self.headers.get(PAUSE, 0))
        self.send_response(int(self.headers.get(STATUS, 200)))
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(sum(map(len, pieces))))
        self.end_headers()
        for piece in pieces if pause_s else [b"".join(pieces)]:
            time.sleep(pause_s)
            self.wfile.write(piece)

    def log_message(self, *args: object) -> None:
        """Quiet: the answer says everything."""


def _usage(path: str) -> dict[str, Any]:
    if "/messages" in path:
        return MESSAGES_USAGE
    return RESPONSES_USAGE if "/responses" in path else CHAT_USAGE


def _event(event: dict[str, Any], *, named: bool) -> bytes:
    """Only the Responses API names its events outside of their data too."""
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event)}\n\n".encode()


def _events(path: str, arrived: dict[str, Any]) -> list[dict[str, Any]]:
    """A stream of the API at this path: where each puts its usage."""
    if "/messages" in path:
        begin = {"input_tokens": 11, "output_tokens": 1, "cache_read_input_tokens": 5}
        start = {**arrived, "type": "message_start", "message": {"usage": begin}}
        return [start, {"type": "message_delta", "usage": {"output_tokens": 7}}]
    if "/responses" in path:
        completed = {"type": "response.completed", "response": {"usage": RESPONSES_USAGE}}
        created = {**arrived, "type": "response.created", "response": {"usage": None}}
        return [created, {"type": "response.output_text.delta", "delta": "hi"}, completed]
    return [{**arrived, "usage": None}, {"choices": [], "usage": CHAT_USAGE}]


@contextmanager
def echo(address: str = "127.0.0.1", port: int = 0) -> Iterator[Echo]:
    """An echo server that is gone at the end of the block."""
    server = Echo((address, port), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
