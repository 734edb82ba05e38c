"""agentic-serving: a Kubernetes operator that serves LLM agents. The map of rooms is in CONTRIBUTING.md."""

__version__ = "0.1.0.dev0"
