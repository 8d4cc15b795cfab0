"""What each ``wallaby flow`` command asks of the API, and what it prints."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.local import show_validity
from wallaby.cli.report import Report, table
from wallaby.client.sync import Client
from wallaby.client.values import Flow, Validity
from wallaby.errors import ConfigError, OutcomeUnknown
from wallaby.lifecycle import FlowState
from wallaby.v1 import types_pb2

if TYPE_CHECKING:
    from wallaby.flow import FlowSpec

EXIT_OK: Final = 0

_DRAIN_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.2

_Arguments = argparse.Namespace


def _create(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.create_flow(_read(arguments.file), start=arguments.start)
    report.show(_summary(flow), [f"Created flow {flow.id} (state={state_name(flow)})"])
    return EXIT_OK


def _update(client: Client, arguments: _Arguments, report: Report) -> int:
    spec = _read(arguments.file, flow_id=arguments.flow_id)
    if arguments.pause:
        client.stop_flow(spec.id)
        await_drained(client, spec.id)
    flow = client.update_flow(spec)
    if arguments.resume:
        flow = client.resume_flow(spec.id)
    report.show(_summary(flow), [f"Updated flow {flow.id} (state={state_name(flow)})"])
    return EXIT_OK


def _start(client: Client, arguments: _Arguments, report: Report) -> int:
    return _show_moved(report, "Started", client.start_flow(_flow_id(arguments)))


def _stop(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.stop_flow(_flow_id(arguments))
    if arguments.wait:
        flow = await_drained(client, flow.id)
    return _show_moved(report, "Stopped", flow)


def _pause(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.pause_flow(_flow_id(arguments))
    if arguments.wait:
        flow = await_drained(client, flow.id)
    return _show_moved(report, "Paused", flow)


def _resume(client: Client, arguments: _Arguments, report: Report) -> int:
    return _show_moved(report, "Resumed", client.resume_flow(_flow_id(arguments)))


def _run_once(client: Client, arguments: _Arguments, report: Report) -> int:
    flow_id = _flow_id(arguments)
    dispatched = client.run_flow_once(flow_id)
    report.show({"flow_id": flow_id, "dispatched": dispatched}, [f"Dispatched flow {flow_id}"])
    return EXIT_OK


def _get(client: Client, arguments: _Arguments, report: Report) -> int:
    import yaml

    flow = client.get_flow(_flow_id(arguments))
    value = {"state": state_name(flow), "revision": flow.revision, "reason": flow.reason, **_run(flow)}
    value |= flow.definition
    report.show(value, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).splitlines())
    return EXIT_OK


def _list(client: Client, arguments: _Arguments, report: Report) -> int:
    flows = list(client.list_flows(page_size=arguments.page_size))
    rows = [
        (flow.id, state_name(flow), flow.name, ", ".join(d.name for d in flow.message.destinations), _run_text(flow))
        for flow in flows
    ]
    lines = table(("ID", "STATE", "NAME", "DESTINATIONS", "RUN"), rows) if rows else ["No flows found."]
    lines += [f"{flow.id}: {flow.run.error}" for flow in flows if flow.run is not None and flow.run.retry_at]
    report.show({"count": len(flows), "flows": [_summary(flow) | _run(flow) for flow in flows]}, lines)
    return EXIT_OK


def _delete(client: Client, arguments: _Arguments, report: Report) -> int:
    flow_id = _flow_id(arguments)
    deleted = client.delete_flow(flow_id)
    report.show({"flow_id": flow_id, "deleted": deleted}, [f"Deleted flow {flow_id}"])
    return EXIT_OK


def _validate(client: Client, arguments: _Arguments, report: Report) -> int:
    spec = _read(arguments.file)
    answer = client.validate_flow(spec)
    _refuse(answer)
    show_validity(report, spec.id, answer.findings, answer.guarantees)
    return EXIT_OK


def _resolve_staging(client: Client, arguments: _Arguments, report: Report) -> int:
    """The copy is written like any other window: nothing waits in staging tables."""
    flow = client.get_flow(_flow_id(arguments))
    report.show({"flow_id": flow.id, "resolved": 0}, ["Resolved staging for 0 destinations"])
    return EXIT_OK


def _status(client: Client, arguments: _Arguments, report: Report) -> int:
    value = client.flow_status(_flow_id(arguments))
    report.show(value, _status_lines(value))
    return EXIT_OK


def _watch(client: Client, arguments: _Arguments, report: Report) -> int:
    flow_id = _flow_id(arguments) if arguments.flow or arguments.flow_id else ""
    for event in client.watch(flow_id, cursor=arguments.cursor):
        value = {
            "cursor": event.cursor,
            "flow_id": event.flow_id,
            "command": event.command,
            "before": event.before,
            "after": event.after,
            "reason": event.reason,
            "at": event.at.isoformat(),
        }
        move = f"{event.before} -> {event.after}" if event.before not in (None, event.after) else f"{event.after}"
        what = f"  {event.command}" if event.command else ""
        why = f"  {event.reason}" if event.reason else ""
        report.show(value, [f"{event.at:%H:%M:%S}  {event.flow_id}{what}  {move}{why}"])
    return EXIT_OK


COMMANDS: Final[Mapping[str, Callable[[Client, _Arguments, Report], int]]] = {
    "create": _create,
    "update": _update,
    "start": _start,
    "stop": _stop,
    "pause": _pause,
    "resume": _resume,
    "run-once": _run_once,
    "get": _get,
    "list": _list,
    "delete": _delete,
    "validate": _validate,
    "resolve-staging": _resolve_staging,
    "status": _status,
    "watch": _watch,
}
"""The commands by the word that follows ``wallaby flow``."""


def state_name(flow: Flow) -> str:
    """The state as the Go tool prints it: ``FLOW_STATE_RUNNING``; a number for one this client does not know."""
    value = types_pb2.FlowState.DESCRIPTOR.values_by_number.get(flow.message.state)
    return str(flow.message.state) if value is None else str(value.name)


def await_drained(client: Client, flow_id: str) -> Flow:
    """The flow once it no longer drains; `OutcomeUnknown` after two minutes."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        flow = client.get_flow(flow_id)
        if flow.state is not FlowState.STOPPING:
            return flow
        if time.monotonic() > deadline:
            raise OutcomeUnknown(
                f"the flow still drains after {_DRAIN_SECONDS:.0f} s",
                advice="Look at `wallaby flow status`",
                flow=flow_id,
            )
        time.sleep(_POLL_SECONDS)


