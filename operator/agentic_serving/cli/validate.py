"""`agentic-serving validate`: everything that is wrong, at once and with paths."""

import sys

import click

from agentic_serving.api.findings import Finding
from agentic_serving.cli.bundle import Located
from agentic_serving.cli.options import files, output
from agentic_serving.cli.output import data, located, located_as_data
from agentic_serving.cli.planning import Planned, plan_files

__all__ = ["validate"]


@click.command()
@files
@output()
def validate(paths: tuple[str, ...], namespace: str, stack: str | None, output: str) -> None:
    """Check the objects in PATHS as the API server and the operator would.

    A reference to a policy is looked up among PATHS: give the files that belong together in one call. The exit
    code is 1 if there is an error; warnings do not count.
    """
    planned = plan_files(paths, namespace=namespace, stack=stack)
    findings = planned.findings + _unresolved_stacks(planned)
    if output == "text":
        for item in findings:
            click.echo(located(item))
        click.echo(_summary(planned, findings))
    else:
        click.echo(data(located_as_data(findings), output))
    sys.exit(1 if planned.errors else 0)


def _unresolved_stacks(planned: Planned) -> tuple[Located, ...]:
    """Programs whose stack is not among the files: no error, since it may be in the cluster."""
    bundle = planned.bundle
    return tuple(
        Located(
            source=bundle.source_of(program),
            object=f"AgentProgram/{name}",
            finding=Finding(
                path=f"spec.agents[{i}].stackRef.name",
                reason="StackNotFound",
                message=f"AgenticServingStack {agent.stack_ref.name} is not in the given files; it must be in namespace {ns}",
                severity="Warning",
            ),
        )
        for (ns, name), program in sorted(bundle.programs.items())
        for i, agent in enumerate(program.spec.agents)
        if (ns, agent.stack_ref.name) not in bundle.stacks
    )


def _summary(planned: Planned, findings: tuple[Located, ...]) -> str:
    bundle = planned.bundle
    n_objects = len(bundle.stacks) + len(bundle.programs) + len(bundle.policies)
    n_errors = len(planned.errors)
    passed_over = f", {bundle.others} of other kinds passed over" if bundle.others else ""
    return f"{n_objects} objects{passed_over}: {n_errors} errors, {len(findings) - n_errors} warnings"
