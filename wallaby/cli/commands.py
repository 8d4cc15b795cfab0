"""``wallaby flow create|update|start|stop|resume|run-once|get|list|delete|validate|status``, and the other clients."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TextIO

from wallaby.cli import security
from wallaby.cli.connection import add_connection, add_switch, connection


def register(subparsers: Any) -> None:
    """Add the client commands to the subparsers of the ``wallaby`` parser (``dest="command"``)."""
    security.register(subparsers)
    flow = subparsers.add_parser("flow", help="create, steer and show the flows of a running wallaby")
    commands = flow.add_subparsers(dest="flow_command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, *, one_flow: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, allow_abbrev=False)
        add_connection(parser)
        if one_flow:
            parser.add_argument("flow", nargs="?", metavar="FLOW", help="the flow's id")
            parser.add_argument("--flow-id", metavar="FLOW", help="the flow's id, as the Go WALlaby names it")
        return parser

    create = add("create", "store a new flow", one_flow=False)
    create.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    add_switch(create, "--start", "start it at once")
    update = add("update", "replace a flow's definition", one_flow=False)
    update.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    update.add_argument("--flow-id", metavar="FLOW", help="update this flow, whatever id the file gives")
    add_switch(update, "--pause", "stop the flow and wait until it has drained, first")
    add_switch(update, "--resume", "resume it afterwards")
    add("start", "run a flow")
    stop = add("stop", "drain a flow and pause it")
    add_switch(stop, "--wait", "wait until it has drained")
    add("resume", "continue a paused flow")
    add("run-once", "run a flow up to the source's present position")
    add("get", "show a flow's definition and state")
    listing = add("list", "list the flows", one_flow=False)
    listing.add_argument("--page-size", type=int, default=0, metavar="N", help="flows per call (default 100)")
    add("delete", "remove a flow and its checkpoint; slot and targets stay")
    validate = add("validate", "check a flow file; without -endpoint nothing is connected", one_flow=False)
    validate.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    add("status", "show positions, rows and lag of a flow")


def run(arguments: argparse.Namespace, output: TextIO | None = None) -> int:
    """Run the command `register`'s parser read; the exit code. Raises our errors, `ConfigError` for wrong usage."""
    from wallaby.cli.flow import COMMANDS, validate_here
    from wallaby.cli.report import Report

    report = Report(output or sys.stdout, as_json=arguments.json or arguments.pretty, pretty=arguments.pretty)
    if arguments.command == "flow" and arguments.flow_command == "validate" and arguments.endpoint is None:
        return validate_here(Path(arguments.file), report)
    from wallaby.cli.client import connect

    command = security.command_of(arguments) or COMMANDS[arguments.flow_command]
    with connect(connection(arguments)) as client:
        return command(client, arguments, report)
