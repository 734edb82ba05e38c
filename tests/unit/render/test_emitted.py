"""render.emitted: the operator's rights are exactly what rendering needs, no more and no less."""

from agentic_serving.cluster import kinds
from agentic_serving.render.emitted import EMITTED_KINDS, emitted, granted
from agentic_serving.render.plan import Plan, render
from tests.unit.render.builders import EXAMPLE_NAMES, example_inputs


def plans() -> list[Plan]:
    return [render(example_inputs(example)) for example in EXAMPLE_NAMES]


def test_the_examples_emit_every_kind_that_is_listed_and_no_other() -> None:
    seen = {kinds.of(dict(manifest.body)) for plan in plans() for manifest in plan.manifests}
    assert seen == set(EMITTED_KINDS)


def test_the_operator_holds_what_rendered_roles_grant() -> None:
    held = {(access.group, access.resource): set(access.verbs) for access in granted()}
    for plan in plans():
        for manifest in plan.manifests:
            for rule in manifest.body.get("rules", []) if manifest.body["kind"] == "Role" else []:
                for group in rule["apiGroups"]:
                    for resource in rule["resources"]:
                        assert set(rule["verbs"]) <= held[group, resource]


def test_nothing_is_granted_beyond_reading_but_the_lease_of_the_active_scheduler() -> None:
    others = [access for access in granted() if access.resource != "leases"]
    assert {verb for access in others for verb in access.verbs} == {"get", "list", "watch"}


def test_secrets_and_pods_are_not_among_what_is_written() -> None:
    assert {"secrets", "pods", "namespaces"} & {access.resource for access in emitted()} == set()
