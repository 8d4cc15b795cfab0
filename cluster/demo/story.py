"""What the demonstration says at its start and at its end."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from cluster.demo.proof import Verdict, verdict_table, verdicts_json
from cluster.demo.workload import WorkloadProgress
from wallaby.lsn import Lsn


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where things are in this demonstration."""

    source: str
    """For people: ``embedded PostgreSQL 18.6 on port 54321``. No password."""
    destinations: Mapping[str, str]
    """Name of each destination, and where it is."""
    directory: Path
    """Where the demonstration's files are."""
    seconds: float
    is_chaos: bool = False
    grpc_address: str = ""
    dashboard_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened."""

    lsn: Lsn
    verdicts: Sequence[Verdict]
    workload: WorkloadProgress
    catch_up_s: float
    restarts: int = 0
    kills: Sequence[str] = ()
    """What was killed on purpose, in order: ``source``, ``sink lake`` …"""

    @property
    def is_proven(self) -> bool:
        """True when there are verdicts and all say equal: the demonstration exits 0."""
        return bool(self.verdicts) and all(verdict.equal for verdict in self.verdicts)


def opening(setting: Setting) -> str:
    """The text before the flow starts (rich markup)."""
    lines = [
        "[bold]wallaby demo[/bold]",
        f"  from   {escape(setting.source)}: a small shop with a live workload for {setting.seconds:g} s",
        *(f"  to     [bold]{escape(name)}[/bold]  {escape(where)}" for name, where in setting.destinations.items()),
        "  first a copy of what exists, then every change, out of one replication slot",
    ]
    if setting.is_chaos:
        lines.append("  on the way a source, a sink and the coordinator are killed with SIGKILL")
    return "\n".join(lines)


def done(outcome: Outcome) -> str:
    """What was done, in a few sentences (rich markup)."""
    workload = outcome.workload
    lines = [
        f"The workload committed {workload.transactions:,} transactions with {workload.rows:,} changed rows in"
        f" {workload.elapsed_s:.1f} s ({workload.rows_per_s:,.0f} rows/s) and rolled back {workload.rolled_back:,};"
        f" {outcome.catch_up_s:.1f} s later every destination had all of them."
    ]
    if outcome.kills:
        lines.append(
            f"Killed on the way: {escape(', '.join(outcome.kills))}. The flow restarted {outcome.restarts} times."
        )
    return "\n".join(lines)


def what_next(setting: Setting, *, duckdb_path: Path | None, is_kept: bool) -> str:
    """Commands to try (rich markup); those that need a running flow only when it is kept."""
    lines = ["[bold]What to try next[/bold]"]
    if duckdb_path is not None:
        lines += ["  query the DuckDB file:", f"    {escape(duckdb_command(duckdb_path))}"]
    if is_kept:
        if setting.grpc_address:
            command = f"wallaby flow list --endpoint {setting.grpc_address}"
            lines += [f"  steer it over gRPC ({escape(setting.grpc_address)}):", f"    {escape(command)}"]
        if setting.dashboard_address:
            lines += [f"  look at the actors in Ray's dashboard: {escape(setting.dashboard_address)}"]
        lines += ["  Ctrl-C ends it"]
    else:
        lines += [
            "  keep it running, with its gRPC address and Ray's dashboard:   wallaby demo --keep",
            "  kill its processes on the way:                                wallaby demo --chaos",
        ]
    lines += [
        "  replicate a database of your own: write a flow.yaml (README.md shows one), then",
        "    wallaby check flow.yaml && wallaby run flow.yaml",
    ]
    return "\n".join(lines)


def duckdb_command(path: Path, *, python: str = ".venv/bin/python") -> str:
    """One line for a shell that shows the shop's order states out of the DuckDB file."""
    statement = (
        f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS lake (READ_ONLY);"
        " SELECT status, count(*) AS orders, sum(total) AS total FROM lake.shop.orders GROUP BY ALL ORDER BY ALL"
    )
    return f"{python} -c {_shell_quoted(f'import duckdb; duckdb.sql({statement!r}).show()')}"


def tell_end(console: Console, setting: Setting, outcome: Outcome, *, duckdb_path: Path | None, is_kept: bool) -> None:
    """Print the end of the story: what was done, the verdicts, what to try."""
    console.print()
    console.print(done(outcome), highlight=False)
    console.print(verdict_table(outcome.lsn, outcome.verdicts))
    if outcome.is_proven:
        tables = len({verdict.table for verdict in outcome.verdicts})
        console.print(f"[green]Proven: {tables} tables are equal in every destination.[/green]")
    else:
        console.print("[bold red]Not proven: see the table above.[/bold red]")
    console.print(what_next(setting, duckdb_path=duckdb_path, is_kept=is_kept), highlight=False, soft_wrap=True)


def report(outcome: Outcome) -> dict[str, Any]:
    """The same for machines."""
    return {
        **verdicts_json(outcome.lsn, outcome.verdicts),
        "workload": {
            "transactions": outcome.workload.transactions,
            "rows": outcome.workload.rows,
            "rolled_back": outcome.workload.rolled_back,
            "seconds": round(outcome.workload.elapsed_s, 3),
        },
        "catch_up_s": round(outcome.catch_up_s, 3),
        "restarts": outcome.restarts,
        "kills": list(outcome.kills),
    }


def _shell_quoted(text: str) -> str:
    """In double quotes when nothing in it is special there (easier on the eye), else as shlex quotes."""
    return shlex.quote(text) if any(character in text for character in '"$`\\!') else f'"{text}"'
