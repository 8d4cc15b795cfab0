"""``wallaby types``: what becomes of every PostgreSQL type in a destination. Needs nothing that runs."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command, add_json
from wallaby.cli.report import table

if TYPE_CHECKING:
    from wallaby.cli.report import Report

EXIT_OK: Final = 0


def register(subparsers: Any) -> None:
    """Add the command."""
    command = add_command(subparsers, "types", "show what becomes of every PostgreSQL type in a destination", _show)
    command.add_argument("destination", metavar="DESTINATION", help="its type: postgres, duckdb, delta, iceberg, files")
    add_json(command)


def _show(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.endpoints import sink_factory
    from wallaby.errors import ConfigError
    from wallaby.kept_types import KeptAs, type_rows

    kept_as: KeptAs | None = getattr(sink_factory(arguments.destination), "kept_as", None)
    if kept_as is None:
        raise ConfigError(
            f"destination type {arguments.destination!r} has no table of types",
            advice="It keeps no columns of its own",
            field="destination",
        )
    kept = [(row, kept_as(row.type, row.typmod)) for row in type_rows()]
    value = [
        {
            "postgres": row.name,
            "wire": row.wire,
            "outliers": row.outliers.replace("`", ""),
            "target": one.target,
            "fidelity": str(one.fidelity),
            "how": one.reason.replace("`", ""),
        }
        for row, one in kept
    ]
    lines = table(("POSTGRESQL", "TARGET", "VALUES", "HOW"), [tuple(v[n] for n in _COLUMNS) for v in value])
    width = shutil.get_terminal_size().columns if report.is_terminal else 0
    report.show({"destination": arguments.destination, "types": value}, [_fit(line, width) for line in lines])
    return EXIT_OK


_COLUMNS: Final = ("postgres", "target", "fidelity", "how")


def _fit(line: str, width: int) -> str:
    """The line as wide as the screen; whole where there is none (0)."""
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"
