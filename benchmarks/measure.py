"""What every benchmark shares: lines, CPU clocks of processes, repetition, and how results are printed."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

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
    """CPU seconds of the database process that served it: the walsender."""


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
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further figures, fields of their own in JSON."""

    def as_json(self) -> dict[str, Any]:
        """One flat object."""
        plain = asdict(self)
        return {**{name: value for name, value in plain.items() if name != "extra"}, **plain["extra"]}


def summarise(
    name: str,
    subject: str,
    runs: Sequence[Run],
    *,
    peer: Line | None = None,
    is_peer: bool = False,
    note: str = "",
    extra: Mapping[str, Any] | None = None,
) -> Line:
    """Median rates of ``runs``; the ratio is of wall throughput to ``peer``, 1.0 for the peer itself, else None."""
    rates = [run.rows / run.wall_s for run in runs]
    cpu_rates = [run.rows / run.cpu_s for run in runs if run.cpu_s > 0]
    median = statistics.median(rates)
    ratio = 1.0 if is_peer else None
    return Line(
        name=name,
        subject=subject,
        rows_per_s=median,
        rows_per_cpu_s=statistics.median(cpu_rates) if cpu_rates else 0.0,
        ratio=ratio if peer is None else median / peer.rows_per_s,
        spread=(max(rates) - min(rates)) / median,
        runs=len(runs),
        note=note,
        extra={"load": os.getloadavg()[0], **(extra or {})},
    )


def not_measured(name: str, subject: str, why: str) -> Line:
    """A subject that should have been measured and was not."""
    return Line(
        name=name,
        subject=subject,
        rows_per_s=0.0,
        rows_per_cpu_s=0.0,
        ratio=None,
        spread=0.0,
        runs=0,
        note=f"not measured: {why}",
        extra={"not_measured": why},
    )


def us_per_row(runs: Iterable[Run], seconds: Callable[[Run], float]) -> float:
    """Median microseconds per row of one of the runs' clocks."""
    return statistics.median(seconds(run) / run.rows for run in runs) * 1e6


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process so far, without its children; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def is_alive(pid: int) -> bool:
    """False once a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_bytes(pid: int) -> int:
    """Private resident memory of a process (without shared mappings such as the object store); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = {line.partition(":")[0]: line.partition(":")[2] for line in text.splitlines()}
    return int(fields.get("RssAnon", "0 kB").split()[0]) * 1024


def child_pids(pid: int) -> list[int]:
    """The direct children of a process that live now."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def main(measure: Callable[[argparse.Namespace], Iterator[Line]], description: str | None) -> int:
    """Command line of one benchmark: ``--json`` prints one object per line, else a table."""
    words = arguments(description)
    unwind_on_sigterm()
    present(measure(words), is_json=words.json)
    return 0


def present(lines: Iterable[Line], *, is_json: bool) -> None:
    """One JSON object per line as it comes, or all as a table at the end."""
    if not is_json:
        print_table(list(lines))
        return
    for line in lines:
        print(json.dumps(line.as_json()), flush=True)


def arguments(description: str | None) -> argparse.Namespace:
    """``--json``, ``--rows`` and ``--runs``, as every benchmark has them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per measured line")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows per run (default: 1000000)")
    parser.add_argument("--runs", type=int, default=3, help="runs per subject, interleaved (default: 3)")
    return parser.parse_args()


def unwind_on_sigterm() -> None:
    """SIGTERM ends the benchmark as Ctrl-C does: servers, directories and Ray are cleaned up on the way out."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def print_table(lines: Iterable[Line], console: Console | None = None) -> None:
    """All lines as a table."""
    table = Table(title="benchmarks (medians; ratio to the first line of each name)", show_lines=False)
    for title in ("name", "subject", "rows/s", "rows per CPU s", "ratio", "spread", "runs", "note"):
        is_text = title in ("name", "subject", "note")
        table.add_column(title, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        rates = [f"{rate:,.0f}" if rate else "" for rate in (line.rows_per_s, line.rows_per_cpu_s)]
        table.add_row(line.name, line.subject, *rates, ratio, f"{line.spread:.0%}", str(line.runs), line.note)
    (console or Console(file=sys.stdout, width=None if sys.stdout.isatty() else 180)).print(table)
