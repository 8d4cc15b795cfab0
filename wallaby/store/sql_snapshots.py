"""Progress of copies over SQL: statements that run inside a transaction of the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from wallaby.lifecycle import FlowState
from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName
from wallaby.snapshot.progress import NOTED, CopyRun, CopyState, TableCopy, state_now
from wallaby.store.edge import Read, Transaction
from wallaby.store.snapshots import Snapshot

_COLUMNS: Final = (
    "number, table_schema, table_name, state, epoch, snapshot_lsn, estimated_rows, estimated_bytes, copied_rows,"
    " copied_bytes, started_at, updated_at, finished_at"
)
_FIGURES: Final = [name.strip() for name in _COLUMNS.split(",")][1:]
_BATCH_MAX: Final = 500
"""Tables per statement."""
_ALIVE: Final = frozenset({FlowState.RUNNING, FlowState.STOPPING})

_RUN: Final = "c.snapshot_status, c.snapshot_epoch, c.epoch, c.position, f.state"
_HAS_COPY: Final = "(c.snapshot_status IS NOT NULL OR f.copies_wanted > f.copies_begun)"
_SUMMARY: Final = f"""
SELECT f.id, f.copies_wanted > f.copies_begun, {_RUN},
    count(t.number), max(t.snapshot_lsn), COALESCE(sum(CASE WHEN t.state = 'copied' THEN 1 ELSE 0 END), 0),
    COALESCE(sum(CASE WHEN t.state = 'copied' OR t.copied_rows > t.estimated_rows THEN t.copied_rows
        ELSE t.estimated_rows END), 0),
    COALESCE(sum(t.copied_rows), 0), COALESCE(sum(t.copied_bytes), 0),
    min(t.started_at), max(t.updated_at), max(t.finished_at)
FROM wallaby.flows AS f
LEFT JOIN wallaby.checkpoints AS c ON c.flow_id = f.id
LEFT JOIN wallaby.table_copies AS t ON t.flow_id = f.id
"""
_GROUP: Final = f"GROUP BY f.id, f.copies_wanted, f.copies_begun, {_RUN} ORDER BY f.id"


def write_tables(transaction: Transaction, flow_id: str, tables: Sequence[TableCopy]) -> None:
    """Insert or replace, in statements of a bounded size."""
    for start in range(0, len(tables), _BATCH_MAX):
        batch = tables[start : start + _BATCH_MAX]
        row = f"(%s, {', '.join(['%s'] * (1 + len(_FIGURES)))})"
        transaction.execute(
            f"INSERT INTO wallaby.table_copies (flow_id, {_COLUMNS}) VALUES {', '.join([row] * len(batch))}"
            " ON CONFLICT (flow_id, number) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _FIGURES),
            [value for item in batch for value in (flow_id, *_row(item))],
        )


def forget_tables(transaction: Transaction, flow_id: str) -> None:
    """Before another copy, or with the flow."""
    transaction.execute("DELETE FROM wallaby.table_copies WHERE flow_id = %s", (flow_id,))


def read_snapshot(read: Read, flow_id: str) -> Snapshot | None:
    """None for a flow that is unknown, or neither copied nor was asked to."""
    rows = read(f"{_SUMMARY} WHERE f.id = %s AND {_HAS_COPY} {_GROUP}", (flow_id,))
    return _snapshot(rows[0]) if rows else None


def read_snapshots(read: Read, *, after: str, limit: int) -> list[Snapshot]:
    """In order of ids, beyond ``after``."""
    # The page is chosen first: a flow may have many thousand tables.
    page = (
        "SELECT f.id FROM wallaby.flows AS f LEFT JOIN wallaby.checkpoints AS c ON c.flow_id = f.id"
        f" WHERE f.id > %s AND {_HAS_COPY} ORDER BY f.id LIMIT %s"
    )
    return [_snapshot(row) for row in read(f"{_SUMMARY} WHERE f.id IN ({page}) {_GROUP}", (after, limit))]


def read_tables(transaction: Transaction, flow_id: str, *, after: int, limit: int) -> list[TableCopy]:
    """In the order of copying, beyond number ``after``."""
    run = transaction.execute(
        f"SELECT {_RUN} FROM wallaby.flows AS f JOIN wallaby.checkpoints AS c ON c.flow_id = f.id WHERE f.id = %s",
        (flow_id,),
    )
    if not run:
        return []
    rows = transaction.execute(
        f"SELECT {_COLUMNS} FROM wallaby.table_copies WHERE flow_id = %s AND number > %s ORDER BY number LIMIT %s",
        (flow_id, after, limit),
    )
    return [_table(row, _run(*run[0])) for row in rows]


def _row(item: TableCopy) -> tuple[Any, ...]:
    assert item.state in NOTED, f"{item.state} is read, never written"
    return (
        *(item.number, item.table.schema, item.table.name, item.state, item.epoch, str(item.snapshot_lsn)),
        *(item.estimated_rows, item.estimated_bytes, item.rows, item.bytes),
        *(None if moment is None else moment.isoformat() for moment in (item.started_at, item.updated_at)),
        None if item.finished_at is None else item.finished_at.isoformat(),
    )


def _table(row: tuple[Any, ...], run: CopyRun) -> TableCopy:
    number, schema, name, state, epoch, lsn, estimated_rows, estimated_bytes, rows, nbytes, *moments = row
    started_at, updated_at, finished_at = map(_moment, moments)
    snapshot_lsn = Lsn.parse(lsn)
    return TableCopy(
        table=TableName(schema, name),
        number=int(number),
        epoch=int(epoch),
        snapshot_lsn=snapshot_lsn,
        state=state_now(CopyState(state), snapshot_lsn, run),
        estimated_rows=int(estimated_rows),
        estimated_bytes=int(estimated_bytes),
        rows=int(rows),
        bytes=int(nbytes),
        started_at=started_at,
        updated_at=updated_at,
        finished_at=finished_at,
    )


def _snapshot(row: tuple[Any, ...]) -> Snapshot:
    flow_id, is_wanted, status, copied_in, epoch, position, state, *figures = row
    tables, lsn, done, expected, rows, nbytes, started_at, updated_at, finished_at = figures
    snapshot_lsn = Lsn.parse(lsn) if lsn else None
    if status is None:
        return Snapshot(flow_id=flow_id, state=CopyState.PENDING, is_wanted=bool(is_wanted))
    noted = CopyState.COPYING if tables else CopyState.PENDING
    run = _run(status, copied_in, epoch, position, state)
    return Snapshot(
        flow_id=flow_id,
        state=state_now(noted, snapshot_lsn or run.checkpoint.lsn, run),
        is_wanted=bool(is_wanted),
        epoch=int(copied_in),
        snapshot_lsn=snapshot_lsn,
        tables=int(tables),
        tables_done=int(done),
        expected_rows=int(expected),
        rows=int(rows),
        bytes=int(nbytes),
        started_at=_moment(started_at),
        updated_at=_moment(updated_at),
        finished_at=_moment(finished_at) if tables == done else None,
    )


def _run(status: str | None, copied_in: int | None, epoch: int, position: str, state: str) -> CopyRun:
    return CopyRun(
        is_done=status == "done",
        is_alive=copied_in == epoch and FlowState(state) in _ALIVE,
        checkpoint=Position.parse(position),
    )


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    return (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
