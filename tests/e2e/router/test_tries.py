"""How often an engine gets a request that it does not answer, and what of the tries client, engine and log see."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from agentic_serving.render.envoy import envoy_config
from tests.e2e.localcluster.process import Workplace, free_ports, wait_until
from tests.e2e.router.conftest import INPUTS, Chain
from tests.e2e.routerkit.envoys import running, without_picker
from tests.e2e.routerkit.scripted import start

_PRIVATE = "x-agentic-serving-"
_ATTEMPTS = "x-envoy-attempt-count"
_BUSY = (
    b"HTTP/1.1 503 Busy\r\nx-agentic-serving-again: 1\r\nx-agentic-serving-pod: forged\r\n"
    b"content-length: 2\r\nconnection: close\r\n\r\nno"
)
#: On close: a reset instead of an ordinary end.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Engine:
    """One that answers every request with the same bytes and then closes."""

    listening: socket.socket
    answer: bytes
    resets: bool
    met: list[bytes] = field(default_factory=list)

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return  # closed
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                self.met.append(head)
                if self.resets:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.sendall(self.answer)


@contextmanager
def engine(answer: bytes, *, resets: bool = False) -> Iterator[Engine]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = Engine(listening, answer, resets)
        thread = threading.Thread(target=found.serve, daemon=True)
        thread.start()
        yield found
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    ("answer", "resets", "n"),
    [(_BUSY, False, 1), (b"", False, 2), (b"", True, 2)],
    ids=["503", "end", "reset"],
)
def test_an_engine_that_does_not_serve_gets_a_request(answer: bytes, resets: bool, n: int) -> None:
    """Its own refusal is passed on. One that dies of a prompt gets it, or its neighbour does, only once more."""
    with engine(answer, resets=resets) as met, Workplace("agentic-scheduler-") as place:
        (port,) = free_ports(1)
        scheduler = start(place, port)
        endpoint = f"127.0.0.1:{met.listening.getsockname()[1]}"
        with running(without_picker(envoy_config(INPUTS), endpoint), scheduler_port=port) as envoy:
            answered = envoy.post([("x-tag", "t")])
            assert (answered.code, len(met.met)) == (503, n)
            assert not [name for name in answered.headers if name.startswith(_PRIVATE)]
            call_id = scheduler.tagged("t")
            scheduler.awaited(call_id, "usage")
            scheduler.awaited(call_id, "closed")
            wait_until(lambda: bool(envoy.log_lines()), timeout_s=10, what="the log")
            assert [(line["attempts"], line["pod"]) for line in envoy.log_lines()] == [(n, endpoint)]
        assert [usage["endpoint"] for usage in scheduler.of(call_id, "usage")] == [endpoint]


def test_no_header_between_the_chains_comes_from_a_client_or_goes_to_an_engine(calm: Chain) -> None:
    forged = ("hint", "hint-others", "again", "pod", "why")
    answer = calm.envoy.post(
        [
            *((f"{_PRIVATE}{name}", "127.0.0.9:1") for name in forged),
            (_ATTEMPTS, "7"),
            ("x-test-endpoints", calm.echo.endpoint),
            ("x-test-others", calm.echo.endpoint),
        ]
    )
    seen = {name for name, _ in answer.arrived["headers"]}
    assert not [name for name in {*seen, *answer.headers} if name.startswith(_PRIVATE) or name == _ATTEMPTS]
    assert calm.heard(answer, "usage")["endpoint"] == calm.echo.endpoint
