"""watchdog: at the end of its input it kills what is still listed, and only that."""

import io
import signal
import subprocess
from pathlib import Path

from tests.e2e.localcluster.watchdog import watch


def sleeper() -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def test_listed_groups_are_killed_and_folders_removed(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "inner").mkdir(parents=True)
    with sleeper() as listed, sleeper() as taken_off:
        watch(io.StringIO(f"dir {folder}\n+{listed.pid}\n+{taken_off.pid}\n-{taken_off.pid}\n"))
        assert listed.wait(10) == -signal.SIGKILL
        assert taken_off.poll() is None
        taken_off.kill()
    assert not folder.exists()


def test_what_is_gone_already_is_no_error(tmp_path: Path) -> None:
    with sleeper() as gone:
        gone.kill()
        gone.wait()
    watch(io.StringIO(f"dir {tmp_path / 'never'}\n+{gone.pid}\n"))
