"""Put each bug of the table into a copy of the operator and require that its tests notice: `make mutations`.

`python -m tests.mutations [--only CHECK] [--list]`. One line per mutation; the exit code is 1 if any survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
#: The slowest test of the table takes half a minute alone; a bug that makes it hang must end too.
_TIMEOUT_S = 120
#: pytest's exit codes: the tests passed; they ran, and some failed. Everything else is a mistake in the table.
_PASSED, _FAILED = 0, 1


class WrongMutation(Exception):
    """The table does not fit the code any more."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", type=int, metavar="CHECK", help="mutations of this check")
    parser.add_argument("--list", action="store_true", help="print the table and run nothing")
    given = parser.parse_args()
    chosen = [m for m in MUTATIONS if given.only in (None, m.check)]
    if given.list:
        for mutation in chosen:
            print(f"check {mutation.check:02d}  {mutation.file}: {mutation.what}")
        return 0
    return run(chosen)


def run(chosen: Sequence[Mutation]) -> int:
    """Each mutation in turn; 1 if any survives."""
    with tempfile.TemporaryDirectory(prefix="agentic-serving-mutations-") as folder:
        scratch = Path(folder)
        tests = sorted({test for mutation in chosen for test in mutation.tests})
        code, output = pytest(source(scratch / "plain"), tests, scratch)
        if code != _PASSED:
            print(output)
            print("the tests fail without any mutation")
            return 1
        print(f"{len(tests)} tests pass without a mutation", flush=True)
        survived = sum([not killed(mutation, scratch / f"m{n}") for n, mutation in enumerate(chosen)])
    print(f"{len(chosen) - survived} of {len(chosen)} mutations killed")
    return 1 if survived else 0


def killed(mutation: Mutation, folder: Path) -> bool:
    """Whether each of the mutation's tests fails with it; tells in a line."""
    started_s = time.monotonic()
    try:
        alive = survivors(mutation, folder)
    except WrongMutation as error:
        print(f"wrong     check {mutation.check:02d}  {error}", flush=True)
        return False
    seconds = time.monotonic() - started_s
    verdict = "survived" if alive else "killed  "
    print(f"{verdict}  check {mutation.check:02d}  {seconds:5.1f} s  {mutation.what}", flush=True)
    for test in alive:
        print(f"          passes: {test}", flush=True)
    return not alive


def survivors(mutation: Mutation, folder: Path) -> list[str]:
    """Those of its tests that do not notice.

    Raises:
        WrongMutation: it cannot be put in, or a test cannot be run.
    """
    copy = source(folder)
    mutate(copy / "agentic_serving" / mutation.file, mutation)
    return [test for test in mutation.tests if not fails(copy, test, folder)]


def fails(copy: Path, test: str, scratch: Path) -> bool:
    code, output = pytest(copy, [test], scratch)
    if code not in (_PASSED, _FAILED):
        raise WrongMutation(f"{test} could not be run (pytest exit code {code}):\n{output}")
    return code == _FAILED


def source(folder: Path) -> Path:
    """A copy of the operator's source root."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(ROOT / "operator", folder / "operator", ignore=ignore))


def mutate(file: Path, mutation: Mutation) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.find) != 1:
        raise WrongMutation(
            f"{mutation.file}: {text.count(mutation.find)} times, not once: {mutation.find!r}"
        )
    file.write_text(text.replace(mutation.find, mutation.replace), encoding="utf-8")


def pytest(copy: Path, tests: Sequence[str], scratch: Path) -> tuple[int, str]:
    """Run the tests against this copy, as a process and as what the e2e tests start."""
    environment = os.environ | {
        "AGENTIC_E2E_SOURCE": str(copy),
        "AGENTIC_SERVING_ASSETS_DIR": str(ROOT),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(
            scratch / "hypothesis"
        ),  # what a bug taught is not for the checkout
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"{copy}{os.pathsep}{ROOT}",
    }
    options = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-o",
        f"pythonpath={copy} .",
        "-o",
        f"timeout={_TIMEOUT_S}",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())
