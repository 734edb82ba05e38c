"""`python -m tests.e2e.localcluster`."""

from .cli import main

if __name__ == "__main__":
    main(prog_name="python -m tests.e2e.localcluster")
