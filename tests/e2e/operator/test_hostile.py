"""Input at the edges: names of full length, odd characters, strings that look like templates, objects too large."""

import json

import yaml

from agentic_serving.cluster import kinds
from tests.e2e.apiclient import Manifest
from tests.e2e.stacks import aggregated, disaggregated, policy, program
from tests.e2e.world import World, condition, edited, identities, reports

LONG = "a" + "-long" * 12 + "-x"  # 63 characters, the limit
TWIN = LONG[:-1] + "y"  # differs in the last character only
#: What Jinja2, YAML, Envoy's formatter, a shell and Kubernetes' own expansion would act upon.
STRINGS = [
    "{{ 7 * 7 }} {% for x in y %}",
    "a: b\n---\nkind: Secret\n# comment",
    "\"'`\\ }}{{ \\u0041 \\n",
    "%REQ(authorization)% %%",
    "; rm -rf / & $(reboot) `id` | tee",
    "Größe 大きさ 👾 \u202e reversed",
    "!!python/object/apply:os.system ['id']",
    "<script>alert(1)</script>",
]


def test_check_16_names_of_full_length(world: World) -> None:
    """Check 16: two stacks whose names differ in the last of 63 characters do not meet, nor do their objects."""
    assert len(LONG) == len(TWIN) == 63
    world.apply(
        disaggregated(LONG),
        edited(disaggregated(TWIN), {"spec.kvTierPolicyRef.name": LONG}),
        policy(LONG),
        program(LONG, LONG, TWIN),
    )
    for name in (LONG, TWIN):
        world.ready(name)
    world.ready(LONG, kinds.PROGRAM)
    world.ready(LONG, kinds.POLICY)
    one, other = world.children(LONG), world.children(TWIN)
    assert not one.keys() & other.keys()
    assert len(one) == len(other)
    assert all(len(key.split("/")[1]) <= 63 for key in one if not key.startswith("InferenceObjective/"))


def test_check_22_strings_stay_data(world: World) -> None:
    """Check 22: what users write arrives as they wrote it, wherever it may be written freely."""
    env = [{"name": f"V{i}", "value": text} for i, text in enumerate(STRINGS)]
    notes = {f"example.com/n{i}": text for i, text in enumerate(STRINGS)}
    template = {"metadata": {"annotations": notes}}
    world.apply(
        aggregated("chat", engine={"env": env}, podTemplate={"aggregated": template, "router": template})
    )
    world.ready("chat")
    engine = world.get(kinds.DEPLOYMENT, "chat-engine")["spec"]["template"]
    live = {e["name"]: e["value"] for e in engine["spec"]["containers"][0]["env"] if "value" in e}
    # Kubernetes itself expands $(NAME) in values; $$ is its way to write the character.
    assert [live[f"V{i}"].replace("$$(", "$(") for i in range(len(STRINGS))] == STRINGS
    for deployment in ("chat-engine", "chat-router"):
        annotations = world.get(kinds.DEPLOYMENT, deployment)["spec"]["template"]["metadata"]["annotations"]
        assert {key: annotations[key] for key in notes} == notes


def test_check_22_matches_stay_matches(world: World) -> None:
    """Check 22 for Envoy's configuration: a value is compared as it is, and makes no other part of the file."""
    texts = [text for text in STRINGS if text.isascii() and text.isprintable()]
    world.apply(aggregated("chat"))
    for i, text in enumerate(texts):
        world.apply(program(f"p{i}", match={"headers": [{"name": "x-app", "value": text}]}))
    for i in range(len(texts)):
        world.ready(f"p{i}", kinds.PROGRAM)
    envoy = yaml.safe_load(world.get(kinds.CONFIG_MAP, "chat-router")["data"]["routes.yaml"])
    matched = list(_exact_matches(envoy))
    assert all(matched.count(text) >= 1 for text in texts), matched


def _exact_matches(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["exact"]] if isinstance(node.get("exact"), str) else []
        return own + [text for value in node.values() for text in _exact_matches(value)]
    return [text for item in node for text in _exact_matches(item)] if isinstance(node, list) else []


def test_check_16_what_is_not_printable_is_refused_with_the_path(world: World) -> None:
    """Check 16: Envoy compares printable ASCII; the program says so and the router is as before."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    before = identities(world.children("chat"))
    world.apply(program("odd", match={"headers": [{"name": "x-app", "value": STRINGS[5]}]}))
    assert "spec.match.headers[0].value" in world.refused("odd", kind=kinds.PROGRAM)
    assert identities(world.children("chat")) == before


def test_check_16_the_largest_spec_that_the_schema_takes(world: World) -> None:
    """Check 16: 64 variables of 4,096 characters, 32 programs: still Ready."""
    env = [{"name": f"V{i}", "value": "x" * 4096} for i in range(64)]
    world.apply(aggregated("chat", engine={"env": env}))
    world.apply(*(program(f"p{i:02d}") for i in range(32)))
    stack = world.ready("chat")
    assert condition(stack, "Accepted")["status"] == "True"
    world.wait(kinds.STACK, "chat", lambda s: s["status"]["programs"]["attached"] == 32)


def test_check_16_what_the_server_refuses_is_quoted(world: World) -> None:
    """Check 16: a pod template that passes our schema and not the API server's: told in its words, and only there."""
    world.apply(aggregated("chat"))
    world.ready("chat")
    before = identities(world.children("chat"))
    world.apply(aggregated("chat", podTemplate={"aggregated": _oversized()}))
    stack = world.wait(kinds.STACK, "chat", reports("Ready", "False", "Rejected"))
    message = condition(stack, "Applied")["message"]
    assert "Deployment chat-engine" in message
    assert "Too long" in message
    assert len(message) <= 2048
    assert len(json.dumps(stack["status"])) < 16_384
    assert identities(world.children("chat")) == before
    world.apply(aggregated("chat"))
    world.ready("chat")


def _oversized() -> Manifest:
    """Annotations may hold 256 KiB together."""
    return {"metadata": {"annotations": {"example.com/large": "x" * 300_000}}}
