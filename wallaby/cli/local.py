"""``wallaby validate|schema``: what needs neither a running wallaby nor a database."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
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


def validate_here(paths: Iterable[str], report: Report) -> int:
    """Check flow files and directories in this process, without a connection."""
    from wallaby.cli.wanted import read_wanted

    for item in read_wanted(paths, with_options=True):
        findings = [
            {name: str(getattr(f, name)) for name in ("severity", "subject", "message", "advice", "code")}
            for f in item.spec.findings()
        ]
        guarantees = {d.name: str(item.spec.capabilities(d.name).guarantee) for d in item.spec.destinations}
        show_validity(report, item.spec.id, findings, guarantees)
    return 0


def show_validity(
    report: Report, flow_id: str, findings: Iterable[Mapping[str, str]], guarantees: Mapping[str, str]
) -> None:
    """Say that a flow is valid, what it promises, and what has less effect than its name says."""
    shown = [dict(finding) for finding in findings]
    value = {"id": flow_id, "valid": True, "findings": shown, "guarantees": dict(guarantees)}
    lines = [f"Flow {flow_id} is valid"]
    lines += [f"  {name}: {guarantee}" for name, guarantee in guarantees.items()]
    lines += [f"  {f['severity']}: {f['subject']} {f['message']}. {f['advice']}" for f in shown]
    report.show(value, lines)


def _validate(arguments: argparse.Namespace, report: Report) -> int:
    return validate_here(arguments.path, report)


def _schema(arguments: argparse.Namespace, report: Report) -> int:
    import json

    from wallaby.flow.json_schema import flow_schema

    report.text(json.dumps(flow_schema(), indent=2, ensure_ascii=False))
    return 0
