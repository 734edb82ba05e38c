"""The mutations: one known bug each, as a replacement in one file of the operator, and the tests that must fail.

The checks are numbered as in docs/checks.md. `find` occurs exactly once in its file (tests/unit/test_checks.py).
"""

from dataclasses import dataclass

__all__ = ["MUTATIONS", "Mutation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One bug.

    Attributes:
        check: number in docs/checks.md.
        what: the bug in one sentence.
        file: below operator/agentic_serving/.
        tests: node ids; each of them alone must fail with the bug and pass without.
    """

    check: int
    what: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]


_CONTROLLER = "tests/unit/controller"
_STACK = f"{_CONTROLLER}/test_stack.py"
_PLAN = "tests/unit/render/test_plan.py"

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        check=1,
        what="a restarted operator knows only what it made itself: what a crash left behind is never deleted",
        file="controller/intake.py",
        find="            else:\n                self._child(kind, item, deleted=False)",
        replace="            else:\n                continue",
        tests=(
            f"{_CONTROLLER}/test_faults.py::test_a_failure_at_any_call_changes_nothing_in_the_end[crash-before]",
        ),
    ),
    Mutation(
        check=2,
        what="a deletion that no event told is not looked into when a list shows it",
        file="controller/census.py",
        find="                self._intake.vanished(kind, gone)",
        replace="                del gone",
        tests=(f"{_CONTROLLER}/test_census.py::test_a_deletion_that_nobody_told_is_found",),
    ),
    Mutation(
        check=2,
        what="the last event to arrive wins, however old it is",
        file="cluster/store.py",
        find="if old and old.uid == new.uid and not _is_newer(",
        replace="if False and not _is_newer(",
        tests=(
            f"{_CONTROLLER}/test_census.py::test_events_dropped_repeated_and_reordered_change_nothing_in_the_end",
        ),
    ),
    Mutation(
        check=3,
        what="objects are deleted by a plan made from an old view of the spec",
        file="controller/apply.py",
        find="        return []\n    await _check_newest(parts, work)\n",
        replace="        return []\n",
        tests=(f"{_STACK}::test_a_stale_view_of_the_spec_deletes_nothing",),
    ),
    Mutation(
        check=3,
        what="objects are created for a stack that is gone, since its deletion was not heard",
        file="controller/apply.py",
        find="        await _check_newest(parts, work)\n    live = ",
        replace="        pass\n    live = ",
        tests=(
            f"{_CONTROLLER}/test_stale.py::test_check_03_a_stack_whose_deletion_was_lost_gets_no_children_again",
        ),
    ),
    Mutation(
        check=4,
        what="a status goes to whatever object has the name now",
        file="controller/status.py",
        find=', "uid": metadata["uid"]},',
        replace="},",
        tests=(f"{_CONTROLLER}/test_status.py::test_a_recreated_object_is_not_written_by_mistake",),
    ),
    Mutation(
        check=4,
        what="objects of an earlier stack of the same name are taken for our own",
        file="controller/apply.py",
        find='if owner is not None and owner.get("uid") != work.uid:',
        replace='if owner is not None and owner.get("name") != work.key.name:',
        tests=(f"{_STACK}::test_a_recreated_stack_waits_for_its_predecessors_objects",),
    ),
    Mutation(
        check=5,
        what="what an earlier spec asked for is never removed",
        file="controller/apply.py",
        find="    if not extra or any(",
        replace="    if extra or any(",
        tests=(f"{_CONTROLLER}/test_faults.py::test_a_to_b_equals_fresh_b_and_back_again",),
    ),
    Mutation(
        check=6,
        what="an invalid spec is carried out as far as it could be read",
        file="controller/stack.py",
        find="        if stack is None or errors(findings):",
        replace="        if stack is None:",
        tests=(f"{_STACK}::test_bad_input_is_told_and_touches_nothing_and_its_repair_needs_no_restart",),
    ),
    Mutation(
        check=7,
        what="a field of the spec has no effect",
        file="render/engine.py",
        find="        context_length=spec.model.context_length,",
        replace="        context_length=None,",
        tests=(
            "tests/unit/render/test_edits.py::test_an_edit_changes_what_reads_it_and_rolls_nothing_else"
            "[stack-model.contextLength]",
        ),
    ),
    Mutation(
        check=7,
        what="a field that is removed from a child's desired state stays in the child",
        file="cluster/diff.py",
        find='        if field.startswith("f:") and field[2:] not in wanted:',
        replace='        if field.startswith("x:") and field[2:] not in wanted:',
        tests=(
            "tests/unit/cluster/test_diff.py::test_there_is_a_reason_exactly_when_an_apply_changes_something",
        ),
    ),
    Mutation(
        check=8,
        what="a stack scaled to zero waits for a replica that nobody asked for",
        file="controller/observe.py",
        find="    down = [r for r in engines if r.wanted > 0 and r.ready == 0]",
        replace="    down = [r for r in engines if r.ready == 0]",
        tests=(f"{_STACK}::test_zero_replicas_and_back",),
    ),
    Mutation(
        check=9,
        what="a deleted child wakes nobody",
        file="controller/intake.py",
        find="            if self._store.remove(kind, obj):\n                self._wake(owner_key(obj))",
        replace="            self._store.remove(kind, obj)",
        tests=(f"{_STACK}::test_a_deleted_child_comes_back[Service/chat]",),
    ),
    Mutation(
        check=10,
        what="an object of somebody else is overwritten because it has the name that we need",
        file="controller/apply.py",
        find="    if owner is None and not _is_ours_without_owner(work, live):",
        replace="    if False:",
        tests=(f"{_STACK}::test_a_foreign_object_of_the_same_name_is_not_touched",),
    ),
    Mutation(
        check=10,
        what="an object of somebody else is deleted because it carries a copy of our labels",
        file="controller/apply.py",
        find='    return owner is not None and owner.get("uid") == work.uid and "deletionTimestamp"',
        replace='    return "deletionTimestamp"',
        tests=(f"{_CONTROLLER}/test_foreign.py::test_check_10_a_copy_of_our_labels_makes_nothing_ours",),
    ),
    Mutation(
        check=11,
        what="children have no owner, so a deleted stack leaves them running",
        file="render/manifest.py",
        find='        if self.uid:\n            metadata["ownerReferences"]',
        replace='        if False:\n            metadata["ownerReferences"]',
        tests=(f"{_STACK}::test_a_deleted_stack_is_left_to_garbage_collection",),
    ),
    Mutation(
        check=12,
        what="what we own is forgotten, so every pass applies everything again",
        file="controller/census.py",
        find='"managedFields": ours}',
        replace='"managedFields": []}',
        tests=(f"{_STACK}::test_nothing_is_read_or_written_at_rest",),
    ),
    Mutation(
        check=12,
        what="two statuses that say the same are different where their keys are in another order",
        file="api/conditions.py",
        find="for k, v in sorted(value.items())",
        replace="for k, v in value.items()",
        tests=("tests/unit/api/test_conditions.py::test_the_order_of_keys_makes_no_difference",),
    ),
    Mutation(
        check=13,
        what="a Deployment counts as complete before its controller has seen the newest spec",
        file="controller/observe.py",
        find='    current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0)',
        replace="    current = True",
        tests=(f"{_CONTROLLER}/test_observe.py::test_complete_is_exactly_what_was_asked[spec not seen yet]",),
    ),
    Mutation(
        check=14,
        what="the time that an overloaded API server asks for is not waited",
        file="controller/worker.py",
        find="self._queue.retry(key, at_least_s=asked_s or 0.0)",
        replace="self._queue.retry(key, at_least_s=0.0 * (asked_s or 0.0))",
        tests=(f"{_STACK}::test_a_hiccup_of_the_api_server_is_not_news",),
    ),
    Mutation(
        check=15,
        what="one refused kind ends the whole pass",
        file="controller/apply.py",
        find='            problems.append(Problem(kind=kind, name=body["metadata"]["name"], error=error))',
        replace="            raise",
        tests=(f"{_STACK}::test_a_refused_kind_degrades_only_its_part[forbidden]",),
    ),
    Mutation(
        check=15,
        what="one kind of child that may not be read keeps the operator from starting",
        file="controller/census.py",
        find="            if kind.kind in OWN_KINDS:\n                raise",
        replace="            if error:\n                raise",
        tests=(
            f"{_CONTROLLER}/test_census.py::test_a_child_kind_that_may_not_be_read_is_left_out_and_tried_again",
        ),
    ),
    Mutation(
        check=16,
        what="two stacks whose long names differ at the end share their children",
        file="names.py",
        find='    return f"{head}-{digest}-{suffix}" if suffix',
        replace='    return f"{head}-{suffix}" if suffix',
        tests=(f"{_PLAN}::test_long_names_that_differ_at_the_end_share_no_object",),
    ),
    Mutation(
        check=17,
        what="the router's configuration hash covers metadata, so an upgrade that adds a label restarts every router",
        file="render/router.py",
        find="canonical_hash(_read_once(basis, config))",
        replace='canonical_hash([_read_once(basis, config), config.body["metadata"]])',
        tests=("tests/unit/render/test_template_hashes.py::test_check_17_an_upgrade_restarts_no_pods",),
    ),
    Mutation(
        check=18,
        what="a standby takes the lease while its holder may still lead",
        file="cluster/lease.py",
        find="        return self._age_s(self._seen_s) > duration_s",
        replace="        return self._age_s(self._seen_s) > duration_s / 3",
        tests=(
            "tests/unit/cluster/test_lease.py::"
            "test_a_dead_leader_is_replaced_after_the_lease_duration_and_not_before",
        ),
    ),
    Mutation(
        check=18,
        what="a leader that could not renew goes on as before",
        file="controller/apply.py",
        find="if not parts.fresh():",
        replace="if parts is None:",
        tests=(f"{_STACK}::test_nothing_is_deleted_without_a_fresh_lease",),
    ),
    Mutation(
        check=19,
        what="the age of a lease is told by comparing two machines' wall clocks",
        file="cluster/lease.py",
        find="        return self._age_s(self._seen_s) > duration_s",
        replace="        written = datetime.strptime(_spec(self._seen)['renewTime'], '%Y-%m-%dT%H:%M:%S.%f%z')\n"
        "        return (self._clock.now() - written).total_seconds() > duration_s",
        tests=("tests/unit/cluster/test_lease.py::test_never_two_fresh_leaders_and_one_in_the_end",),
    ),
    Mutation(
        check=20,
        what="the output follows the order in which programs arrived",
        file="render/programs.py",
        find="    return sorted(basis.inputs.programs, key=lambda p: (p.metadata.namespace, p.metadata.name))",
        replace="    return list(basis.inputs.programs)",
        tests=(f"{_PLAN}::test_the_order_of_programs_does_not_matter",),
    ),
    Mutation(
        check=21,
        what="an object that flaps floods the cluster with Events",
        file="controller/recorder.py",
        find="        allowed = tokens >= 1",
        replace="        allowed = True",
        tests=(f"{_CONTROLLER}/test_status.py::test_events_are_bounded_per_object",),
    ),
    Mutation(
        check=21,
        what="a broken watch fills the log with its attempts",
        file="logs.py",
        find='    handler.addFilter(_Seldom("kopf", _KOPF_LINES_PER_MIN))\n',
        replace="",
        tests=(f"{_CONTROLLER}/test_process.py::test_kopf_cannot_flood_the_log",),
    ),
    Mutation(
        check=22,
        what="values enter the templates as they are and become structure",
        file="render/templates.py",
        find="    return _Json(_SURROGATES.sub(_join_surrogates, json.dumps(value)))",
        replace="    return _Json(value if isinstance(value, str) else json.dumps(value))",
        tests=(f"{_PLAN}::test_hostile_strings_stay_data",),
    ),
    Mutation(
        check=22,
        what="a percent sign in a name is read as one of Envoy's own variables",
        file="render/envoy_routes.py",
        find='    return text.replace("%", "%%")',
        replace="    return text",
        tests=("tests/unit/render/test_envoy.py::test_percent_signs_of_names_stay_data",),
    ),
)
