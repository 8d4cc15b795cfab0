"""``wallaby slot list|drop``: the replication slots of a source, and what they keep on it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wallaby.cli.commands import add_command, add_group
from wallaby.cli.connection import add_switch
from wallaby.cli.source import add_source, source_of
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

    with source_of(arguments) as source:
        slots = source.operations.slots()
    rows = [
        (
            slot.name,
            "lost" if slot.lost else "active" if slot.active else "idle",
            slot.confirmed_flush_lsn or "-",
            "-" if slot.kept_bytes is None else slot.kept_bytes,
            "-" if slot.safe_wal_bytes is None else slot.safe_wal_bytes,
        )
        for slot in slots
    ]
    header = ("SLOT", "STATE", "CONFIRMED", "KEPT BYTES", "BYTES TO LOSS")
    value = {"count": len(slots), "slots": [asdict(slot) for slot in slots]}
    report.show(value, table(header, rows) if rows else ["No slots found."])
    return 0


def _drop(arguments: argparse.Namespace, report: Report) -> int:
    with source_of(arguments) as source:
        name = arguments.slot or source.slot
        if not name:
            raise ConfigError("slot is required", field="-slot")
        if not any(slot.name == name for slot in source.operations.slots()):
            raise NotFound("there is no replication slot of this name", slot=name)
        if not arguments.yes:
            _confirm(name)
        source.operations.drop_slot(name)
    report.show({"slot": name, "dropped": True}, [f"Dropped slot {name}"])
    return 0


def _confirm(name: str) -> None:
    if not sys.stdin.isatty():
        raise ConfigError("dropping a slot loses the changes it holds", field="-yes", advice="Add -yes to drop it")
    print(f"The changes that slot {name} holds are lost to its flow. Type yes: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise WallabyError("nothing was changed")
