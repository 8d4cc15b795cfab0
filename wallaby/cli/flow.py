"""What each ``wallaby flow`` command asks of the API, and what it prints."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf import json_format

from wallaby.api.conversion import mapping_from_message, message_from_spec
from wallaby.cli.client import Client
from wallaby.cli.report import Report, table
from wallaby.errors import ConfigError, OutcomeUnknown
from wallaby.flow import FlowSpec, InvalidFlow
from wallaby.flow.file import read_flow_file
from wallaby.flow.storable import refuse_literal_secrets
from wallaby.v1 import flow_pb2, types_pb2

EXIT_OK: Final = 0

_DRAIN_SECONDS: Final = 120.0
_POLL_SECONDS: Final = 0.2

_Arguments = argparse.Namespace
_State = types_pb2.FlowState


def validate_here(path: Path, report: Report) -> int:
    """Check a flow file in this process, without a connection."""
    spec = FlowSpec.from_file(path)
    guarantees = {item.name: str(spec.capabilities(item.name).guarantee) for item in spec.destinations}
    return _show_validity(report, spec.id, (), spec.findings(), guarantees)


def _create(client: Client, arguments: _Arguments, report: Report) -> int:
    request = flow_pb2.CreateFlowRequest(flow=_read(arguments.file), start_immediately=arguments.start)
    flow = client.call("CreateFlow", request)
    report.show(_summary(flow), [f"Created flow {flow.id} (state={_state(flow)})"])
    return EXIT_OK


def _update(client: Client, arguments: _Arguments, report: Report) -> int:
    message = _read(arguments.file, flow_id=arguments.flow_id)
    if arguments.pause:
        client.call("StopFlow", flow_pb2.StopFlowRequest(flow_id=message.id))
        _await_drained(client, message.id)
    flow = client.call("UpdateFlow", flow_pb2.UpdateFlowRequest(flow=message))
    if arguments.resume:
        flow = client.call("ResumeFlow", flow_pb2.ResumeFlowRequest(flow_id=message.id))
    report.show(_summary(flow), [f"Updated flow {flow.id} (state={_state(flow)})"])
    return EXIT_OK


def _start(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.call("StartFlow", flow_pb2.StartFlowRequest(flow_id=_flow_id(arguments)))
    return _show_moved(report, "Started", flow)


def _stop(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.call("StopFlow", flow_pb2.StopFlowRequest(flow_id=_flow_id(arguments)))
    if arguments.wait:
        flow = _await_drained(client, flow.id)
    return _show_moved(report, "Stopped", flow)


def _resume(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.call("ResumeFlow", flow_pb2.ResumeFlowRequest(flow_id=_flow_id(arguments)))
    return _show_moved(report, "Resumed", flow)


def _run_once(client: Client, arguments: _Arguments, report: Report) -> int:
    flow_id = _flow_id(arguments)
    answer = client.call("RunFlowOnce", flow_pb2.RunFlowOnceRequest(flow_id=flow_id))
    report.show({"flow_id": flow_id, "dispatched": answer.dispatched}, [f"Dispatched flow {flow_id}"])
    return EXIT_OK


def _get(client: Client, arguments: _Arguments, report: Report) -> int:
    flow = client.call("GetFlow", flow_pb2.GetFlowRequest(flow_id=_flow_id(arguments)))
    definition, _ = mapping_from_message(flow)
    value = {"state": _state(flow), "revision": flow.revision, "reason": flow.reason} | definition
    report.show(value, yaml.safe_dump(value, sort_keys=False, allow_unicode=True).splitlines())
    return EXIT_OK


def _list(client: Client, arguments: _Arguments, report: Report) -> int:
    flows: list[types_pb2.Flow] = []
    token = ""
    while True:
        request = flow_pb2.ListFlowsRequest(page_size=arguments.page_size, page_token=token)
        answer = client.call("ListFlows", request)
        flows.extend(answer.flows)
        token = answer.next_page_token
        if not token:
            break
    rows = [
        (flow.id, _state(flow), flow.name, ", ".join(destination.name for destination in flow.destinations))
        for flow in flows
    ]
    lines = table(("ID", "STATE", "NAME", "DESTINATIONS"), rows) if rows else ["No flows found."]
    report.show({"count": len(flows), "flows": [_summary(flow) for flow in flows]}, lines)
    return EXIT_OK


def _delete(client: Client, arguments: _Arguments, report: Report) -> int:
    flow_id = _flow_id(arguments)
    answer = client.call("DeleteFlow", flow_pb2.DeleteFlowRequest(flow_id=flow_id))
    report.show({"flow_id": flow_id, "deleted": answer.deleted}, [f"Deleted flow {flow_id}"])
    return EXIT_OK


def _validate(client: Client, arguments: _Arguments, report: Report) -> int:
    message = _read(arguments.file)
    answer = client.call("ValidateFlow", flow_pb2.ValidateFlowRequest(flow=message))
    return _show_validity(report, message.id, answer.problems, answer.findings, dict(answer.guarantees))


def _status(client: Client, arguments: _Arguments, report: Report) -> int:
    answer = client.call("GetFlowStatus", flow_pb2.GetFlowStatusRequest(flow_id=_flow_id(arguments)))
    value = json.loads(json_format.MessageToJson(answer.status), parse_float=_whole)
    report.show(value, _status_lines(value))
    return EXIT_OK


COMMANDS: Final[Mapping[str, Callable[[Client, _Arguments, Report], int]]] = {
    "create": _create,
    "update": _update,
    "start": _start,
    "stop": _stop,
    "resume": _resume,
    "run-once": _run_once,
    "get": _get,
    "list": _list,
    "delete": _delete,
    "validate": _validate,
    "status": _status,
}
"""The commands by the word that follows ``wallaby flow``."""


def _read(path: str, *, flow_id: str | None = None) -> types_pb2.Flow:
    """The flow of a file. Its options are checked by the server, which has the destinations' packages."""
    mapping = read_flow_file(Path(path))
    spec = FlowSpec.from_mapping(mapping | {"id": flow_id} if flow_id else mapping, with_options=False)
    refuse_literal_secrets(spec)
    return message_from_spec(spec)


