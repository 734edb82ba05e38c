"""The command line: the one place that builds real clients and the real clock."""

from agentic_serving.cli.main import main

__all__ = ["main"]
