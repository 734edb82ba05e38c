"""`make demo`. Nothing is left behind but the cache of built binaries."""

import argparse
import sys
import time
from collections.abc import Sequence

from . import examples


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    began_s = time.monotonic()
    examples.tour()
    print(f"\nDone in {time.monotonic() - began_s:.0f} s.")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--engine", choices=("sim", "vllm"), default="sim", help="what engine pods run")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
