"""`python -m agentic_serving` is the console script."""

from agentic_serving.cli import main

if __name__ == "__main__":
    main()
