"""One driver per command-line client: its own home, its configuration, its environment; it runs one prompt to the end.

A client sees nothing of the caller's environment but PATH, so that no key, proxy or setting of the machine takes part.
Each is told every way it has to stay silent towards its maker: what it may reach is the endpoint.
"""

import asyncio
import contextlib
import json
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

__all__ = ["CLIENTS", "ClaudeCode", "Client", "Codex", "OpenCode", "Outcome"]

#: A run of a few turns takes 3 to 15 s on two busy cores; most of it is the client's start.
_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a client's run ended."""

    code: int  # of the process; -9 when it was ended for taking too long
    output: str  # what it printed as its answer
    complaints: str  # standard error

    def __str__(self) -> str:
        return (
            f"exit code {self.code}\n--- output\n{self.output[-4000:]}\n--- errors\n{self.complaints[-4000:]}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Client(ABC):
    """A client that asks `model` at `endpoint` and works in the folder `work`.

    Attributes:
        commands: folder of the installed clients (`install.install()`).
        home: the client's own; must exist and be empty at first.
        work: where its tools run.
    """

    name: ClassVar[str]  # as in an AgentProgram's match.clients
    api: ClassVar[str]  # path of the requests

    commands: Path
    home: Path
    work: Path
    endpoint: str  # http://host[:port], without a path
    model: str
    timeout_s: float = field(default=_TIMEOUT_S)

    async def run(self, prompt: str) -> Outcome:
        """Hand over one prompt, wait until the client has finished."""
        self._configure()
        process = await asyncio.create_subprocess_exec(
            *self._command(prompt),
            cwd=self.work,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "LANG": "C.UTF-8",
                **self._environment(),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # its tools and servers end with it
        )
        try:
            output, complaints = await asyncio.wait_for(process.communicate(), self.timeout_s)
        except TimeoutError:
            _end_group(process.pid)
            await process.wait()
            return Outcome(-9, "", f"{self.name} did not end within {self.timeout_s:.0f} s")
        finally:
            _end_group(process.pid)
        code = process.returncode
        assert code is not None
        return Outcome(code, output.decode(errors="replace"), complaints.decode(errors="replace"))

    @abstractmethod
    def _configure(self) -> None: ...

    @abstractmethod
    def _command(self, prompt: str) -> list[str]: ...

    @abstractmethod
    def _environment(self) -> Mapping[str, str]: ...


class ClaudeCode(Client):
    """Claude Code, by the Anthropic messages API."""

    __slots__ = ()
    name = "ClaudeCode"
    api = "/v1/messages"

    def _configure(self) -> None:
        """Everything is in its environment and options."""

    def _command(self, prompt: str) -> list[str]:
        tools = ["--allowedTools", "Bash,Read,Write,Agent,Task"]
        return [str(self.commands / "claude"), "-p", prompt, "--model", self.model, *tools]

    def _environment(self) -> Mapping[str, str]:
        return {
            "ANTHROPIC_BASE_URL": self.endpoint,
            "ANTHROPIC_API_KEY": "unused",
            "ANTHROPIC_SMALL_FAST_MODEL": self.model,
            "CLAUDE_CODE_SUBAGENT_MODEL": self.model,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
        }


class Codex(Client):
    """Codex, by the Responses API. Its tools run without its own sandbox: that one needs more than a container grants."""

    __slots__ = ()
    name = "Codex"
    api = "/v1/responses"

    def _configure(self) -> None:
        folder = self.home / ".codex"
        folder.mkdir(exist_ok=True)
        lines = f"""
            model = {json.dumps(self.model)}
            model_provider = "stack"
            approval_policy = "never"
            sandbox_mode = "danger-full-access"
            check_for_update_on_startup = false
            web_search = "disabled"
            [analytics]
            enabled = false
            [model_providers.stack]
            name = "stack"
            base_url = {json.dumps(self.endpoint + "/v1")}
            wire_api = "responses"
            """
        (folder / "config.toml").write_text(
            "\n".join(x.strip() for x in lines.splitlines()), encoding="utf-8"
        )

    def _command(self, prompt: str) -> list[str]:
        return [str(self.commands / "codex"), "exec", "--skip-git-repo-check", prompt]

    def _environment(self) -> Mapping[str, str]:
        return {"CODEX_HOME": str(self.home / ".codex")}


class OpenCode(Client):
    """OpenCode, by chat completions."""

    __slots__ = ()
    name = "OpenCode"
    api = "/v1/chat/completions"

    def _configure(self) -> None:
        folder = self.home / ".config" / "opencode"
        folder.mkdir(parents=True, exist_ok=True)
        provider = {
            "npm": "@ai-sdk/openai-compatible",  # part of the client: nothing is downloaded
            "options": {"baseURL": f"{self.endpoint}/v1", "apiKey": "unused"},
            "models": {self.model: {}},
        }
        config = {
            "$schema": "https://opencode.ai/config.json",
            "autoupdate": False,
            "share": "disabled",
            "provider": {"stack": provider},
            "model": f"stack/{self.model}",
            "small_model": f"stack/{self.model}",
            "permission": {"*": "allow"},
        }
        (folder / "opencode.json").write_text(json.dumps(config), encoding="utf-8")

    def _command(self, prompt: str) -> list[str]:
        return [str(self.commands / "opencode"), "run", prompt]

    def _environment(self) -> Mapping[str, str]:
        switches = ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")
        silent = {f"OPENCODE_DISABLE_{switch}": "true" for switch in switches}
        # It installs a package for plugins at its start, in the background; there are none here.
        return {**silent, "npm_config_offline": "true", "npm_config_fetch_retries": "0"}


CLIENTS: tuple[type[Client], ...] = (ClaudeCode, Codex, OpenCode)


def _end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
