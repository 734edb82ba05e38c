"""An engine stand-in: answers every POST with what arrived, and scrapes with vLLM's metric names."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Echo", "echo"]

#: What the pickers scrape (llm-d-router v0.10.0, extractor/metrics/factories.go): an idle engine of 1,000 blocks of 16.
METRICS = """\
vllm:num_requests_waiting{model_name="m"} 0
vllm:num_requests_running{model_name="m"} 0
vllm:kv_cache_usage_perc{model_name="m"} 0
vllm:lora_requests_info{max_lora="0",running_lora_adapters="",waiting_lora_adapters=""} 1
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1
"""
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 5}}


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
        arrived: dict[str, Any] = {
            "object": "chat.completion",
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "path": self.path,
            "n_bytes": len(body),
            "served_by": self.server.endpoint,  # type: ignore[attr-defined]  # the server is an Echo
            "usage": USAGE,
        }
        if b'"stream": true' in body:
            arrived["object"] = "chat.completion.chunk"
            self._answer("text/event-stream", f"data: {json.dumps(arrived)}\n\ndata: [DONE]\n\n".encode())
        else:
            self._answer("application/json", json.dumps(arrived).encode())

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the answer says everything."""


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
