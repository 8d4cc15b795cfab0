"""Findings and errors on the screen or as JSON lines: what is wrong, where, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

from wallaby.errors import WallabyError
from wallaby.flow import InvalidFlow, Problem
from wallaby.sink import Finding, Severity

_STYLES: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}


def show_findings(flow: str, findings: Sequence[Finding], *, as_json: bool, stream: TextIO | None = None) -> None:
    """All findings, the worst first; one JSON object with ``as_json``."""
    output = stream or sys.stdout
    ordered = sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
    if as_json:
        is_fit = not any(finding.severity is Severity.ERROR for finding in findings)
        _print_json({"event": "check", "flow": flow, "fit": is_fit, "findings": [*map(_plain, ordered)]}, output)
        return
    console = Console(file=output, highlight=False)
    if not findings:
        console.print(f"{flow}: nothing stands in the way.")
    for finding in ordered:
        head = Text.assemble((f"{finding.severity}  ", _STYLES[finding.severity]), (finding.subject, "bold"))
        console.print(head, soft_wrap=True)
        console.print(Text(f"  {finding.message}"), soft_wrap=True)
        if finding.advice:
            console.print(Text(f"  → {finding.advice}", style="cyan"), soft_wrap=True)


def show_error(error: WallabyError, *, as_json: bool) -> None:
    """Why the command ends: on standard error for people, with ``as_json`` also on standard output for machines."""
    if as_json:
        _print_json({"event": "error", "kind": type(error).__name__, "problems": _problems(error)}, sys.stdout)
    print(f"wallaby: {error}", file=sys.stderr)


def _problems(error: WallabyError) -> list[dict[str, str]]:
    if isinstance(error, InvalidFlow):
        problems: Sequence[Problem] = error.problems
    else:
        problems = [Problem(error.where.get("field", ""), error.message, error.advice)]
    return [{"field": item.path, "message": item.message, "advice": item.advice} for item in problems]


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "subject": finding.subject,
        "message": finding.message,
        "advice": finding.advice,
    }


def _print_json(value: object, stream: TextIO) -> None:
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), file=stream, flush=True)
