"""``wallaby flow create|update|start|stop|resume|run-once|get|list|delete|validate|status``; ``wallaby stream …``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TextIO

from wallaby.cli import stream
from wallaby.errors import ConfigError


def register(subparsers: Any) -> None:
    """Add ``flow``, ``stream`` and their commands to the subparsers of the ``wallaby`` parser (``dest="command"``)."""
    stream.register(subparsers, _common)
    flow = subparsers.add_parser("flow", help="create, steer and show the flows of a running wallaby")
    commands = flow.add_subparsers(dest="flow_command", required=True, metavar="COMMAND")

    def add(name: str, help_text: str, *, one_flow: bool = True) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, allow_abbrev=False)
        _common(parser)
        if one_flow:
            parser.add_argument("flow", nargs="?", metavar="FLOW", help="the flow's id")
            parser.add_argument("--flow-id", metavar="FLOW", help="the flow's id, as the Go WALlaby names it")
        return parser

    create = add("create", "store a new flow", one_flow=False)
    create.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    _switch(create, "--start", "start it at once")
    update = add("update", "replace a flow's definition", one_flow=False)
    update.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    update.add_argument("--flow-id", metavar="FLOW", help="update this flow, whatever id the file gives")
    _switch(update, "--pause", "stop the flow and wait until it has drained, first")
    _switch(update, "--resume", "resume it afterwards")
    add("start", "run a flow")
    stop = add("stop", "drain a flow and pause it")
    _switch(stop, "--wait", "wait until it has drained")
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
    from wallaby.cli.report import Report

    if not arguments.insecure:
        raise ConfigError("TLS is not supported yet", field="-insecure", advice="Use an SSH tunnel or a proxy with TLS")
    report = Report(output or sys.stdout, as_json=arguments.json or arguments.pretty, pretty=arguments.pretty)
    if arguments.command == "flow" and arguments.flow_command == "validate" and arguments.endpoint is None:
        from wallaby.cli.flow import validate_here

        return validate_here(Path(arguments.file), report)
    from wallaby.cli.client import DEFAULT_ENDPOINT, connect

    with connect(arguments.endpoint or DEFAULT_ENDPOINT) as client:
        if arguments.command == "stream":
            return stream.COMMANDS[arguments.stream_command](client, arguments, report)
        from wallaby.cli.flow import COMMANDS

        return COMMANDS[arguments.flow_command](client, arguments, report)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endpoint", metavar="HOST:PORT", help="the API (default localhost:8080)")
    _switch(parser, "--insecure", "connect without TLS", default=True)
    _switch(parser, "--json", "print JSON on one line")
    _switch(parser, "--pretty", "print JSON, indented")


def _switch(parser: argparse.ArgumentParser, name: str, help_text: str, *, default: bool = False) -> None:
    parser.add_argument(name, action=argparse.BooleanOptionalAction, default=default, help=help_text)
