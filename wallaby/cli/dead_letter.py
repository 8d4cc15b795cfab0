"""``wallaby dead-letter list|show|replay|discard``: rows a destination refused."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_client_command, add_group
from wallaby.errors import ConfigError

if TYPE_CHECKING:
    from wallaby.cli.report import Report
    from wallaby.client import Client, DeadLetter

_STATES: Final = ("open", "replaying", "replayed", "discarded", "all")
_HEADER: Final = ("ID", "STATE", "FLOW", "DESTINATION", "TABLE", "OPERATION", "ROWS", "LSN", "WHY")
_WHY_CHARACTERS: Final = 100


def register(subparsers: Any) -> None:
    """Add ``dead-letter`` and its commands."""
    commands = add_group(subparsers, "dead-letter", "rows a destination refused: list, show, replay, discard")
    listing = add_client_command(commands, "list", "show dead letters", _list)
    _add_filters(listing)
    listing.add_argument("--state", choices=_STATES, default="open", help="which (default open)")
    show = add_client_command(commands, "show", "show one dead letter, and save its rows", _show)
    show.add_argument("--id", type=int, required=True, metavar="N", help="the letter's number")
    show.add_argument("--payload", metavar="FILE", help="write its rows there, as an Arrow IPC stream (operators)")
    for name, help_text, work in (
        ("replay", "apply letters in order; their keys or tables flow again", _replay),
        ("discard", "give letters up", _discard),
    ):
        parser = add_client_command(commands, name, help_text, work)
        _add_filters(parser)
        parser.add_argument("--ids", default="", metavar="1,2,3", help="these letters, instead of a flow's open ones")


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--flow-id", metavar="FLOW", default="", help="of this flow")
    parser.add_argument("--destination", metavar="NAME", default="", help="of this destination")
    parser.add_argument("--table", metavar="SCHEMA.TABLE", default="", help="of this table")


def _list(client: Client, arguments: argparse.Namespace, report: Report) -> int:
    letters = list(client.list_dead_letters(**_filters(arguments), state=arguments.state))
    _show_all(letters, report, "No dead letters found.")
    return 0


def _show(client: Client, arguments: argparse.Namespace, report: Report) -> int:
    letter = client.get_dead_letter(arguments.id)
    value = _value(letter)
    if arguments.payload:
        rows = client.dead_letter_payload(arguments.id)
        Path(arguments.payload).write_bytes(rows)
        value["payload_file"] = arguments.payload
    width = max(map(len, value))
    report.show(value, [f"{name.ljust(width)}  {item}" for name, item in value.items()])
    return 0


def _replay(client: Client, arguments: argparse.Namespace, report: Report) -> int:
    letters = client.replay_dead_letters(_ids(arguments), **_filters(arguments))
    _show_all(letters, report, "No open dead letters found.")
    return 0


def _discard(client: Client, arguments: argparse.Namespace, report: Report) -> int:
    letters = client.discard_dead_letters(_ids(arguments), **_filters(arguments))
    _show_all(letters, report, "No open dead letters found.")
    return 0


def _show_all(letters: tuple[DeadLetter, ...] | list[DeadLetter], report: Report, nothing: str) -> None:
    from wallaby.cli.report import table

    rows = [
        (
            *(letter.id, letter.state, letter.flow_id, letter.destination, letter.table, letter.operation, letter.rows),
            *(letter.lsn, letter.message[:_WHY_CHARACTERS]),
        )
        for letter in letters
    ]
    value = {"count": len(letters), "letters": [_value(letter) for letter in letters]}
    report.show(value, table(_HEADER, rows) if rows else [nothing])


def _filters(arguments: argparse.Namespace) -> dict[str, str]:
    return {"flow_id": arguments.flow_id, "destination": arguments.destination, "table": arguments.table}


def _ids(arguments: argparse.Namespace) -> list[int]:
    words = [word.strip() for word in arguments.ids.split(",") if word.strip()]
    if not all(word.isascii() and word.isdecimal() and len(word) < 19 for word in words):
        raise ConfigError("must be numbers separated by commas", field="--ids")
    return [int(word) for word in words]


def _value(letter: DeadLetter) -> dict[str, Any]:
    value = asdict(letter)
    for name in ("created_at", "decided_at"):
        value[name] = value[name].isoformat().replace("+00:00", "Z") if value[name] else ""
    return value
