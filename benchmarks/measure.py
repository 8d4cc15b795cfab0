"""What every benchmark shares: lines, CPU clocks of processes, repetition, and how results are printed."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run of one subject."""

    rows: int
    wall_s: float
    cpu_s: float
    """CPU seconds of the subject's own processes (not of the database it reads)."""
    server_cpu_s: float = 0.0
    """CPU seconds of the database processes that served it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The median of some runs of one subject. ``ratio`` is against the benchmark's peer; 1.0 for the peer itself."""

    name: str
    subject: str
    rows_per_s: float
    rows_per_cpu_s: float
    ratio: float | None
    spread: float
    """(maximum - minimum) / median of rows per second over the runs."""
    runs: int
    note: str = ""


def summarise(name: str, subject: str, runs: Sequence[Run], *, peer: Line | None = None, note: str = "") -> Line:
    """Median rates of ``runs``; the ratio is of wall throughput to ``peer``."""
    rates = [run.rows / run.wall_s for run in runs]
    cpu_rates = [run.rows / run.cpu_s for run in runs if run.cpu_s > 0]
    median = statistics.median(rates)
    return Line(
        name=name,
        subject=subject,
        rows_per_s=median,
        rows_per_cpu_s=statistics.median(cpu_rates) if cpu_rates else 0.0,
        ratio=1.0 if peer is None else median / peer.rows_per_s,
        spread=(max(rates) - min(rates)) / median,
        runs=len(runs),
        note=note,
    )


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process so far, without its children; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_bytes(pid: int) -> int:
    """Private resident memory of a process (without shared mappings such as the object store); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = {line.partition(":")[0]: line.partition(":")[2] for line in text.splitlines()}
    return int(fields.get("RssAnon", "0 kB").split()[0]) * 1024


def main(measure: Callable[[argparse.Namespace], Iterable[Line]], description: str) -> int:
    """Command line of one benchmark: ``--json`` prints one object per line, else a table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object per measured line")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows per run (default: 1000000)")
    parser.add_argument("--runs", type=int, default=3, help="runs per subject, interleaved (default: 3)")
    words = parser.parse_args()
    lines = []
    for line in measure(words):
        lines.append(line)
        if words.json:
            print(json.dumps(asdict(line)), flush=True)
    if not words.json:
        print_table(lines)
    return 0


def print_table(lines: Iterable[Line], console: Console | None = None) -> None:
    """All lines as a table."""
    table = Table(title="benchmarks (medians; ratio against the first line of each name)")
    for title in ("name", "subject", "rows/s", "rows per CPU s", "ratio", "spread", "runs", "note"):
        table.add_column(title, justify="right" if title not in ("name", "subject", "note") else "left")
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        rates = [f"{rate:,.0f}" if rate else "" for rate in (line.rows_per_s, line.rows_per_cpu_s)]
        table.add_row(line.name, line.subject, *rates, ratio, f"{line.spread:.0%}", str(line.runs), line.note)
    (console or Console(file=sys.stdout)).print(table)