def _flow_id(arguments: _Arguments) -> str:
    given = {value for value in (arguments.flow, arguments.flow_id) if value}
    if len(given) != 1:
        raise ConfigError("flow-id is required" if not given else "two different flows are named", field="-flow-id")
    return str(given.pop())


def _await_drained(client: Client, flow_id: str) -> types_pb2.Flow:
    deadline = time.monotonic() + _DRAIN_SECONDS
    while True:
        flow: types_pb2.Flow = client.call("GetFlow", flow_pb2.GetFlowRequest(flow_id=flow_id))
        if flow.state != _State.FLOW_STATE_STOPPING:
            return flow
        if time.monotonic() > deadline:
            raise OutcomeUnknown(
                f"the flow still drains after {_DRAIN_SECONDS:.0f} s",
                advice="Look at `wallaby flow status`",
                flow=flow_id,
            )
        time.sleep(_POLL_SECONDS)


def _show_moved(report: Report, word: str, flow: types_pb2.Flow) -> int:
    report.show({"id": flow.id, "state": _state(flow)}, [f"{word} flow {flow.id} (state={_state(flow)})"])
    return EXIT_OK


def _show_validity(report: Report, flow_id: str, problems: Any, findings: Any, guarantees: Mapping[str, str]) -> int:
    if problems:
        from wallaby.flow import Problem

        raise InvalidFlow(Problem(item.field, item.message, item.advice) for item in problems)
    shown = [
        {name: str(getattr(item, name)) for name in ("severity", "subject", "message", "advice", "code")}
        for item in findings
    ]
    value = {"id": flow_id, "valid": True, "findings": shown, "guarantees": dict(guarantees)}
    lines = [f"Flow {flow_id} is valid"]
    lines += [f"  {name}: {guarantee}" for name, guarantee in guarantees.items()]
    lines += [f"  {f['severity']}: {f['subject']} {f['message']}. {f['advice']}" for f in shown]
    report.show(value, lines)
    return EXIT_OK


def _summary(flow: types_pb2.Flow) -> dict[str, Any]:
    return {
        "id": flow.id,
        "name": flow.name,
        "state": _state(flow),
        "wire_format": types_pb2.WireFormat.Name(flow.wire_format),
    }


def _state(flow: types_pb2.Flow) -> str:
    try:
        return _State.Name(flow.state)
    except ValueError:
        return str(flow.state)


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
    if status.get("error"):
        lines.append(f"  {status['error']}")
    return lines


def _whole(text: str) -> int | float:
    # A Struct holds every number as a double.
    number = float(text)
    return int(number) if number.is_integer() else number