def _read(path: str, *, flow_id: str | None = None) -> FlowSpec:
    """The flow of a file. Its options are checked by the server, which has the destinations' packages."""
    from wallaby.flow import FlowSpec
    from wallaby.flow.file import read_flow_file

    mapping = read_flow_file(Path(path))
    return FlowSpec.from_mapping(mapping | {"id": flow_id} if flow_id else mapping, with_options=False)


def _flow_id(arguments: _Arguments) -> str:
    given = {value for value in (arguments.flow, arguments.flow_id) if value}
    if len(given) != 1:
        raise ConfigError("flow-id is required" if not given else "two different flows are named", field="-flow-id")
    return str(given.pop())


def _show_moved(report: Report, word: str, flow: Flow) -> int:
    report.show({"id": flow.id, "state": state_name(flow)}, [f"{word} flow {flow.id} (state={state_name(flow)})"])
    return EXIT_OK


def _refuse(answer: Validity) -> None:
    if answer.problems:
        from wallaby.flow import InvalidFlow, Problem

        raise InvalidFlow(Problem(item["field"], item["message"], item["advice"]) for item in answer.problems)


def _summary(flow: Flow) -> dict[str, Any]:
    return {
        "id": flow.id,
        "name": flow.name,
        "state": state_name(flow),
        "wire_format": types_pb2.WireFormat.Name(flow.message.wire_format),
    }


def _run(flow: Flow) -> dict[str, Any]:
    """How the run goes, where there is one; the key is ours, the Go tool has no such thing."""
    if flow.run is None:
        return {}
    retry_at = None if flow.run.retry_at is None else flow.run.retry_at.isoformat(timespec="milliseconds")
    return {"run": asdict(flow.run) | {"retry_at": retry_at}}


def _run_text(flow: Flow) -> str:
    run = flow.run
    if run is None:
        return ""
    restarts = f", {run.restarts} restarts" if run.restarts else ""
    return f"{run.phase} until {run.retry_at:%H:%M:%S}{restarts}" if run.retry_at else f"{run.phase}{restarts}"


def _status_lines(status: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Flow {status.get('flow')}: {status.get('state')}, {status.get('phase')}, epoch {status.get('epoch')},"
        f" {status.get('restarts')} restarts",
        f"  server {status.get('server')}  received {status.get('received')}  confirmed {status.get('confirmed')}",
    ]
    lanes = [
        (lane["destination"], lane["index"], lane["state"], lane["position"], lane["rows"], lane["lag_bytes"])
        for lane in status.get("lanes", ())
    ]
    if lanes:
        lines += table(("DESTINATION", "LANE", "STATE", "POSITION", "ROWS", "LAG BYTES"), lanes)
    tables = [(item["table"], item["rows"], item["copied"]) for item in status.get("tables", ())]
    if tables:
        lines += table(("TABLE", "ROWS", "COPIED"), tables)
    if care := status.get("care"):
        lines += _care_lines(care)
    if copy := status.get("snapshot"):
        done = f"{copy['tables_done']} of {copy['tables']} tables"
        wanted = ", a new copy is wanted" if copy["wanted"] else ""
        lines.append(f"  copy {copy['state']}, {copy['copied_rows']} rows, {done}{wanted}")
    if status.get("error"):
        lines.append(f"  {status['error']}")
    if status.get("retry_at"):
        lines.append(f"  tried again at {status['retry_at']}")
    return lines


def _care_lines(care: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tables of lakes were like at their last turn of care, and why one failed."""
    rows = []
    for one in care:
        condition = one["condition"]
        numbers = (condition["files"], condition["small_files"], condition["delete_files"], condition["versions"])
        done = "failed" if one["failure"] else ", ".join(one["done"]) or "-"
        rows.append((one["destination"], one["table"] or "-", *numbers, one["ended_at"] or "-", done))
    header = ("DESTINATION", "LAKE TABLE", "FILES", "SMALL", "DELETE FILES", "SNAPSHOTS", "LAST TURN", "DONE")
    failures = [f"  care for {one['table'] or one['destination']}: {one['failure']}" for one in care if one["failure"]]
    return [*table(header, rows), *failures]
