"""``wallaby plan|apply|diff``: flow files as the wanted state, and what leads there.

The server is asked flow by flow what would change, and applies with the revision the plan was made for: what somebody
else changes in between is never overwritten. A flow that runs is drained, changed and resumed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command, connected
from wallaby.cli.connection import add_connection, add_switch
from wallaby.errors import AlreadyExists, ConfigError, NotFound, WallabyError
from wallaby.lifecycle import FlowState

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Client
    from wallaby.flow import FlowSpec
    from wallaby.flow.plan import FlowPlan

EXIT_OK: Final = 0
EXIT_DRIFT: Final = 2

_RUNS: Final = (FlowState.RUNNING, FlowState.STOPPING)
_VALUE_CHARACTERS: Final = 100
_MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "create": ("+", "32"),
    "update": ("~", "33"),
    "delete": ("-", "31"),
}
_WARNING: Final = "1;31"


def register(subparsers: Any) -> None:
    """Add the three commands."""
    commands: tuple[tuple[str, str, Callable[[argparse.Namespace, Report], int]], ...] = (
        ("plan", "show what would make the flows as their files want them; changes nothing", plan),
        ("apply", "make the flows as their files want them", apply),
        ("diff", "as plan; ends with 2 when something differs, with 0 when nothing does", diff),
    )
    for name, help_text, handler in commands:
        parser = add_command(subparsers, name, help_text, handler)
        parser.add_argument(
            *("-f", "--file"),
            action="append",
            required=True,
            metavar="PATH",
            help="a flow file, or a directory of them; may be given several times",
        )
        add_switch(parser, "--prune", "delete the flows that no file holds")
        add_connection(parser)
        if name == "apply":
            add_switch(parser, "--start", "start the flows it creates")
            add_switch(parser, "--yes", "make changes that lose something without asking")


@dataclass(frozen=True, slots=True)
class WantedFlow:
    """A flow of a file."""

    spec: FlowSpec
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is to be done with one flow."""

    plan: FlowPlan
    wanted: WantedFlow | None
    state: FlowState | None
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WholePlan:
    """What is to be done with all of them, in the order in which it is done."""

    steps: tuple[Step, ...]
    unmanaged: tuple[str, ...]
    """Flows that no file holds and that stay."""

    def count(self, action: str) -> int:
        """How many flows take this action."""
        return sum(step.plan.action == action for step in self.steps)

    @property
    def destructive(self) -> int:
        """How many changes lose something."""
        return sum(bool(change.destructive) for step in self.steps for change in step.plan.changes)

    @property
    def due(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.plan.action != "none")


def plan(arguments: argparse.Namespace, report: Report) -> int:
    """Show what would change."""
    with connected(arguments) as client:
        _show(report, _make_plan(client, arguments))
    return EXIT_OK


def diff(arguments: argparse.Namespace, report: Report) -> int:
    """Show what would change; 2 when something would."""
    with connected(arguments) as client:
        made = _make_plan(client, arguments)
        _show(report, made)
    return EXIT_DRIFT if made.due else EXIT_OK


def apply(arguments: argparse.Namespace, report: Report) -> int:
    """Change it. Stops at the first failure; what was done before stays done, and a repeated apply goes on."""
    from wallaby.cli.report import Report as AnyReport

    # With JSON, the plan and the progress are for people, who read the other stream.
    spoken = AnyReport(sys.stderr) if report.is_json else report
    with connected(arguments) as client:
        made = _make_plan(client, arguments)
        _show(spoken, made)
        if made.destructive and not arguments.yes:
            _confirm(made.destructive)
        done: list[dict[str, str]] = []
        for step in made.due:
            value, line = _take(client, step, start=arguments.start)
            done.append(value)
            spoken.show(value, [line])
    if report.is_json:
        report.show(_counts(made) | {"applied": done}, ())
    return EXIT_OK


def read_wanted(paths: Iterable[str], *, with_options: bool = False) -> list[WantedFlow]:
    """Every flow of the files and directories; a `ConfigError` that lists everything wrong with any of them.

    ``with_options`` checks the endpoints' options too, which needs the destinations' packages.
    """
    from wallaby.flow import FlowSpec, InvalidFlow, Problem
    from wallaby.flow.file import flow_files, read_flow_documents
    from wallaby.flow.storable import refuse_literal_secrets

    found: list[WantedFlow] = []
    problems: list[Problem] = []
    for document in (item for path in paths for file in flow_files(Path(path)) for item in read_flow_documents(file)):
        try:
            spec = FlowSpec.from_mapping(document.mapping, with_options=with_options)
            if not with_options:
                refuse_literal_secrets(spec)
        except InvalidFlow as error:
            problems += [
                Problem(f"{document.place}: {p.path}".rstrip(": "), p.message, p.advice) for p in error.problems
            ]
        else:
            problems += _collisions(document.place, spec, found)
            found.append(WantedFlow(spec, document.place))
    if problems:
        raise InvalidFlow(problems, what="the files")
    return found


def _collisions(place: str, spec: FlowSpec, found: list[WantedFlow]) -> list[Any]:
    from wallaby.flow import Problem

    problems = []
    for other in found:
        if other.spec.id == spec.id:
            problems.append(
                Problem(place, f"flow {spec.id} is in {other.place} already", "Give one of them another id")
            )
        elif _slot(other.spec) == _slot(spec):
            advice = "Give source.options.slot a name of its own"
            problems.append(Problem(place, f"flow {other.spec.id} in {other.place} reads from the same slot", advice))
    return problems


