"""``wallaby slot list|drop``: the replication slots of a source, and what they keep on it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from wallaby.cli.commands import add_command, add_group
from wallaby.cli.connection import add_switch
from wallaby.cli.source import add_source, session_of, source_of
from wallaby.errors import ConfigError, NotFound, WallabyError

if TYPE_CHECKING:
    from wallaby.cli.report import Report


def register(subparsers: Any) -> None:
    """Add ``slot`` and its commands."""
    commands = add_group(subparsers, "slot", "show and drop the replication slots of a source")
    listing = add_command(commands, "list", "the logical slots of the source's database", _list)
    drop = add_command(commands, "drop", "drop a slot: changes it still holds are lost to its flow", _drop)
    drop.add_argument("--slot", metavar="NAME", help="the slot (default: the flow's)")
    add_switch(drop, "--yes", "do not ask")
    for parser in (listing, drop):
        add_source(parser)


def _list(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.report import table
    from wallaby.postgres.slot import database_slots

    source = source_of(arguments)
    with session_of(source, doing="list the replication slots") as connection:
        slots = database_slots(connection)
    value = [
        {
            "name": slot.name,
            "plugin": slot.plugin,
            "active": slot.active,
            "wal_status": slot.wal_status,
            "lost": slot.invalidation,
            "restart_lsn": None if slot.restart_lsn is None else str(slot.restart_lsn),
            "confirmed_flush_lsn": None if slot.confirmed_flush is None else str(slot.confirmed_flush),
            "kept_bytes": slot.kept_bytes,
            "safe_wal_bytes": slot.safe_wal_bytes,
        }
        for slot in slots
    ]
    rows = [
        (
            slot.name,
            "lost" if slot.is_lost else "active" if slot.active else "idle",
            slot.confirmed_flush or "-",
            "-" if slot.kept_bytes is None else slot.kept_bytes,
            "-" if slot.safe_wal_bytes is None else slot.safe_wal_bytes,
        )
        for slot in slots
    ]
    header = ("SLOT", "STATE", "CONFIRMED", "KEPT BYTES", "BYTES TO LOSS")
    report.show({"count": len(slots), "slots": value}, table(header, rows) if rows else ["No slots found."])
    return 0


def _drop(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.postgres.slot import drop_slot, read_slot

    source = source_of(arguments)
    name = arguments.slot or source.slot
    if not name:
        raise ConfigError("slot is required", field="-slot")
    with session_of(source, doing="read the replication slot") as connection:
        facts = read_slot(connection, name)
    if facts is None:
        raise NotFound("there is no replication slot of this name", slot=name)
    if not arguments.yes:
        _confirm(name)
    dropped = drop_slot(source.dsn, name, application_name="wallaby cli")
    report.show({"slot": name, "dropped": dropped}, [f"Dropped slot {name}"])
    return 0


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("dropping a slot loses the changes it holds", field="-yes", advice="Add -yes to drop it")
    print(f"The changes that slot {name} holds are lost to its flow. Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise WallabyError("nothing was changed")
