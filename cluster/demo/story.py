"""What the demonstration says at its start and at its end."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cluster.demo.proof import Stage, Verdict, is_proven, verdict_table, verdicts_json
from cluster.demo.workload import WorkloadProgress
from cluster.view import View
from wallaby.schema import quote_identifier
from wallaby.status import FlowStatus


def tell(
    view: View,
    *,
    stage: Stage,
    verdicts: Sequence[Verdict],
    progress: WorkloadProgress | None,
    status: FlowStatus | None,
    address: str = "",
    dashboard: str = "",
    as_json: bool = False,
    is_kept: bool = False,
) -> None:
    """The end: what was done, the verdicts, what to try next; as a report for machines with ``as_json``.

    ``address`` is that of the gRPC API. With ``is_kept`` the flow goes on afterwards.
    """
    if as_json:
        view.report(report(verdicts, progress=progress, status=status, address=address, dashboard=dashboard))
        return
    view.show(done(progress, status))
    view.show(verdict_table(verdicts))
    view.show(conclusion(verdicts))
    view.show(what_next(stage.duckdb_file, address=address, dashboard=dashboard, is_kept=is_kept))


def opening(stage: Stage, *, source: str, seconds: float, is_chaos: bool = False) -> RenderableType:
    """What is about to happen. ``source`` is for people and holds no password."""
    lines = [
        Text("wallaby demo", style="bold"),
        Text(f"  from  {source}: a small shop with a live workload for {seconds:g} s"),
        Text("  to    postgres  another PostgreSQL database"),
        Text(f"        duckdb    {stage.duckdb_file}"),
        Text(f"        parquet   {stage.parquet_directory} (every change a row; the state is derived)"),
        Text("  First a copy of what exists, then every change, all out of one replication slot."),
    ]
    if is_chaos:
        lines.append(Text("  On the way a source, a sink and the coordinator are killed with SIGKILL."))
    return Group(*lines)


def done(progress: WorkloadProgress | None, status: FlowStatus | None) -> Text:
    """What happened, in two sentences at most."""
    sentences = []
    if progress is not None:
        sentences.append(
            f"The workload committed {progress.transactions:,} transactions with {progress.rows:,} changed rows in"
            f" {progress.elapsed_s:.1f} s ({progress.rows_per_s:,.0f} rows/s) and rolled back {progress.rolled_back:,}."
        )
    if status is not None and status.restarts:
        times = "once" if status.restarts == 1 else f"{status.restarts} times"
        sentences.append(f"The flow was restarted {times} on the way and went on from what the destinations had.")
    return Text(" ".join(sentences))


def conclusion(verdicts: Sequence[Verdict]) -> Text:
    """One line; "proven" only for equal content."""
    if not is_proven(verdicts):
        return Text("Not proven: see the table above.", style="bold red")
    tables = len({verdict.table for verdict in verdicts})
    destinations = len({verdict.destination for verdict in verdicts})
    return Text(f"Proven: {tables} tables are equal in {destinations} destinations, row for row.", style="green")


def what_next(
    duckdb_file: Path, *, address: str = "", dashboard: str = "", is_kept: bool = False, programs: str | None = None
) -> Text:
    """Commands to try, one to a line and never wrapped, so that they can be copied.

    ``programs`` is the directory of our Python and its scripts, as the shell finds it; default: where we run from.
    """
    directory = running_from() if programs is None else programs
    wallaby = f"{directory}wallaby"
    lines = [
        Text("What to try next", style="bold"),
        Text("  Query the DuckDB file:"),
        _command(duckdb_command(duckdb_file, python=f"{directory}python")),
    ]
    if dashboard:
        address_shown = dashboard if "://" in dashboard else f"http://{dashboard}"
        dashboard = f"{address_shown} (it asks for what `{directory}ray get-auth-token` prints)"
    listing = f"{wallaby} flow list --endpoint {address or 'HOST:PORT'}"
    if is_kept:
        lines += [Text(f"  Steer the flow over gRPC, on {address}:"), _command(listing)] if address else []
        lines += [Text(f"  Look at the actors in Ray's dashboard: {dashboard}")] if dashboard else []
        lines += [Text("  Press Ctrl-C to end it.")]
    else:
        was = f" (this time it was {address})" if address else ""
        lines += [Text(f"  Keep it running and steer it over gRPC, at the address it prints{was}:")]
        lines += [_command(f"{wallaby} demo --keep"), _command(listing)]
        lines += [Text(f"  Ray's dashboard, while it runs: {dashboard}")] if dashboard else []
        lines += [Text("  Have its processes killed on the way:"), _command(f"{wallaby} demo --chaos")]
    lines += [Text("  Replicate a database of your own (README.md shows a flow.yaml):")]
    lines += [_command(f"{wallaby} check flow.yaml"), _command(f"{wallaby} run flow.yaml")]
    return Text("\n").join(lines)


def running_from() -> str:
    """The directory of the running Python with a slash, relative where that is shorter to type; empty when on PATH."""
    programs = Path(sys.executable).parent
    if str(programs) in os.environ.get("PATH", "").split(os.pathsep):
        return ""
    return f"{programs.relative_to(Path.cwd())}/" if programs.is_relative_to(Path.cwd()) else f"{programs}/"


def duckdb_command(path: Path, *, python: str) -> str:
    """One line for a shell that shows the shop's order states out of the DuckDB file."""
    catalog = path.stem if path.stem.isidentifier() else quote_identifier(path.stem)
    query = (
        f"SELECT status, count(*) AS orders, sum(total) AS total FROM {catalog}.shop.orders GROUP BY ALL ORDER BY ALL"
    )
    code = f"import duckdb; duckdb.connect({str(path)!r}, read_only=True).sql({query!r}).show()"
    special = any(character in code for character in '"$`\\!')
    return f"{python} -c {shlex.quote(code) if special else chr(34) + code + chr(34)}"


def report(
    verdicts: Sequence[Verdict],
    *,
    progress: WorkloadProgress | None,
    status: FlowStatus | None,
    address: str = "",
    dashboard: str = "",
) -> dict[str, Any]:
    """Plain JSON values."""
    workload = None
    if progress is not None:
        workload = {
            "transactions": progress.transactions,
            "rows": progress.rows,
            "rolled_back": progress.rolled_back,
            "seconds": round(progress.elapsed_s, 3),
        }
    return {
        **verdicts_json(verdicts),
        "workload": workload,
        "restarts": status.restarts if status is not None else 0,
        "flow": status.as_json() if status is not None else None,
        "grpc": address,
        "dashboard": dashboard,
    }


def _command(command: str) -> Text:
    return Text(f"    {command}", style="cyan")
