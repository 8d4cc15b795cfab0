"""Rows into a log, and changes of one row in a hundred into a mirror; ratios are of CPU seconds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.lake.rows import Spread, expected, write_changes, write_rows
from benchmarks.lake.subjects import APPENDERS, MIRRORS, Subject, fingerprint
from benchmarks.measure import Line, Run, not_measured, summarise
from benchmarks.peers import Missing

COMMITS: Final = 3
_BAR: Final = 24


def appends(rows: int, runs: int, *, only: str = "") -> Iterator[Line]:
    """Each subject its rows in one commit; subjects by turns. ``only``: those with this word in format or name."""
    with tempfile.TemporaryDirectory(prefix="wallaby-benchmark-") as folder:
        given = Path(folder) / "given"
        given.mkdir()
        write_rows(given / "rows.parquet", rows)
        yield from _compare(f"{rows:,} rows appended to", _chosen(APPENDERS, only), "append", given, runs)


def mirrors(sizes: Sequence[int], runs: int, *, only: str = "") -> Iterator[Line]:
    """The same share of ever larger tables: what does a changed row cost? ``only`` as in `appends`."""
    curve: list[tuple[int, Line]] = []
    for size in sizes:
        for spread in ("together", "all over"):
            for line in _mirrors(size, spread, runs, _chosen(MIRRORS, only)):  # type: ignore[arg-type]
                curve.append((size, line))
                yield line
    if len(sizes) > 1:
        yield from _curves(curve)


def _mirrors(size: int, spread: Spread, runs: int, chosen: Sequence[Subject]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="wallaby-benchmark-") as folder:
        given = Path(folder) / "given"
        given.mkdir()
        write_rows(given / "rows.parquet", size)
        for number in range(COMMITS):
            write_changes(given / f"changes-{number}.parquet", size, spread, number)
        subjects = tuple(one for one in chosen if size <= (one.rows_max or size))
        yield from _compare(f"1 % of {size:,} updated {spread} in", subjects, "mirror", given, runs)
        for subject in chosen:
            if subject not in subjects:
                name = f"1 % of {size:,} updated {spread} in {subject.kind}"
                yield not_measured(name, subject.name, f"not tried beyond {subject.rows_max:,} rows")


def _chosen(subjects: Sequence[Subject], only: str) -> tuple[Subject, ...]:
    return tuple(one for one in subjects if only in f"{one.kind} {one.name}")


def _compare(name: str, subjects: Sequence[Subject], task: str, given: Path, runs: int) -> Iterator[Line]:
    wanted = fingerprint(expected(given))
    found: dict[Subject, list[Run]] = {subject: [] for subject in subjects}
    failed: dict[Subject, str] = {}
    for number in range(runs):
        for subject in subjects:
            if subject not in failed and (subject.peer is None or number < subject.peer.runs_max):
                try:
                    found[subject] += _once(subject, task, given, wanted)
                except Missing as error:
                    failed[subject] = str(error)
    peers: dict[str, Line] = {}
    for subject in subjects:
        title = f"{name} {subject.kind}"
        if subject in failed:
            yield not_measured(title, subject.name, failed[subject])
            continue
        line = _line(title, subject, found[subject], peers.get(subject.kind))
        if subject.is_peer:
            peers[subject.kind] = line
        yield line


def _once(subject: Subject, task: str, given: Path, wanted: str) -> list[Run]:
    target = Path(tempfile.mkdtemp(dir=given.parent))
    try:
        runs = subject.run(task, given, target)
        if fingerprint(subject.table(target)) != wanted:
            raise Missing("what it left is not what it was given")
        return runs
    finally:
        shutil.rmtree(target)


def _line(name: str, subject: Subject, runs: Sequence[Run], peer: Line | None) -> Line:
    line = summarise(name, subject.name, runs, is_peer=subject.is_peer)
    note = f"{line.rows_per_s:,.0f} rows/s; CPU {1e6 / line.rows_per_cpu_s:,.2f} s per million rows"
    ratio = line.ratio if peer is None else line.rows_per_cpu_s / peer.rows_per_cpu_s
    rates = [run.rows / run.cpu_s for run in runs]
    return replace(line, ratio=ratio, note=note, spread=(max(rates) - min(rates)) / line.rows_per_cpu_s)


def _curves(points: Sequence[tuple[int, Line]]) -> Iterator[Line]:
    """CPU microseconds per changed row over the size of the table, as bars: flat is what is wanted."""
    measured = [(size, line) for size, line in points if line.rows_per_cpu_s]
    most = max(1 / line.rows_per_cpu_s for _, line in measured)

    def key(line: Line) -> tuple[str, str]:
        return line.name.partition(" updated ")[2], line.subject

    for curve in dict.fromkeys(key(line) for _, line in measured):
        costs = [(size, 1 / line.rows_per_cpu_s) for size, line in measured if key(line) == curve]
        bars = [
            f"{size // 1_000_000 or size / 1e6:g} M {'█' * max(1, round(_BAR * cost / most))}" for size, cost in costs
        ]
        note = "\n".join(f"{bar} {cost * 1e6:,.1f} µs" for bar, (_, cost) in zip(bars, costs, strict=True))
        first, last = costs[0][1], costs[-1][1]
        yield replace(
            measured[0][1],
            name=f"CPU per row updated {curve[0]}",
            subject=curve[1],
            rows_per_s=0.0,
            rows_per_cpu_s=0.0,
            ratio=last / first,
            spread=0.0,
            note=note,
            extra={"us_per_row": {str(size): cost * 1e6 for size, cost in costs}},
        )
