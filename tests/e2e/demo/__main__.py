"""`make demo`: serve the quick-start example and replay recorded agent sessions through it.

Needs root: its pods run as processes in network namespaces. Where that cannot be, and with --examples, every example
becomes Ready on a control plane whose pods are not run. Nothing is left behind but the cache of built binaries.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from tests.e2e.processnode.network import unavailable

from . import examples, serving


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    began_s = time.monotonic()
    reason = unavailable()
    if reason and not arguments.examples:
        print(f"pods cannot run as processes here ({reason}); showing the examples without running them")
    if reason or arguments.examples:
        examples.tour()
    else:
        serving.serve(engine=arguments.engine, duration_s=arguments.duration, keep=arguments.keep)
    print(f"\nDone in {time.monotonic() - began_s:.0f} s.")
    return 0


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
