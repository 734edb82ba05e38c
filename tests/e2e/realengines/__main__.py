"""`python -m tests.e2e.realengines install`: put vLLM, LMCache and the tiny model into the cache."""

import sys

from tests.e2e.realengines.install import VLLM, InstallFailed, install
from tests.e2e.realengines.model import tiny_model
from tests.e2e.realengines.record import record_options

_USAGE = """usage: python -m tests.e2e.realengines COMMAND

install   install vLLM and LMCache for the CPU, and make the tiny model; print where they are
record    write the options of the installed vLLM into templates/engines/, from its own parser"""


def main(arguments: list[str]) -> int:
    """Run one command; the exit code."""
    if arguments not in (["install"], ["record"]):
        print(_USAGE, file=sys.stderr)
        return 2
    try:
        venv = install()
    except InstallFailed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments == ["record"]:
        print(record_options(venv, VLLM))
    else:
        print(f"engines  {venv}\nmodel    {tiny_model()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
