"""``wallaby validate|schema``: what needs neither a running wallaby nor a database."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from wallaby.cli.commands import add_command, add_json

if TYPE_CHECKING:
    from wallaby.cli.report import Report


def register(subparsers: Any) -> None:
    """Add both commands."""
    validate = add_command(subparsers, "validate", "check flow files; nothing is connected", _validate)
    validate.add_argument("path", nargs="+", metavar="PATH", help="a flow file, or a directory of them")
    add_json(validate)
    add_command(subparsers, "schema", "print the JSON Schema of flow files, for editors", _schema)


def _validate(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.flow import validate_here

    return validate_here(arguments.path, report)


def _schema(arguments: argparse.Namespace, report: Report) -> int:
    import json

    from wallaby.flow.json_schema import flow_schema

    report.text(json.dumps(flow_schema(), indent=2, ensure_ascii=False))
    return 0
