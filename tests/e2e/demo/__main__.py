"""`make demo`: serve the quick-start example and replay recorded agent sessions through it.

Needs root: its pods run as processes in network namespaces. Where that cannot be, and with --examples, every example
becomes Ready on a control plane whose pods are not run. Nothing is left behind but the cache of built binaries.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from tests.e2e.processnode.network import unavailable

from . import examples, serving

#: Set, a failure is shown with its traceback.
_DEBUG = "DEMO_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    began_s = time.monotonic()
    reason = unavailable()
    if reason and not arguments.examples:
        print(f"pods cannot run as processes here ({reason}); showing the examples without running them")
    try:
        if reason or arguments.examples:
            examples.tour()
        else:
            serving.serve(engine=arguments.engine, duration_s=arguments.duration, keep=arguments.keep)
    except (RuntimeError, AssertionError, LookupError, OSError, subprocess.SubprocessError) as error:
        return _failed(error)
    print(f"\nDone in {time.monotonic() - began_s:.0f} s.")
    return 0


def _failed(error: Exception) -> int:
    """A part of the demo failed: what it said, and what a reader can do about it."""
    if os.environ.get(_DEBUG):
        raise error
    print(
        f"\nThe demo could not go on ({type(error).__name__}):\n{error}\n\n"
        "What it had started is stopped. Try again; where it fails again, the tools may be incomplete (make tools),\n"
        f"a port or the memory taken. {_DEBUG}=1 make demo shows where it happened; make demo ARGS=--examples needs neither\n"
        "root nor pods.",
        file=sys.stderr,
    )
    return 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--engine",
        choices=("sim", "vllm"),
        default="sim",
        help="what engine pods run (make demo ENGINE=vllm)",
    )
    parser.add_argument("--duration", type=float, default=60.0, metavar="SECONDS", help="of each replay")
    parser.add_argument("--examples", action="store_true", help="every example, pods not run")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="stay up at the end, for trying things out (make demo ARGS=--keep)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
