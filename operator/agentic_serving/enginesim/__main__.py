"""`python -m agentic_serving.enginesim`: what stands where `vllm` and `lmcache` would."""

import sys

from agentic_serving.enginesim.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
