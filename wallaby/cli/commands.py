"""The command line of a running wallaby: every command, its flags, and who answers it. Nothing heavy is imported here.

Each group of commands lives in a module of its own that adds its parsers and names a handler; a handler is imported and
called when its command was given. Flags and words are the Go WALlaby's where it had them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TextIO

from wallaby.cli.connection import add_connection, add_switch, connection

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Client

Handler = Callable[[argparse.Namespace, "Report"], int]
"""Runs a command; the exit code. Raises our errors, `ConfigError` for wrong usage."""
ClientWork = Callable[["Client", argparse.Namespace, "Report"], int]
"""The same, through a connection to the API."""

_GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "wanted": ("plan", "apply", "diff"),
    "local": ("validate", "schema"),
    "types": ("types",),
    "interview": ("init",),
    "snapshot": ("snapshot",),
    "ddl": ("ddl",),
    "dead_letter": ("dead-letter",),
    "publication": ("publication",),
    "slot": ("slot",),
    "checkpoint": ("checkpoint",),
    "stream": ("stream",),
    "security": ("token", "secret", "audit"),
    "completion": (),
}
"""Modules besides this one, and the commands that each of them adds; ``completion`` needs all commands to be there."""


def register(subparsers: Any, command: str | None = None) -> None:
    """Add the commands of a client to the subparsers of the ``wallaby`` parser (``dest="command"``).

    When the line to be read begins with ``command`` and that is one of them, only those that share a module with it.
    """
    only = [module for module, commands in _GROUPS.items() if command in commands]
    if not only:
        _register_flow(subparsers)
    if command == "flow":
        return
    for module in only or _GROUPS:
        importlib.import_module(f"wallaby.cli.{module}").register(subparsers)


def run(arguments: argparse.Namespace, output: TextIO | None = None) -> int:
    """Run the command `register`'s parser read; the exit code. Raises our errors, `ConfigError` for wrong usage."""
    from wallaby.cli.report import Report

    as_json, pretty = getattr(arguments, "json", False), getattr(arguments, "pretty", False)
    handler: Handler = arguments.handler
    return handler(arguments, Report(output or sys.stdout, as_json=as_json or pretty, pretty=pretty))


def add_command(commands: Any, name: str, help_text: str, handler: Handler) -> argparse.ArgumentParser:
    """A parser for a command that ``handler`` runs."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help_text, allow_abbrev=False)
    parser.set_defaults(handler=handler)
    return parser


def add_client_command(commands: Any, name: str, help_text: str, work: ClientWork) -> argparse.ArgumentParser:
    """A parser for a command that ``work`` does through the API; it has the flags of `add_connection`."""

    def handle(arguments: argparse.Namespace, report: Report) -> int:
        with connected(arguments) as client:
            return work(client, arguments, report)

    parser = add_command(commands, name, help_text, handle)
    add_connection(parser)
    return parser


def add_group(subparsers: Any, name: str, help_text: str) -> Any:
    """A command that only has commands below it; returns their subparsers."""
    group = subparsers.add_parser(name, help=help_text)
    return group.add_subparsers(dest=f"{name}_command", required=True, metavar="COMMAND")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flags that ask for JSON, for commands without a connection."""
    add_switch(parser, "--json", "print JSON on one line")
    add_switch(parser, "--pretty", "print JSON, indented")


@contextmanager
def connected(arguments: argparse.Namespace) -> Iterator[Client]:
    """A client of the API that the flags of `add_connection` name."""
    from wallaby.client import Client

    with Client.connect(connection(arguments)) as client:
        yield client


def _register_flow(subparsers: Any) -> None:
    commands = add_group(subparsers, "flow", "create, steer and show the flows of a running wallaby")

    def add(name: str, help_text: str, *, one_flow: bool = True) -> argparse.ArgumentParser:
        parser = add_command(commands, name, help_text, _run_flow)
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
    for name, help_text in (("stop", "drain a flow and pause it"), ("pause", "the same as stop")):
        add_switch(add(name, help_text), "--wait", "wait until it has drained")
    add("resume", "continue a paused flow")
    add("run-once", "run a flow up to the source's present position")
    add("get", "show a flow's definition and state")
    listing = add("list", "list the flows", one_flow=False)
    listing.add_argument("--page-size", type=int, default=0, metavar="N", help="flows per call (default 100)")
    add("delete", "remove a flow and its checkpoint; slot and targets stay")
    validate = add("validate", "check a flow file; without -endpoint nothing is connected", one_flow=False)
    validate.add_argument("--file", required=True, metavar="FLOW.yaml", help="a flow file, YAML or JSON")
    staging = add("resolve-staging", "for scripts of the Go WALlaby: there is no staging to resolve")
    for name in ("--tables", "--schemas", "--dest"):
        staging.add_argument(name, metavar="LIST", help="no effect")
    add("status", "show positions, rows and lag of a flow")
    watch = add("watch", "follow what happens to a flow, or to all, until Ctrl-C")
    watch.add_argument("--cursor", type=int, default=0, metavar="N", help="go on after this event of an earlier watch")


def _run_flow(arguments: argparse.Namespace, report: Report) -> int:
    if arguments.flow_command == "validate" and arguments.endpoint is None:
        from wallaby.cli.local import validate_here

        return validate_here([arguments.file], report)
    from wallaby.cli.flow import COMMANDS

    with connected(arguments) as client:
        return COMMANDS[arguments.flow_command](client, arguments, report)
