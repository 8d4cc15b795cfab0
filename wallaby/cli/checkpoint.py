"""``wallaby checkpoint list|get|put``: what is durable in every destination of a flow."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from wallaby.cli.commands import add_command, add_group, connected
from wallaby.cli.connection import add_connection, add_switch

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Checkpoint


def register(subparsers: Any) -> None:
    """Add ``checkpoint`` and its commands."""
    commands = add_group(subparsers, "checkpoint", "show how far flows are, durably, or move one by hand")
    listing = add_command(commands, "list", "the checkpoints of all flows", _list)
    one = add_command(commands, "get", "a flow's checkpoint, lane by lane", _get)
    one.add_argument("flow", metavar="FLOW", help="the flow's id")
    move = add_command(
        commands, "put", "set the checkpoint of a flow that does not run; never beyond its destinations", _put
    )
    move.add_argument("flow", metavar="FLOW", help="the flow's id")
    move.add_argument("lsn", metavar="LSN", help="for example 16/B374D848")
    add_switch(move, "--force", "also back; for an admin")
    for parser in (listing, one, move):
        add_connection(parser)


def _list(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.report import table

    with connected(arguments) as client:
        found = client.list_checkpoints()
    rows = [(item.flow_id, item.lsn, item.metadata.get("epoch", ""), f"{item.at:%Y-%m-%d %H:%M:%S}Z") for item in found]
    lines = table(("FLOW", "LSN", "EPOCH", "AT"), rows) if rows else ["No checkpoints found."]
    report.show({"count": len(found), "checkpoints": [_value(item) for item in found]}, lines)
    return 0


def _get(arguments: argparse.Namespace, report: Report) -> int:
    with connected(arguments) as client:
        item = client.get_checkpoint(arguments.flow)
    lines = [f"Flow {item.flow_id} is durable up to {item.lsn}, since {item.at:%Y-%m-%d %H:%M:%S}Z"]
    lines += [f"  {name}: {value}" for name, value in sorted(item.metadata.items())]
    report.show(_value(item), lines)
    return 0


def _put(arguments: argparse.Namespace, report: Report) -> int:
    with connected(arguments) as client:
        item = client.put_checkpoint(arguments.flow, arguments.lsn, force=arguments.force)
    report.show(_value(item), [f"The checkpoint of flow {item.flow_id} stands at {item.lsn}"])
    return 0


def _value(item: Checkpoint) -> dict[str, Any]:
    return {
        "flow_id": item.flow_id,
        "lsn": item.lsn,
        "at": item.at.isoformat().replace("+00:00", "Z"),
        "metadata": dict(item.metadata),
    }
