"""The journal in a real store: takeover, restarts of either side, a pipeline of two stacks, and every way in which a store can fail."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agentic_serving.router.state.keys import Keys
from tests.e2e.localcluster.process import Workplace, wait_until
from tests.e2e.routerkit.journaling import SAVED, Scheduler, eventually, stack
from tests.e2e.routerkit.stores import Store

_ROOT = Path(__file__).parents[3]
_KEYS = Keys("ns", "s")
_USER = ("default", "on", "nopass", "~agentic-serving:*", "-@all")


@pytest.fixture
def store() -> Iterator[Store]:
    with Store() as running:
        yield running


@contextlib.asynccontextmanager
async def scheduler(
    store: Store, name: str = "s", password: str | None = None, *, address: str = "", tls: bool = False
) -> AsyncIterator[Scheduler]:
    one = Scheduler(stack(address or store.address, name, tls=tls), password)
    try:
        await one.load()
        yield one
    finally:
        await one.state.close()


async def test_a_killed_process_is_taken_over(store: Store) -> None:
    """The next turns go where the first process had put their sessions, as turns of known sessions."""
    with Workplace() as place:
        command = [sys.executable, "-m", "tests.e2e.routerkit.journaling", store.address, "20"]
        path = f"{_ROOT}:{_ROOT / 'operator'}"
        process = place.start("first", command, env={"PYTHONPATH": path})
        wait_until(lambda: SAVED in process.tail(), timeout_s=60, what="the first process", watch=[process])
        homes = process.tail().partition(SAVED)[2].split()
        process.kill()
        async with scheduler(store) as second:
            assert [second.turn(f"session-{i}", 3) for i in range(20)] == homes
            state = second.desk.sessions.session("default/session-0")
            assert state is not None
            assert state.turns == 4
            assert second.state.counters["refused"] == 0


async def test_an_orderly_end_loses_nothing(store: Store) -> None:
    """Turns that ended just before are written when the process is told to stop."""
    async with scheduler(store) as first:
        home = first.turn("late", 0)
    async with scheduler(store) as second:
        assert second.home("late") == (home,)


async def test_the_earlier_process_stops_writing(store: Store) -> None:
    """A process that was only slow, and not gone, does not overwrite what its successor knows."""
    async with scheduler(store) as first, scheduler(store) as second:
        await eventually(lambda: "taken over" in first.state.problem)
        first.turn("stale", 0)
        second.turn("fresh", 0)
        await second.saved()
        async with scheduler(store) as third:
            assert third.home("fresh")
            assert not third.home("stale")


async def test_sessions_that_are_over_are_not_kept(store: Store) -> None:
    async with scheduler(store) as one:
        one.turn("a", 0)
        one.turn("b", 0)
        await one.saved()
        one.desk.end_run("default/a", one.now_s)
        await one.saved()
    found = [name for key in _KEYS.all()[2:] for name in store.client().hkeys(key)]
    assert found == [b"default/b"]


async def test_everything_in_the_store_has_a_time_to_live(store: Store) -> None:
    async with scheduler(store) as one:
        one.turn("a", 0)
        await one.saved()
    there = store.client()
    keys = there.keys("*")
    assert keys
    assert [key for key in keys if not 0 < there.pttl(key) <= 3_700_000] == []


async def test_a_server_that_lost_everything_is_told_again(store: Store) -> None:
    async with scheduler(store) as one:
        home = one.turn("a", 0)
        await one.saved()
        store.kill()
        one.turn("b", 0)  # nothing waits for the store
        await eventually(lambda: not one.state.healthy)
        assert "cannot be reached" in one.state.problem
        store.start()
        await one.saved()
    async with scheduler(store) as second:
        assert second.home("a") == (home,)
        assert second.home("b")


async def test_no_server_at_the_start(store: Store) -> None:
    """It serves at once, says why nothing is kept, and writes when the server comes."""
    store.kill()
    async with scheduler(store) as one:
        assert not one.state.healthy
        home = one.turn("a", 0)
        store.start()
        await one.saved()
    async with scheduler(store) as second:
        assert second.home("a") == (home,)


async def test_the_documented_commands_are_all_that_it_needs() -> None:
    """docs/state.md lists them for ACLs; without one, the problem says so."""
    page = (_ROOT / "docs" / "state.md").read_text()
    commands = page.partition("Commands, for ACLs: ")[2].partition(",")[0].split()
    with Store("--user", *_USER, *(f"+{one}" for one in commands)) as guarded:
        async with scheduler(guarded) as one:
            one.turn("a", 0)
            await one.saved()
        async with scheduler(guarded) as second:
            assert second.home("a")
            await eventually(lambda: second.state.counters["rounds"] > 3)
            assert second.state.healthy
    with Store("--user", *_USER, *(f"+{one}" for one in commands if one != "XREAD")) as stricter:
        async with scheduler(stricter) as one:
            await eventually(lambda: "does not allow" in one.state.problem)


@pytest.mark.parametrize(
    ("options", "password", "told"),
    [
        (("--requirepass", "right"), "wrong", "refuses the password"),
        (("--requirepass", "right"), None, "refuses the password"),
        (("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"), None, "is full"),
    ],
    ids=["wrong password", "no password", "full"],
)
async def test_a_server_that_refuses(options: tuple[str, ...], password: str | None, told: str) -> None:
    with Store(*options) as refusing:
        async with scheduler(refusing, password=password) as one:
            one.turn("a", 0)
            await eventually(lambda: told in one.state.problem)
            assert one.turn("a", 1) == one.home("a")[0]  # it serves on
            assert "right" not in one.state.problem


async def test_the_right_password(store: Store) -> None:
    with Store("--requirepass", "right") as guarded:
        async with scheduler(guarded, password="right") as one:
            one.turn("a", 0)
            await one.saved()


async def test_an_encrypted_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate of an authority that the machine trusts is believed, any other is a problem that names it."""
    with Store(tls=True) as secret:
        async with scheduler(secret, tls=True) as one:
            await eventually(lambda: "certificate verify failed" in one.state.problem)
        monkeypatch.setenv("SSL_CERT_FILE", str(secret.certificate))
        async with scheduler(secret, tls=True) as one:
            one.turn("a", 0)
            await one.saved()


