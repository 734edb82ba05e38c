"""The command line: `serve MODEL ...`, and what stands in for `lmcache`."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from agentic_serving.enginesim.knobs import Knobs
from agentic_serving.enginesim.lmcache.run import run as run_lmcache
from agentic_serving.enginesim.options import UsageError, parse_serve
from agentic_serving.enginesim.serve import serve
from agentic_serving.errors import InvalidInput

__all__ = ["main"]

log = logging.getLogger(__name__)

_USAGE = "enginesim: error: expected `serve MODEL ...`, `launch render MODEL ...`, `lmcache server ...` or `lmcache coordinator ...`"


def main(argv: Sequence[str]) -> int:
    """Run until a signal ends it. Exit codes: 0 ended by a signal, 1 cannot start, 2 wrong usage."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(asctime)s %(message)s", stream=sys.stderr)
    try:
        return _run(argv)
    except UsageError as error:
        sys.stderr.write(f"usage: vllm serve [model_tag] [options]\n{error}\n")
        return 2
    except InvalidInput as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _run(argv: Sequence[str]) -> int:
    render_only = list(argv[:2]) == ["launch", "render"]
    if argv[:1] == ["serve"] or render_only:
        knobs = Knobs.from_env(os.environ)
        options = parse_serve(argv[2 if render_only else 1 :], knobs.version)
        if options.ignored:
            log.info("accepted without effect here: %s", " ".join(options.ignored))
        asyncio.run(serve(options, knobs, render_only=render_only))
        return 0
    if argv[:1] == ["lmcache"] and argv[1:2] in (["server"], ["coordinator"]):
        run_lmcache(argv[1], argv[2:])
        return 0
    raise UsageError(_USAGE)