def _slot(spec: FlowSpec) -> tuple[str, str]:
    from wallaby.flow import default_slot

    options = spec.source.options
    return str(options.get("dsn")), str(options.get("slot") or default_slot(spec.id))


def _make_plan(client: Client, arguments: argparse.Namespace) -> WholePlan:
    from wallaby.flow.plan import plan_deletion

    wanted = read_wanted(arguments.file)
    present = {flow.id: flow for flow in client.list_flows()}
    others = [flow_id for flow_id in present if flow_id not in {item.spec.id for item in wanted}]
    leaving = others if arguments.prune else []
    # Deletions first: what comes may need their slots.
    steps = [
        Step(plan=plan_deletion(flow_id), wanted=None, state=present[flow_id].state, revision=0) for flow_id in leaving
    ]
    refused: list[str] = []
    for item in wanted:
        try:
            planned = client.plan_flow(item.spec, deleted=leaving)
        except (ConfigError, AlreadyExists) as error:
            refused.append(f"{item.place}: {error.message}")
        else:
            steps.append(Step(plan=planned.plan, wanted=item, state=planned.state, revision=planned.revision))
    if refused:
        raise ConfigError("\n".join(refused))
    return WholePlan(steps=tuple(steps), unmanaged=() if arguments.prune else tuple(others))


def _confirm(destructive: int) -> None:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"the plan has {destructive} changes that lose something",
            field="--yes",
            advice="Look at them, then add --yes",
        )
    print(f"{destructive} changes lose something. Type yes to make them: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise WallabyError("nothing was changed")


def _take(client: Client, step: Step, *, start: bool) -> tuple[dict[str, str], str]:
    from wallaby.cli.flow import await_drained, state_name

    flow_id, action = step.plan.flow, step.plan.action.value
    if action == "create":
        assert step.wanted is not None
        flow = client.create_flow(step.wanted.spec, start=start)
    else:
        runs = step.state in _RUNS
        if runs:
            client.stop_flow(flow_id)
            await_drained(client, flow_id)
        if action == "delete":
            with suppress(NotFound):  # somebody was faster, and wanted the same
                client.delete_flow(flow_id)
            return {"id": flow_id, "action": action}, f"Deleted flow {flow_id}"
        assert step.wanted is not None
        try:
            flow = client.update_flow(step.wanted.spec, expected_revision=step.revision)
        finally:
            # Also when the change was refused: the flow ran before, and goes on as it was.
            if step.state is FlowState.RUNNING:
                resumed = client.resume_flow(flow_id)
        flow = resumed if step.state is FlowState.RUNNING else flow
    word = "Created" if action == "create" else "Updated"
    value = {"id": flow_id, "action": action, "state": state_name(flow)}
    return value, f"{word} flow {flow_id} (state={state_name(flow)})"


def _show(report: Report, made: WholePlan) -> None:
    flows = [
        {
            "id": step.plan.flow,
            "action": step.plan.action.value,
            "file": step.wanted.place if step.wanted else None,
            "state": step.state,
            "revision": step.revision,
            "changes": [
                {
                    "field": change.path,
                    "before": change.before,
                    "after": change.after,
                    "destructive": change.destructive or None,
                }
                for change in step.plan.changes
            ],
        }
        for step in made.steps
    ]
    report.show(_counts(made) | {"unmanaged": list(made.unmanaged), "flows": flows}, _lines(made, report.paint))


def _counts(made: WholePlan) -> dict[str, Any]:
    counts = {action: made.count(action) for action in ("create", "update", "delete")}
    return counts | {"unchanged": made.count("none"), "destructive": made.destructive}


def _lines(made: WholePlan, paint: Callable[[str, str], str]) -> list[str]:
    lines: list[str] = []
    for step in made.due:
        action = step.plan.action.value
        mark, colour = _MARKS[action]
        place = f" ({step.wanted.place})" if step.wanted else ""
        lines.append(paint(f"{mark} {action} {step.plan.flow}", colour) + place)
        if step.state in _RUNS:
            lines.append(f"    it runs: it will be drained{'' if action == 'delete' else ', changed and resumed'}")
        for change in step.plan.changes:
            if action != "delete":
                before = f"{_short(change.before)} -> " if action == "update" else ""
                lines.append(f"    {change.path}: {before}{_short(change.after)}")
            if change.destructive:
                lines.append(paint(f"      ! {change.destructive}", _WARNING))
    counts = _counts(made)
    if made.unmanaged:
        lines.append(f"In no file, and left alone: {', '.join(made.unmanaged)}")
    words = ", ".join(f"{counts[action]} to {action}" for action in ("create", "update", "delete"))
    lines.append(f"Plan: {words}, {counts['unchanged']} unchanged.")
    if counts["destructive"]:
        lines.append(paint(f"{counts['destructive']} changes lose something.", _WARNING))
    return lines


def _short(value: Any) -> str:
    import json

    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = "".join(character if character.isprintable() else "?" for character in text)
    return plain if len(plain) <= _VALUE_CHARACTERS else f"{plain[:_VALUE_CHARACTERS]}…"
