"""``wallaby snapshot list|show|watch|restart|cancel``: how far copies of existing rows are, and copying anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from wallaby.cli.commands import add_command, add_group, connected
from wallaby.cli.connection import add_connection, add_switch
from wallaby.errors import ConfigError, WallabyError
from wallaby.lifecycle import FlowState
from wallaby.snapshot.progress import CopyState

if TYPE_CHECKING:
    from datetime import datetime

    from wallaby.cli.report import Report
    from wallaby.client import Client, FlowEvent, Snapshot, TableSnapshot

_ALIVE: Final = (FlowState.RUNNING, FlowState.STOPPING)
_TABLES_MAX: Final = 15
"""Tables that a live picture has room for; those that are copied now come first."""
_ORDER: Final = (CopyState.COPYING, CopyState.FAILED, CopyState.PENDING)


def register(subparsers: Any) -> None:
    """Add ``snapshot`` and its commands."""
    commands = add_group(subparsers, "snapshot", "show how far copies of existing rows are, or copy anew")
    listing = add_command(commands, "list", "the copies of all flows", _list)
    show = add_command(commands, "show", "the copy of a flow, table by table", _show)
    watch = add_command(commands, "watch", "follow the copy of a flow until it is consistent", _watch)
    restart = add_command(commands, "restart", "drop the slot, empty the targets, copy everything anew", _restart)
    add_switch(restart, "--yes", "do not ask")
    cancel = add_command(commands, "cancel", "take back a new copy that has not begun; the flow must not run", _cancel)
    for parser in (show, watch, restart, cancel):
        parser.add_argument("flow", metavar="FLOW", help="the flow's id")
    for parser in (listing, show, watch, restart, cancel):
        add_connection(parser)


def _list(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.report import table

    with connected(arguments) as client:
        found = list(client.list_snapshots())
    rows = [
        (
            item.flow_id,
            _state(item),
            _percent(item),
            f"{item.copied_rows:,}",
            f"{item.tables_done}/{item.tables}",
            item.snapshot_lsn or "-",
        )
        for item in found
    ]
    lines = table(("FLOW", "STATE", "COPIED", "ROWS", "TABLES", "LSN"), rows) if rows else ["No copies found."]
    report.show({"count": len(found), "snapshots": [_value(item) for item in found]}, lines)
    return 0


def _show(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.report import table

    with connected(arguments) as client:
        item = client.get_snapshot(arguments.flow)
        tables = list(client.list_table_snapshots(arguments.flow))
    lines = [_line(item)]
    if item.snapshot_lsn:
        lines.append(f"  of {item.snapshot_lsn}, epoch {item.epoch}, begun {_moment(item.started_at)}")
    if tables:
        rows = [
            (
                _name(one),
                one.state or "-",
                f"{one.copied_rows:,}",
                f"{one.expected_rows:,}" if one.expected_rows else "-",
                _size(one.copied_bytes),
                _size(one.estimated_bytes),
            )
            for one in tables
        ]
        lines += table(("TABLE", "STATE", "ROWS", "EXPECTED", "BYTES", "ON DISK"), rows)
    report.show(_value(item) | {"table_snapshots": [_table_value(one) for one in tables]}, lines)
    return 0


def _watch(arguments: argparse.Namespace, report: Report) -> int:
    with connected(arguments) as client:
        client.get_flow(arguments.flow)  # a flow that does not exist would be waited for
        with _picture(report) as picture:
            for event in client.watch(arguments.flow, snapshots=True):
                if event.snapshot is not None:
                    tables = list(client.list_table_snapshots(arguments.flow)) if picture.shows_tables else []
                    picture.show(event.snapshot, tables)
                    if is_over(event.snapshot):
                        return 0
                elif event.after not in _ALIVE:
                    return _ended(client, event, picture)
    return 0


def is_over(snapshot: Snapshot) -> bool:
    """Nothing is left to copy, and nobody asked for more."""
    return snapshot.state is CopyState.CONSISTENT and not snapshot.is_wanted


def _ended(client: Client, event: FlowEvent, picture: _Picture) -> int:
    """The flow does not run: what there is stays as it is."""
    found = client.get_snapshot(event.flow_id)
    picture.show(found, list(client.list_table_snapshots(event.flow_id)) if picture.shows_tables else [])
    if is_over(found):
        return 0
    raise WallabyError(
        f"the flow is {event.after or 'gone'}" + (f": {event.reason}" if event.reason else ""),
        advice="Start it to begin the copy anew",
        flow=event.flow_id,
    )


def _restart(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.flow import state_name

    with connected(arguments) as client:
        flow = client.get_flow(arguments.flow)
        if not arguments.yes:
            _confirm(flow.id, [item.name for item in flow.message.destinations])
        flow = client.restart_snapshot(flow.id)
    line = f"Flow {flow.id} copies anew (state={state_name(flow)}); see `wallaby snapshot watch {flow.id}`"
    report.show({"id": flow.id, "state": state_name(flow)}, [line])
    return 0


def _cancel(arguments: argparse.Namespace, report: Report) -> int:
    from wallaby.cli.flow import state_name

    with connected(arguments) as client:
        flow = client.cancel_snapshot(arguments.flow)
    report.show({"id": flow.id, "state": state_name(flow)}, [f"Flow {flow.id} keeps the copy it has"])
    return 0


def _confirm(flow_id: str, destinations: Sequence[str]) -> None:
    where = ", ".join(destinations)
    if not sys.stdin.isatty():
        raise ConfigError("a new copy empties the targets", field="-yes", advice="Add -yes to copy anew")
    print(f"Slot and targets of flow {flow_id} ({where}) are emptied first. Type yes: ", end="", file=sys.stderr)
    sys.stderr.flush()
    if sys.stdin.readline().strip() != "yes":
        raise WallabyError("nothing was changed")


class _Picture:
    """Shows one step after the other, a line or an object each."""

    shows_tables = False

    def __init__(self, report: Report) -> None:
        self._report = report

    def show(self, snapshot: Snapshot, tables: Sequence[TableSnapshot]) -> None:
        del tables
        self._report.show(_value(snapshot), [_line(snapshot)])

    def __enter__(self) -> _Picture:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class _LivePicture(_Picture):
    """Bars that redraw themselves in a terminal."""

    shows_tables = True

    def __init__(self, report: Report) -> None:
        from rich.live import Live

        super().__init__(report)
        self._live = Live(auto_refresh=False, vertical_overflow="crop")

    def show(self, snapshot: Snapshot, tables: Sequence[TableSnapshot]) -> None:
        self._live.update(bars(snapshot, tables), refresh=True)

    def __enter__(self) -> _Picture:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()


def _picture(report: Report) -> _Picture:
    return _LivePicture(report) if report.is_terminal else _Picture(report)


def bars(snapshot: Snapshot, tables: Sequence[TableSnapshot]) -> Any:
    """The whole as a line, and a bar for each table that is copied now or next."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
    grid.add_column(ratio=3)
    grid.add_column(no_wrap=True, justify="right", ratio=2)
    for one in sorted(tables, key=lambda one: _ORDER.index(one.state) if one.state in _ORDER else len(_ORDER))[
        :_TABLES_MAX
    ]:
        is_done = one.finished_at is not None
        share = 1.0 if is_done else min(one.copied_rows / one.expected_rows, 0.99) if one.expected_rows else 0.0
        rows = f"{one.copied_rows:,}" + ("" if is_done or not one.expected_rows else f" of {one.expected_rows:,}")
        grid.add_row(Text(_name(one)), ProgressBar(total=1.0, completed=share), f"{rows} {one.state or ''}")
    more = [Text(f"and {len(tables) - _TABLES_MAX} more tables", style="dim")] if len(tables) > _TABLES_MAX else []
    return Group(Text(_line(snapshot)), grid, *more)


