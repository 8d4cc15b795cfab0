"""``wallaby maintain``: one round of care over the tables of a flow's destinations, by hand. Needs no Ray."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.run import with_secrets
from cluster.tally import bytes_text
from wallaby.care import Condition, Keeper, KeeperFactory, Turn, take_turn
from wallaby.cli.report import Report
from wallaby.endpoints import sink_factory
from wallaby.errors import ConfigError
from wallaby.flow import FlowSpec
from wallaby.schema import TableName
from wallaby.settings import Settings

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1


def maintain(words: argparse.Namespace) -> int:
    """Do what is due, or with ``--dry-run`` say it; 1 when a table's turn failed or a named table is not there."""
    flow = FlowSpec.from_file(words.flow)
    ready = with_secrets(flow, Settings.load(os.environ))
    keepers = list(_keepers(ready))
    if not keepers:
        raise ConfigError(
            "has no destination with tables to look after", field="destinations", advice="Lakes do: iceberg, delta"
        )
    report = Report(sys.stdout, as_json=words.json)
    asked = set(words.table or ())
    found: set[str] = set()
    failed = 0
    for destination, keeper in keepers:
        with closing(keeper):
            tables = [table for table in keeper.tables() if not asked or str(table) in asked]
            found.update(map(str, tables))
            for turn in _turns(keeper, tables, destination, is_dry_run=words.dry_run, is_shown=not words.json):
                failed += bool(turn.failure)
                report.show(_value(flow.id, destination, turn), _lines(destination, turn, is_dry_run=words.dry_run))
    for name in sorted(asked - found):
        print(f"wallaby: no lake of the flow has a table {name}; without --table all are shown", file=sys.stderr)
    return EXIT_FAILED if failed or asked - found else EXIT_OK


def _keepers(flow: FlowSpec) -> Iterator[tuple[str, Keeper]]:
    for spec in flow.destinations:
        factory = sink_factory(spec.type)
        if isinstance(factory, KeeperFactory):
            yield spec.name, factory.keeper(spec.options, flow=flow.id, destination=spec.name)


def _turns(
    keeper: Keeper, tables: Sequence[TableName], destination: str, *, is_dry_run: bool, is_shown: bool
) -> Iterator[Turn]:
    """One turn after the other; a bar on standard error where that is a terminal."""
    with _progress(sys.stderr, is_shown=is_shown) as progress:
        task = progress.add_task(destination, total=len(tables))
        for table in tables:
            progress.update(task, description=f"{destination} {table}")
            turn = take_turn(keeper, table, now=datetime.now(UTC), is_dry_run=is_dry_run)
            progress.advance(task)
            if turn is not None:
                yield turn


def _progress(stream: TextIO, *, is_shown: bool) -> Progress:
    console = Console(file=stream)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(
        *columns,
        console=console,
        transient=True,
        disable=not (is_shown and console.is_terminal),
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _value(flow: str, destination: str, turn: Turn) -> dict[str, Any]:
    value = asdict(turn)
    value["ended_at"] = turn.ended_at.isoformat(timespec="milliseconds") if turn.ended_at else None
    return {"event": "care", "flow": flow, "destination": destination, **value}


def _lines(destination: str, turn: Turn, *, is_dry_run: bool) -> list[str]:
    lines = [f"{destination} {turn.table}: {_shape(turn.before)}"]
    if is_dry_run:
        lines.append(f"  due: {', '.join(turn.due) or 'nothing'}")
    elif turn.done:
        lines.append(f"  {', '.join(turn.done)} → {_shape(turn.after)}")
    elif not turn.yielded and not turn.failure:
        lines.append("  nothing is due")
    if turn.yielded:
        lines.append(f"  left for the next turn, others commit to the table: {', '.join(turn.yielded)}")
    if turn.failure:
        lines.append(f"  failed: {turn.failure}")
    return lines


def _shape(condition: Condition) -> str:
    parts = [f"{condition.files} files ({condition.small_files} small, {bytes_text(condition.bytes)})"]
    if condition.delete_files:
        parts.append(f"{condition.delete_files} delete files with {condition.deleted_rows} rows")
    if condition.versions:
        parts.append(f"{condition.versions} snapshots")
    return ", ".join(parts)


__all__ = ["maintain"]