async def test_a_cluster() -> None:
    """Told the address of any node, whichever has the keys; the stacks' and the namespace's are not on one."""
    with Store(cluster=True) as one_node, Store(cluster=True) as other_node:
        one_node.form(other_node)
        for node, run in ((one_node, "a"), (other_node, "b")):
            async with scheduler(node) as one, scheduler(node, "writer") as other:
                service = other.desk.scheduler.service
                home = one.turn(run, 0, served=1500)
                await one.saved()
                await eventually(lambda: service.attained(f"default/{run}") == 1500)  # noqa: B023 - called here
            async with scheduler(node) as second:
                assert second.home(run) == (home,)


async def test_a_server_that_does_not_answer(store: Store) -> None:
    """It is asked with a limit, and not as often: serving goes on beside."""

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client gives up
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with scheduler(store, address=f"127.0.0.1:{port}") as one:
        one.turn("a", 0)
        await eventually(lambda: "cannot be reached" in one.state.problem)
    silent.close()


@pytest.mark.parametrize("address", ["nowhere.invalid:6379", "127.0.0.1:x", "", ":", "127.0.0.1:0"])
async def test_an_address_that_is_none(store: Store, address: str) -> None:
    one = Scheduler(stack(address))
    await one.load()
    await eventually(lambda: bool(one.state.problem) and "asked yet" not in one.state.problem)
    one.turn("a", 0)
    await one.state.close()


@pytest.mark.parametrize("key", [_KEYS.meta, _KEYS.learned, _KEYS.bucket_of("default/a"), _KEYS.stream])
async def test_keys_of_ours_that_hold_something_else(store: Store, key: str | int) -> None:
    """Whoever wrote there: the journal is made anew."""
    name = _KEYS.bucket(key) if isinstance(key, int) else key
    there = store.client()
    if key == _KEYS.learned:
        there.hset(name, "a", "b")
    else:
        there.set(name, "what is this")
    async with scheduler(store) as one:
        home = one.turn("a", 0)
        await one.saved()
    async with scheduler(store) as second:
        assert second.home("a") == (home,)


async def test_records_that_are_not_ours_are_passed_by(store: Store) -> None:
    async with scheduler(store) as one:
        home = one.turn("a", 0)
        await one.saved()
    there = store.client()
    bucket = _KEYS.bucket(_KEYS.bucket_of("default/a"))
    there.hset(bucket, "default/evil", b'[9e99,"default/evil"]\n[]\n')
    there.hset(bucket, "noise", bytes(range(256)))
    there.set(_KEYS.learned, b'{"made": "x"}')
    there.xadd(_KEYS.stream, {"d": b"[1, 2]"})
    there.xadd(_KEYS.stream, {"other": b"thing"})
    async with scheduler(store) as second:
        assert second.home("a") == (home,)
        assert second.state.counters["refused"] >= 2
        await eventually(lambda: not there.hexists(bucket, "default/evil"))  # they are swept out


async def test_another_versions_journal_is_not_read(store: Store) -> None:
    async with scheduler(store) as one:
        one.turn("a", 0)
        await one.saved()
    store.client().hset(_KEYS.meta, "format", "0-of-another-time")
    async with scheduler(store) as second:
        assert second.home("a") == ()
        second.turn("a", 0)
        await second.saved()


async def test_stacks_of_a_pipeline_order_by_the_whole_run(store: Store) -> None:
    """What one stack served counts on the other; what it wrote is no person's words there, but the task's next stage."""
    async with scheduler(store, "planner") as one, scheduler(store, "writer") as other:
        services = [each.desk.scheduler.service for each in (one, other)]

        async def both(tokens: int) -> None:
            await eventually(lambda: [each.attained("default/run") for each in services] == [tokens, tokens])

        one.turn("run", 0, served=1500)
        await both(1500)
        other.turn("run", 0, served=300)
        await both(1800)
        one.turn("run", 1, served=20)  # a person's next words
        await both(20)


async def test_a_run_that_ends_on_one_stack_ends_on_the_other(store: Store) -> None:
    async with scheduler(store, "planner") as one, scheduler(store, "writer") as other:
        one.turn("run", 0)
        other.turn("run", 0)
        other.turn("stays", 0)
        await other.saved()
        one.desk.end_run("default/run", one.now_s)
        await eventually(lambda: "default/run" not in other.desk.sessions)
        assert "default/stays" in other.desk.sessions


async def test_a_process_that_takes_over_knows_what_its_run_attained_elsewhere(store: Store) -> None:
    async with scheduler(store, "writer") as other:
        async with scheduler(store, "planner") as one:
            one.turn("run", 0, served=1500)
            await eventually(lambda: other.desk.scheduler.service.attained("default/run") == 1500)
            other.turn("run", 0, served=300)
            await eventually(lambda: one.desk.scheduler.service.attained("default/run") == 1800)
        async with scheduler(store, "planner") as second:
            service = second.desk.scheduler.service
            await eventually(lambda: service.attained("default/run") == 1800)