def _line(item: Snapshot) -> str:
    parts = [f"{item.flow_id}: {_state(item)}"]
    if item.tables:
        expected = f" of about {item.expected_rows:,}" if item.tables_done < item.tables and item.expected_rows else ""
        parts += [
            _percent(item),
            f"{item.copied_rows:,}{expected} rows",
            _size(item.copied_bytes),
            f"{item.tables_done} of {item.tables} tables",
        ]
    if item.rows_per_s:
        parts.append(f"{item.rows_per_s:,.0f} rows/s")
    if item.seconds_left:
        parts.append(f"{_duration(item.seconds_left)} left")
    return ", ".join(parts)


def _state(item: Snapshot) -> str:
    return f"{item.state or 'unknown'}" + (" (a new copy is wanted)" if item.is_wanted else "")


def _percent(item: Snapshot) -> str:
    return "-" if item.share is None else f"{item.share:.0%}"


def _name(one: TableSnapshot) -> str:
    from wallaby.schema import TableName

    return str(TableName(one.schema, one.name))


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} m" if hours else f"{minutes} m {rest:02d} s" if minutes else f"{rest} s"


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _value(item: Snapshot) -> dict[str, Any]:
    return {
        "flow_id": item.flow_id,
        "state": item.state,
        "wanted": item.is_wanted,
        "epoch": item.epoch,
        "snapshot_lsn": item.snapshot_lsn,
        "tables": item.tables,
        "tables_done": item.tables_done,
        "expected_rows": item.expected_rows,
        "copied_rows": item.copied_rows,
        "copied_bytes": item.copied_bytes,
        **_moments(item),
        "share": None if item.share is None else round(item.share, 4),
        "rows_per_s": round(item.rows_per_s, 1),
        "seconds_left": None if item.seconds_left is None else round(item.seconds_left, 1),
    }


def _table_value(one: TableSnapshot) -> dict[str, Any]:
    return {
        "schema": one.schema,
        "name": one.name,
        "state": one.state,
        "estimated_rows": one.estimated_rows,
        "estimated_bytes": one.estimated_bytes,
        "copied_rows": one.copied_rows,
        "copied_bytes": one.copied_bytes,
        **_moments(one),
    }


def _moments(item: Snapshot | TableSnapshot) -> dict[str, str | None]:
    moments = {"started_at": item.started_at, "updated_at": item.updated_at, "finished_at": item.finished_at}
    return {name: None if moment is None else moment.isoformat() for name, moment in moments.items()}
