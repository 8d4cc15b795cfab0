"""``wallaby ddl list|approve|reject|apply``: captured schema changes, listed and decided."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command, add_group, connected
from wallaby.cli.connection import add_connection

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import DdlEvent

_STATUSES: Final = ("pending", "approved", "rejected", "applied", "all")
_PLAN_CHARACTERS: Final = 120
_DECIDED: Final = {
    "approve": "Approved DDL {id} (status={status})",
    "reject": "Rejected DDL {id} (status={status})",
    "apply": "Marked DDL {id} applied (status={status})",
}


def register(subparsers: Any) -> None:
    """Add ``ddl`` and its commands."""
    commands = add_group(subparsers, "ddl", "list and decide captured schema changes")
    listing = add_command(commands, "list", "show schema changes", _list)
    listing.add_argument("--status", choices=_STATUSES, default="pending", help="which (default pending)")
    listing.add_argument("--flow-id", metavar="FLOW", default="", help="of this flow only")
    for name, help_text in (
        ("approve", "allow a change to be applied"),
        ("reject", "forbid a change"),
        ("apply", "note that a change was applied"),
    ):
        parser = add_command(commands, name, help_text, _decide)
        parser.add_argument("--id", type=int, required=True, metavar="N", help="the change's number")
        add_connection(parser)
    add_connection(listing)


def _list(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.report import table

    with connected(arguments) as client:
        events = list(client.list_ddl(arguments.status, flow_id=arguments.flow_id))
    rows = [(event.id, event.status, event.lsn, event.flow_id, _what(event)) for event in events]
    lines = table(("ID", "STATUS", "LSN", "FLOW", "DDL/PLAN"), rows) if rows else ["No DDL events found."]
    value = {"status": arguments.status, "count": len(events), "events": [_value(event) for event in events]}
    report.show(value, lines)
    return 0


def _decide(arguments: argparse.Namespace, report: Report) -> int:
    with connected(arguments) as client:
        decide = {"approve": client.approve_ddl, "reject": client.reject_ddl, "apply": client.mark_ddl_applied}
        event = decide[arguments.ddl_command](arguments.id)
    report.show(_value(event), [_DECIDED[arguments.ddl_command].format(id=event.id, status=event.status)])
    return 0


def _what(event: DdlEvent) -> str:
    text = " ".join(event.ddl.split()) or (
        f"plan:{event.plan_json[:_PLAN_CHARACTERS]}" if event.plan_json else "(no ddl)"
    )
    return f"{text} [FAILED]" if event.status in ("rejected", "failed") else text


def _value(event: DdlEvent) -> dict[str, Any]:
    value = {
        "id": event.id,
        "flow_id": event.flow_id,
        "status": str(event.status),
        "lsn": event.lsn,
        "ddl": event.ddl,
        "plan_json": event.plan_json,
        "created_at": event.created_at.isoformat().replace("+00:00", "Z") if event.created_at else "",
    }
    optional = ("flow_id", "ddl", "plan_json", "created_at")
    return {name: item for name, item in value.items() if item != "" or name not in optional}
