"""``wallaby run``, ``wallaby up`` and ``wallaby check``."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from cluster.view import View, open_view
from wallaby.check import check_flow, has_errors
from wallaby.errors import ConfigError
from wallaby.flow import FlowSpec
from wallaby.flow.resolution import resolved
from wallaby.lsn import Lsn
from wallaby.settings import Limits, Settings
from wallaby.sink import Finding, Severity
from wallaby.status import FlowStatus

EXIT_OK, EXIT_FAILED = 0, 1


def check(words: argparse.Namespace) -> int:
    """Print what `check_flow` finds; 1 when something stops the flow."""
    flow = FlowSpec.from_file(words.flow)
    findings = [*flow.findings(), *check_flow(resolved(flow))]
    if words.json:
        print(json.dumps({"event": "check", "flow": flow.id, "findings": [_plain(finding) for finding in findings]}))
    else:
        print_findings(findings)
    return EXIT_FAILED if has_errors(findings) else EXIT_OK


def run(words: argparse.Namespace) -> int:
    """Run one flow from a file."""
    flow = FlowSpec.from_file(words.flow)
    until = _parse_lsn(words.until_lsn)
    settings = _settings(words)
    ready = resolved(flow)
    if not words.no_check:
        findings = check_flow(ready)
        if has_errors(findings):
            if words.json:
                print(json.dumps({"event": "check", "flow": flow.id, "findings": [_plain(item) for item in findings]}))
            else:
                print_findings(findings)
            return EXIT_FAILED
    from cluster.driver import Driver
    from cluster.ray_runtime import attached
    from cluster.supervisor import Outcome, RunMode

    mode = RunMode(once=words.once, until=until, resnapshot=words.resnapshot)
    with attached(dashboard=not words.no_dashboard) as runtime, open_view(as_json=words.json) as view:

        async def drive() -> Outcome:
            driver = Driver(settings, limits=Limits(), observe=view.update)
            try:
                await driver.start()
                driver.install_signals()
                _announce(view, driver.address, runtime.dashboard)
                return await driver.run_flow(flow, mode)
            finally:
                final[:] = [status] if (status := driver.last_status(flow.id)) is not None else []
                await driver.close()

        final: list[FlowStatus] = []
        outcome = asyncio.run(drive())
        report = final[0].as_json() if final else {"flow": flow.id}
        view.report({"outcome": outcome.value, **report})
    if outcome is Outcome.FAILED:
        print(f"wallaby: {report.get('error', 'the flow failed')}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_OK


def up(words: argparse.Namespace) -> int:
    """Serve the API until SIGTERM or Ctrl-C."""
    settings = _settings(words)
    from cluster.driver import Driver
    from cluster.ray_runtime import attached

    with attached(dashboard=not words.no_dashboard) as runtime, open_view(as_json=words.json) as view:

        async def drive() -> None:
            driver = Driver(settings, limits=Limits(), observe=view.update)
            try:
                await driver.start()
                driver.install_signals()
                _announce(view, driver.address, runtime.dashboard)
                await driver.serve()
            finally:
                await driver.close()

        asyncio.run(drive())
    return EXIT_OK


def print_findings(findings: list[Finding], console: Console | None = None) -> None:
    """A table that fits the screen; a line when there is nothing to say."""
    console = console or Console(stderr=False)
    if not findings:
        console.print("Nothing stands in the way.")
        return
    table = Table(box=None, padding=(0, 1), expand=False)
    for title in ("", "what", "finding", "advice"):
        table.add_column(title, overflow="fold")
    styles = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
    for finding in findings:
        table.add_row(
            f"[{styles[finding.severity]}]{finding.severity}[/]", finding.subject, finding.message, finding.advice
        )
    console.print(table)


def _announce(view: View, address: str, dashboard: str) -> None:
    view.message(f"gRPC API on {address}" + (f", Ray dashboard on http://{dashboard}" if dashboard else ""))


def _settings(words: argparse.Namespace) -> Settings:
    overrides: dict[str, Any] = {}
    if words.state_dir:
        overrides["state_dir"] = words.state_dir
    if words.listen:
        overrides["grpc_listen"] = words.listen
    return Settings.load(os.environ, overrides)


def _parse_lsn(text: str | None) -> Lsn | None:
    if text is None:
        return None
    try:
        return Lsn.parse(text)
    except ValueError as error:
        raise ConfigError(str(error), field="--until-lsn") from None


def _plain(finding: Finding) -> dict[str, str]:
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "subject": finding.subject,
        "message": finding.message,
        "advice": finding.advice,
    }
