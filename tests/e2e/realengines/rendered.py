"""What the operator renders for the engines of a file, taken from its manifests: containers with their command lines."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentic_serving.cli.planning import plan_files

__all__ = ["EXAMPLES", "Container", "EnginePod", "changed", "engine_pods", "example_names"]

EXAMPLES = Path(__file__).parents[3] / "examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container's program, with fields of the pod filled in."""

    name: str
    argv: tuple[str, ...]  # command and args
    env: Mapping[str, str]

    def value(self, option: str) -> str | None:
        """The value of `--option=value`."""
        found = (argument.partition("=") for argument in self.argv)
        return next((value for name, _, value in found if name == option), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePod:
    """The pod of one role."""

    name: str  # of its Deployment
    preset: str
    engine: Container
    sidecars: tuple[Container, ...]


def example_names() -> tuple[str, ...]:
    """Folders under `examples/`."""
    return tuple(sorted(folder.name for folder in EXAMPLES.iterdir() if (folder / "stack.yaml").is_file()))


def engine_pods(path: Path, *, pod_ip: str = "127.0.0.1") -> list[EnginePod]:
    """The engine pods of all stacks in a file or folder, as Kubernetes would start them at that address."""
    fields = {"status.podIP": pod_ip, "metadata.name": "pod-0"}
    pods = []
    for stack, plan in plan_files([str(path)], namespace="default").plans:
        for manifest in plan.manifests:
            found = _containers(manifest.body, fields)
            engine = next((c for c in found if c.argv[:2] == ("vllm", "serve")), None)
            if engine is not None:
                sidecars = tuple(c for c in found if c is not engine)
                name = manifest.body["metadata"]["name"]
                preset = stack.spec.accelerator.preset
                pods.append(EnginePod(name=name, preset=preset, engine=engine, sidecars=sidecars))
    return pods


def changed(argv: Sequence[str], values: Mapping[str, str]) -> list[str]:
    """The command line with the values of these options replaced; nothing else may differ.

    Raises:
        KeyError: it has no such option, so the test no longer says what it means.
    """
    found = list(argv)
    for option, value in values.items():
        at = next((i for i, argument in enumerate(found) if argument.startswith(f"{option}=")), None)
        if at is None:
            raise KeyError(option)
        found[at] = f"{option}={value}"
    return found


def _containers(body: Mapping[str, Any], fields: Mapping[str, str]) -> list[Container]:
    pod = body.get("spec", {}).get("template", {}).get("spec", {})
    return [_container(c, fields) for c in _all(pod)]


def _all(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("initContainers", ())
    yield from pod.get("containers", ())


def _container(body: Mapping[str, Any], fields: Mapping[str, str]) -> Container:
    env: dict[str, str] = {}
    for entry in body.get("env", ()):
        source = entry.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        env[entry["name"]] = fields[source] if source in fields else str(entry.get("value", ""))
    argv = (*body.get("command", ()), *body.get("args", ()))
    return Container(name=body["name"], argv=tuple(_expanded(a, env) for a in argv), env=env)


def _expanded(argument: str, env: Mapping[str, str]) -> str:
    """`$(NAME)` of variables that are set, as the kubelet does; `$$(` is a plain `$(`."""
    for name, value in env.items():
        argument = (
            argument.replace(f"$$({name})", "\0").replace(f"$({name})", value).replace("\0", f"$({name})")
        )
    return argument
