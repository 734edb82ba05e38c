"""The scheduler dies, hangs and comes back under load: no request fails, and none waits much longer than a second."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psutil

from tests.e2e.localcluster.process import wait_until
from tests.e2e.router.conftest import INPUTS, Chain, chain
from tests.e2e.routerkit.scripted import start

#: Envoy gives up on a scheduler after 1 s. The rest is for a busy machine.
PATIENCE_S = 5.0
N_CLIENTS = 4


@dataclass
class Load:
    """Clients that send one turn after another, until they are stopped."""

    chain: Chain
    codes: list[int] = field(default_factory=list)
    longest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def client(self) -> None:
        while not self._stop.is_set():
            began_s = time.monotonic()
            try:
                code = self.chain.envoy.post().code
            except OSError as error:
                code = -(error.errno or 1)
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            self.codes.append(code)

    def more(self, n: int) -> None:
        """Waits for so many further answers."""
        target = len(self.codes) + n
        wait_until(lambda: len(self.codes) >= target, timeout_s=60, what=f"{n} answers")

    @contextmanager
    def running(self) -> Iterator["Load"]:
        threads = [threading.Thread(target=self.client) for _ in range(N_CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def arrived(found: Chain) -> int:
    return sum(event["event"] == "arrive" for event in found.scheduler.events)


def takes_part(found: Chain) -> None:
    """Waits until calls reach the scheduler."""
    before = arrived(found)
    wait_until(lambda: arrived(found) > before + 10, timeout_s=30, what="calls at the scheduler")


def test_a_scheduler_that_is_killed_and_comes_back_costs_no_request() -> None:
    with chain() as own, Load(own).running() as load:
        load.more(20)
        own.scheduler.process.kill()
        load.more(50)
        start(own.place, own.scheduler.port)
        takes_part(own)
    assert set(load.codes) == {200}
    assert load.longest_s < PATIENCE_S


def test_a_scheduler_that_hangs_and_goes_on_costs_no_request() -> None:
    with chain() as own, Load(own).running() as load:
        process = psutil.Process(own.scheduler.process.pid)
        load.more(20)
        process.send_signal(signal.SIGSTOP)
        try:
            load.more(5 * N_CLIENTS)  # long enough for Envoy to take the connection for dead
        finally:
            process.send_signal(signal.SIGCONT)
        takes_part(own)
    assert set(load.codes) == {200}
    assert load.longest_s < PATIENCE_S


def test_without_a_scheduler_from_the_start_requests_pass() -> None:
    with chain() as own:
        own.scheduler.process.kill()
        assert [own.envoy.post().code for _ in range(5)] == [200] * 5


def test_of_several_schedulers_only_the_active_one_gets_calls() -> None:
    """`localhost` stands for the headless Service of a stack with several router pods."""
    several = replace(INPUTS, request_timeout_s=10, scheduler_address="localhost")
    with chain(several, active=False) as own:
        assert [own.envoy.post().code for _ in range(20)] == [200] * 20
        assert arrived(own) == 0
        own.scheduler.take_over()
        wait_until(lambda: own.envoy.post().code == 200 and arrived(own) > 0, timeout_s=20, what="calls")
