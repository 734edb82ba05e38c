"""Real coding agents: Claude Code, Codex and OpenCode run tools and sub-agents against a stack whose engine follows a script."""
