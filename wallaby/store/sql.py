"""The control store over SQL: one implementation for PostgreSQL and SQLite, which differ only in their edge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from wallaby.ddl.approval import DdlStatus, Decision, next_status
from wallaby.errors import AlreadyExists, CheckFailed, ConfigError, NotFound, Refused, Superseded
from wallaby.flow import FlowSpec
from wallaby.flow.storable import refuse_literal_secrets
from wallaby.lifecycle import NOTES, Command, FlowState, next_state
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import KnownNames
from wallaby.snapshot.progress import TableCopy
from wallaby.store.edge import Transaction
from wallaby.store.port import (
    DDL_CHARACTERS_MAX,
    EVENTS_MAX,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
    ActiveFlow,
    Checkpoint,
    DdlEvent,
    DdlPage,
    Epoch,
    FlowPage,
    FlowRecord,
    SnapshotState,
    SnapshotStatus,
    StateEvent,
)
from wallaby.store.snapshots import Snapshot, SnapshotPage, TableCopyPage
from wallaby.store.sql_access import SqlAccess
from wallaby.store.sql_letters import SqlLetters
from wallaby.store.sql_names import forget_names, read_names, write_names
from wallaby.store.sql_rows import (
    after_token,
    count_change,
    foreign_token,
    hold,
    refuse_epoch,
    storable_text,
    time_of,
    token_for,
)
from wallaby.store.sql_snapshots import forget_tables, read_snapshot, read_snapshots, read_tables, write_tables

_SPEC_VERSION: Final = 1
_ID_MAX: Final = 2**63 - 1
_NUMBER_MAX: Final = 2**31 - 1
_FLOW: Final = (
    "id, CAST(spec AS text), state, run_once, revision, reason, created_at, updated_at, copies_wanted, copies_begun"
)
_EVENT: Final = "id, flow_id, command, from_state, to_state, reason, created_at"
_DDL: Final = "id, flow_id, position, ddl, plan_json, status, created_at, decided_at"
_ONE_FLOW: Final = f"SELECT {_FLOW} FROM wallaby.flows WHERE id = %s"
_ONE_DDL: Final = f"SELECT {_DDL} FROM wallaby.ddl_events WHERE id = %s"
_CHECKPOINT: Final = "flow_id, committed_epoch, position, lanes, committed_at"
_SPECS_KEPT_MAX: Final = 1_024
_SPEC_KEPT_CHARACTERS_MAX: Final = 64 << 10
"""Definitions of at most this many characters are remembered as they were read: reading one is the larger part of a
look at a flow."""


class SqlStore(SqlAccess, SqlLetters):
    """A `Store` over an `Edge`."""

    def __repr__(self) -> str:
        return f"SqlStore({self._edge.dialect})"

    @property
    def reads_at_once(self) -> bool:
        return self._edge.reads_at_once

    def close(self) -> None:
        self._edge.close()

    def version(self) -> int:
        return int(self._edge.read("SELECT version FROM wallaby.changes WHERE id = 1")[0][0])

    # Flows

    def create_flow(self, spec: FlowSpec, *, state: FlowState = FlowState.CREATED, reason: str = "") -> FlowRecord:
        refuse_literal_secrets(spec)
        now, reason = datetime.now(UTC), storable_text(reason)
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                "INSERT INTO wallaby.flows"
                " (id, name, spec, spec_version, state, run_once, revision, reason, created_at, updated_at)"
                " VALUES (%s, %s, %s, %s, %s, false, 1, %s, %s, %s)"
                f" ON CONFLICT (id) DO NOTHING RETURNING {_FLOW}",
                (spec.id, spec.name, _dump(spec), _SPEC_VERSION, state, reason, now.isoformat(), now.isoformat()),
            )
            if not rows:
                raise AlreadyExists("a flow of this id exists", advice="Choose another id, or update it", flow=spec.id)
            _log_change(transaction, spec.id, None, None, state, reason, now)
        return _flow(rows[0])

    def get_flow(self, flow_id: str) -> FlowRecord:
        return _the_flow(self._edge.read(_ONE_FLOW, (flow_id,)), flow_id)

    def list_flows(self, page_size: int = 0, page_token: str = "") -> FlowPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        rows = self._edge.read(
            f"SELECT {_FLOW} FROM wallaby.flows WHERE id > %s ORDER BY id LIMIT %s",
            (after_token(page_token), size + 1),
        )
        flows = tuple(_flow(row) for row in rows[:size])
        return FlowPage(flows, token_for(flows[-1].id) if len(rows) > size else "")

    def active_flows(self) -> tuple[ActiveFlow, ...]:
        rows = self._edge.read(
            "SELECT id, state, updated_at, CASE WHEN copies_wanted > copies_begun THEN copies_wanted ELSE 0 END,"
            " (SELECT max(decision) FROM wallaby.dead_letters WHERE flow_id = flows.id)"
            " FROM wallaby.flows WHERE state IN (%s, %s) ORDER BY id",
            (FlowState.RUNNING, FlowState.STOPPING),
        )
        return tuple(
            ActiveFlow(
                id=flow_id,
                state=FlowState(state),
                updated_at=time_of(updated_at),
                copy_due=int(copy_due),
                letter_decision=int(decision or 0),
            )
            for flow_id, state, updated_at, copy_due, decision in rows
        )

    def update_flow(self, flow_id: str, spec: FlowSpec, *, expected_revision: int | None = None) -> FlowRecord:
        if spec.id != flow_id:
            raise ConfigError("a flow keeps its id", field="id", advice="Create a new flow for a new id")
        refuse_literal_secrets(spec)
        with self._edge.transaction() as transaction:
            record = _read_flow(transaction, flow_id, lock=True)
            if expected_revision is not None and record.revision != expected_revision:
                raise Superseded(
                    f"the flow was changed meanwhile (revision {record.revision}, expected {expected_revision})",
                    advice="Read it again and repeat the change",
                    flow=flow_id,
                )
            next_state(record.state, Command.UPDATE)
            if record.spec == spec:
                return record
            now = datetime.now(UTC)
            rows = transaction.execute(
                "UPDATE wallaby.flows SET name = %s, spec = %s, spec_version = %s, revision = revision + 1,"
                f" updated_at = %s WHERE id = %s RETURNING {_FLOW}",
                (spec.name, _dump(spec), _SPEC_VERSION, now.isoformat(), flow_id),
            )
            reason = f"revision {record.revision + 1}"
            _log_change(transaction, flow_id, Command.UPDATE, record.state, record.state, reason, now)
        return _flow(rows[0])

    def delete_flow(self, flow_id: str) -> None:
        with self._edge.transaction() as transaction:
            record = _read_flow(transaction, flow_id, lock=True)
            next_state(record.state, Command.DELETE)
            transaction.execute("DELETE FROM wallaby.flows WHERE id = %s", (flow_id,))
            transaction.execute("DELETE FROM wallaby.ddl_events WHERE flow_id = %s", (flow_id,))
            _log_change(transaction, flow_id, Command.DELETE, record.state, record.state, "deleted", datetime.now(UTC))
            _reset(transaction, flow_id)
            forget_names(transaction, flow_id)
            # Last, as everywhere: decisions hold the count of changes first, lanes the checkpoint.
            transaction.execute("DELETE FROM wallaby.dead_letters WHERE flow_id = %s", (flow_id,))

    def move_flow(self, flow_id: str, command: Command, reason: str = "") -> FlowRecord:
        assert command not in (Command.UPDATE, Command.DELETE), f"{command} has a method of its own"
        with self._edge.transaction() as transaction:
            record = _read_flow(transaction, flow_id, lock=True)
            state = next_state(record.state, command)
            if command in NOTES:
                return _note(transaction, record, command, storable_text(reason))
            once = command is Command.RUN_ONCE if _says_how_long(command, record.state) else record.run_once
            is_asked = command is Command.RESNAPSHOT and not record.is_copy_wanted
            is_moved = (state, once) != (record.state, record.run_once)
            if not is_moved and not is_asked:
                return record
            now, short = datetime.now(UTC), storable_text(reason)
            rows = transaction.execute(
                "UPDATE wallaby.flows SET state = %s, run_once = %s, reason = %s, updated_at = %s,"
                f" copies_wanted = copies_wanted + %s WHERE id = %s RETURNING {_FLOW}",
                (state, once, short, (now if is_moved else record.updated_at).isoformat(), int(is_asked), flow_id),
            )
            _log_change(transaction, flow_id, command, record.state, state, short, now)
        return _flow(rows[0])

    def cancel_copy(self, flow_id: str) -> FlowRecord:
        with self._edge.transaction() as transaction:
            record = _read_flow(transaction, flow_id, lock=True)
            next_state(record.state, Command.UPDATE)
            if not record.is_copy_wanted:
                return record
            now = datetime.now(UTC)
            rows = transaction.execute(
                "UPDATE wallaby.flows SET copies_begun = copies_wanted, updated_at = %s WHERE id = %s"
                f" RETURNING {_FLOW}",
                (now.isoformat(), flow_id),
            )
            reason = "the new copy was cancelled"
            _log_change(transaction, flow_id, Command.UPDATE, record.state, record.state, reason, now)
        return _flow(rows[0])

    def state_events(self, flow_id: str, limit: int = 100) -> tuple[StateEvent, ...]:
        rows = self._edge.read(
            f"SELECT {_EVENT} FROM wallaby.flow_state_events WHERE flow_id = %s ORDER BY id DESC LIMIT %s",
            (flow_id, limit),
        )
        return tuple(map(_event, rows))

    def newest_cursor(self) -> int:
        rows = self._edge.read("SELECT max(id) FROM wallaby.flow_state_events")
        return int(rows[0][0] or 0)

    def events_after(self, cursor: int, flow_id: str = "", limit: int = 100) -> tuple[StateEvent, ...]:
        chosen, parameters = (" AND flow_id = %s", (cursor, flow_id)) if flow_id else ("", (cursor,))
        rows = self._edge.read(
            f"SELECT {_EVENT} FROM wallaby.flow_state_events WHERE id > %s{chosen} ORDER BY id LIMIT %s",
            (*parameters, limit),
        )
        # Asked afterwards: what was forgotten before the events were read shows.
        [(oldest,)] = self._edge.read("SELECT min(id) FROM wallaby.flow_state_events")
        if 0 < cursor < int(oldest or 0) - 1:
            raise ConfigError("lies before the oldest event that is kept", field="cursor", advice="Watch from 0 again")
        return tuple(map(_event, rows))

    # Schema changes

    def record_ddl(self, flow_id: str, *, position: Position, ddl: str, plan_json: str = "") -> DdlEvent:
        for field, text in (("ddl", ddl), ("plan_json", plan_json)):
            if len(text) > DDL_CHARACTERS_MAX or storable_text(text, None) != text:
                raise ConfigError(
                    f"must be at most {DDL_CHARACTERS_MAX} characters of text without NUL", field=field, flow=flow_id
                )
        with self._edge.transaction() as transaction:
            transaction.execute(
                "INSERT INTO wallaby.ddl_events (flow_id, position, ddl, plan_json, status, created_at)"
                " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (flow_id, position) DO NOTHING",
                (flow_id, str(position), ddl, plan_json, DdlStatus.PENDING, datetime.now(UTC).isoformat()),
            )
            rows = transaction.execute(
                f"SELECT {_DDL} FROM wallaby.ddl_events WHERE flow_id = %s AND position = %s", (flow_id, str(position))
            )
        return _ddl(rows[0])

    def get_ddl(self, event_id: int) -> DdlEvent:
        return _the_ddl(self._edge.read(_ONE_DDL, (event_id,)), event_id)

    def list_ddl(
        self, *, status: DdlStatus | None = None, flow_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> DdlPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)
        after = after_token(page_token) or "0"
        if not after.isdecimal() or int(after) > _ID_MAX:
            raise foreign_token()
        chosen = {"status = %s": status, "flow_id = %s": flow_id or None}
        conditions = {text: value for text, value in chosen.items() if value is not None}
        rows = self._edge.read(
            f"SELECT {_DDL} FROM wallaby.ddl_events WHERE {' AND '.join(('id > %s', *conditions))}"
            " ORDER BY id LIMIT %s",
            (int(after), *conditions.values(), size + 1),
        )
        events = tuple(map(_ddl, rows[:size]))
        return DdlPage(events, token_for(str(events[-1].id)) if len(rows) > size else "")

    def decide_ddl(self, event_id: int, decision: Decision) -> DdlEvent:
        with self._edge.transaction() as transaction:
            event = _read_ddl(transaction, event_id, lock=True)
            status = next_status(event.status, decision)
            if status is event.status:
                return event
            rows = transaction.execute(
                f"UPDATE wallaby.ddl_events SET status = %s, decided_at = %s WHERE id = %s RETURNING {_DDL}",
                (status, datetime.now(UTC).isoformat(), event_id),
            )
            count_change(transaction)
        return _ddl(rows[0])

    # Epochs and checkpoints

    def begin_epoch(self, flow_id: str, *, above: int = 0) -> Epoch:
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                "INSERT INTO wallaby.checkpoints AS c (flow_id, epoch, position, lanes) VALUES (%s, %s, %s, '{}')"
                " ON CONFLICT (flow_id) DO UPDATE SET epoch = 1 + CASE WHEN c.epoch > excluded.epoch - 1 THEN c.epoch"
                f" ELSE excluded.epoch - 1 END RETURNING epoch, {_CHECKPOINT}",
                (flow_id, above + 1, str(START)),
            )
        return Epoch(int(rows[0][0]), _checkpoint(rows[0][1:]))

    def commit_checkpoint(
        self, flow_id: str, *, epoch: int, after: Position, upto: Position, lanes: Mapping[str, Position]
    ) -> None:
        assert after <= upto, f"a checkpoint cannot move back, from {after} to {upto}"
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                "UPDATE wallaby.checkpoints SET position = %s, lanes = %s, committed_epoch = epoch, committed_at = %s"
                " WHERE flow_id = %s AND epoch = %s AND position = %s RETURNING epoch",
                (str(upto), _dump_lanes(lanes), datetime.now(UTC).isoformat(), flow_id, epoch, str(after)),
            )
            if not rows:
                _explain(transaction, flow_id, epoch, after, upto)

    def get_checkpoint(self, flow_id: str) -> Checkpoint | None:
        rows = self._edge.read(f"SELECT {_CHECKPOINT} FROM wallaby.checkpoints WHERE flow_id = %s", (flow_id,))
        return _checkpoint(rows[0]) if rows else None

    def list_checkpoints(self) -> tuple[Checkpoint, ...]:
        rows = self._edge.read(f"SELECT {_CHECKPOINT} FROM wallaby.checkpoints ORDER BY flow_id")
        return tuple(checkpoint for row in rows if (checkpoint := _checkpoint(row)) is not None)

    def put_checkpoint(self, flow_id: str, position: Position, *, force: bool = False) -> Checkpoint:
        with self._edge.transaction() as transaction:
            next_state(_read_flow(transaction, flow_id, lock=True).state, Command.UPDATE)
            rows = transaction.execute(
                f"SELECT {_CHECKPOINT} FROM wallaby.checkpoints WHERE flow_id = %s FOR UPDATE", (flow_id,)
            )
            stored = _checkpoint(rows[0]) if rows else None
            if stored is None:
                raise NotFound("the flow has no checkpoint yet", flow=flow_id)
            if position == stored.position:
                return stored
            _require_settable(stored, position, force=force)
            lanes = stored.lanes
            if position < stored.position:
                lanes = {lane: min(known, position) for lane, known in lanes.items()}
            [row] = transaction.execute(
                "UPDATE wallaby.checkpoints SET epoch = epoch + 1, committed_epoch = epoch + 1, position = %s,"
                f" lanes = %s, committed_at = %s WHERE flow_id = %s RETURNING {_CHECKPOINT}",
                (str(position), _dump_lanes(lanes), datetime.now(UTC).isoformat(), flow_id),
            )
            moved = _checkpoint(row)
        assert moved is not None
        return moved

    def reset_checkpoint(self, flow_id: str) -> None:
        with self._edge.transaction() as transaction:
            _reset(transaction, flow_id)

    def put_source_identity(self, flow_id: str, identity: Mapping[str, str | int], *, epoch: int | None = None) -> None:
        with self._edge.transaction() as transaction:
            hold(transaction, flow_id, epoch)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET source_identity = %s WHERE flow_id = %s",
                (json.dumps(dict(identity)), flow_id),
            )

    def get_source_identity(self, flow_id: str) -> dict[str, str | int] | None:
        rows = self._edge.read("SELECT source_identity FROM wallaby.checkpoints WHERE flow_id = %s", (flow_id,))
        return dict(_load(rows[0][0])) if rows and rows[0][0] is not None else None

    def put_source_names(self, flow_id: str, names: Sequence[KnownNames], *, epoch: int | None = None) -> None:
        with self._edge.transaction() as transaction:
            hold(transaction, flow_id, epoch)
            write_names(transaction, flow_id, names)

    def get_source_names(self, flow_id: str) -> tuple[KnownNames, ...]:
        return read_names(self._edge.read, flow_id)

    def set_snapshot_state(
        self,
        flow_id: str,
        epoch: int,
        status: SnapshotStatus,
        consistent_point: Lsn | None = None,
        slot: str = "",
    ) -> None:
        with self._edge.transaction() as transaction:
            hold(transaction, flow_id, epoch)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET snapshot_status = %s, snapshot_epoch = %s, snapshot_slot = %s,"
                " snapshot_consistent_point = %s WHERE flow_id = %s",
                (status, epoch, slot, None if consistent_point is None else str(consistent_point), flow_id),
            )

    def begin_copy(self, flow_id: str, epoch: int, *, slot: str, identity: Mapping[str, str | int]) -> None:
        with self._edge.transaction() as transaction:
            # Rows are locked in the order every change of a flow has: the flow, the counter, the checkpoint.
            transaction.execute(
                "UPDATE wallaby.flows SET copies_begun = copies_wanted WHERE id = %s AND copies_begun < copies_wanted",
                (flow_id,),
            )
            count_change(transaction)
            hold(transaction, flow_id, epoch)
            forget_tables(transaction, flow_id)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET position = %s, lanes = '{}', committed_epoch = NULL,"
                " committed_at = NULL, source_identity = %s, snapshot_status = %s, snapshot_epoch = %s,"
                " snapshot_slot = %s, snapshot_consistent_point = NULL WHERE flow_id = %s",
                (str(START), json.dumps(dict(identity)), SnapshotStatus.COPYING, epoch, slot, flow_id),
            )

    def get_snapshot_state(self, flow_id: str) -> SnapshotState | None:
        rows = self._edge.read(
            "SELECT snapshot_status, snapshot_epoch, snapshot_slot, snapshot_consistent_point"
            " FROM wallaby.checkpoints WHERE flow_id = %s",
            (flow_id,),
        )
        if not rows or rows[0][0] is None:
            return None
        status, epoch, slot, point = rows[0]
        return SnapshotState(
            status=SnapshotStatus(status),
            epoch=int(epoch),
            slot=slot or "",
            consistent_point=Lsn.parse(point) if point else None,
        )

    # Progress of copies

    def copy_due(self, flow_id: str) -> int:
        rows = self._edge.read(
            "SELECT copies_wanted FROM wallaby.flows WHERE id = %s AND copies_wanted > copies_begun", (flow_id,)
        )
        return int(rows[0][0]) if rows else 0

    def note_copy(self, flow_id: str, epoch: int, tables: Sequence[TableCopy]) -> None:
        with self._edge.transaction() as transaction:
            count_change(transaction)
            hold(transaction, flow_id, epoch)
            write_tables(transaction, flow_id, tables)

    def finish_copy(self, flow_id: str, epoch: int, tables: Sequence[TableCopy]) -> None:
        with self._edge.transaction() as transaction:
            count_change(transaction)
            hold(transaction, flow_id, epoch)
            write_tables(transaction, flow_id, tables)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET snapshot_status = %s, snapshot_epoch = %s WHERE flow_id = %s",
                (SnapshotStatus.DONE, epoch, flow_id),
            )

    def get_snapshot(self, flow_id: str) -> Snapshot:
        found = read_snapshot(self._edge.read, flow_id)
        if found is None:
            self.get_flow(flow_id)
            raise NotFound("the flow has copied nothing", flow=flow_id)
        return found

    def list_snapshots(self, page_size: int = 0, page_token: str = "") -> SnapshotPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        found = read_snapshots(self._edge.read, after=after_token(page_token), limit=size + 1)
        return SnapshotPage(tuple(found[:size]), token_for(found[size - 1].flow_id) if len(found) > size else "")

    def list_table_copies(self, flow_id: str, page_size: int = 0, page_token: str = "") -> TableCopyPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)
        after = after_token(page_token) or "-1"
        if page_token and (not after.isdecimal() or int(after) > _NUMBER_MAX):
            raise foreign_token()
        with self._edge.transaction() as transaction:
            found = read_tables(transaction, flow_id, after=int(after), limit=size + 1)
        return TableCopyPage(tuple(found[:size]), token_for(str(found[size - 1].number)) if len(found) > size else "")


def _read_flow(transaction: Transaction, flow_id: str, *, lock: bool = False) -> FlowRecord:
    return _the_flow(transaction.execute(_ONE_FLOW + (" FOR UPDATE" if lock else ""), (flow_id,)), flow_id)


def _the_flow(rows: list[tuple[Any, ...]], flow_id: str) -> FlowRecord:
    if not rows:
        raise NotFound("there is no flow of this id", advice="List the flows that exist", flow=flow_id)
    return _flow(rows[0])


def _explain(transaction: Transaction, flow_id: str, epoch: int, after: Position, upto: Position) -> None:
    """Why no row was updated: returns when the commit had happened before, raises otherwise."""
    rows = transaction.execute(
        "SELECT epoch, position FROM wallaby.checkpoints WHERE flow_id = %s FOR UPDATE", (flow_id,)
    )
    stored_epoch, position = (int(rows[0][0]), Position.parse(rows[0][1])) if rows else (0, START)
    if stored_epoch != epoch:
        refuse_epoch(flow_id, mine=epoch, stored=stored_epoch)
    if position == upto:
        return
    if position > after:
        raise Superseded(f"the checkpoint stands at {position}, beyond {after}", flow=flow_id)
    raise Refused(
        f"the checkpoint stands at {position}, behind {after}: the store was set back",
        advice="Restore the newest state of the control store before the flow is started again",
        flow=flow_id,
    )


def _require_settable(stored: Checkpoint, position: Position, *, force: bool) -> None:
    """`Refused` for a place the destinations have not reached, and for one that lies back unless it is forced."""
    reached = min(stored.lanes.values(), default=stored.position)
    if position > max(reached, stored.position):
        raise Refused(
            f"the destinations have everything up to {reached.lsn} only: changes up to {position.lsn} would be lost",
            advice="Run the flow; the checkpoint follows the data",
            flow=stored.flow_id,
        )
    if position < stored.position and not force:
        raise Refused(
            f"the checkpoint stands at {stored.position.lsn} and would go back to {position.lsn}",
            advice="If a destination was restored to an earlier state, an admin may force it",
            flow=stored.flow_id,
        )


def _reset(transaction: Transaction, flow_id: str) -> None:
    transaction.execute(
        "UPDATE wallaby.checkpoints SET epoch = epoch + 1, position = %s, lanes = '{}', committed_epoch = NULL,"
        " committed_at = NULL, source_identity = NULL, snapshot_status = NULL, snapshot_epoch = NULL,"
        " snapshot_slot = NULL, snapshot_consistent_point = NULL WHERE flow_id = %s",
        (str(START), flow_id),
    )
    forget_tables(transaction, flow_id)


def _note(transaction: Transaction, record: FlowRecord, command: Command, reason: str) -> FlowRecord:
    """Keep and log a reason. The time of the last move stays: nothing else is wanted than before."""
    newest = transaction.execute(
        "SELECT command, reason FROM wallaby.flow_state_events WHERE flow_id = %s ORDER BY id DESC LIMIT 1",
        (record.id,),
    )
    follows_retry = [word for word, _ in newest] == [Command.RETRY]
    if newest == [(command, reason)] or (command is Command.RECOVER and not follows_retry):
        return record
    rows = transaction.execute(
        f"UPDATE wallaby.flows SET reason = %s WHERE id = %s RETURNING {_FLOW}", (reason, record.id)
    )
    _log_change(transaction, record.id, command, record.state, record.state, reason, datetime.now(UTC))
    return _flow(rows[0])


def _log_change(
    transaction: Transaction,
    flow_id: str,
    command: Command | None,
    before: FlowState | None,
    after: FlowState,
    reason: str,
    at: datetime,
) -> None:
    # Counting first locks the one row every change counts in: ids of events are then given in the order of commits,
    # and whoever has seen one never misses an earlier one.
    count_change(transaction)
    [(number,)] = transaction.execute(
        "INSERT INTO wallaby.flow_state_events (flow_id, command, from_state, to_state, reason, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
        (flow_id, command, before, after, reason, at.isoformat()),
    )
    transaction.execute("DELETE FROM wallaby.flow_state_events WHERE id <= %s", (number - EVENTS_MAX,))


def _says_how_long(command: Command, state: FlowState) -> bool:
    # A flow that runs up to some position and is to copy anew still ends there.
    is_new_run = command is Command.RESNAPSHOT and state is not FlowState.RUNNING
    return is_new_run or command in (Command.START, Command.RESUME, Command.RUN_ONCE)


def _flow(row: tuple[Any, ...]) -> FlowRecord:
    flow_id, spec, state, once, revision, reason, created_at, updated_at, copies_wanted, copies_begun = row
    return FlowRecord(
        id=flow_id,
        spec=_stored_spec(flow_id, spec),
        state=FlowState(state),
        run_once=bool(once),
        revision=int(revision),
        reason=reason,
        created_at=time_of(created_at),
        updated_at=time_of(updated_at),
        copies_wanted=int(copies_wanted),
        copies_begun=int(copies_begun),
    )


def _event(row: tuple[Any, ...]) -> StateEvent:
    cursor, flow_id, command, before, after, reason, at = row
    return StateEvent(
        cursor=int(cursor),
        flow_id=flow_id,
        command=Command(command) if command else None,
        before=FlowState(before) if before else None,
        after=FlowState(after),
        reason=reason,
        at=time_of(at),
    )


def _read_ddl(transaction: Transaction, event_id: int, *, lock: bool = False) -> DdlEvent:
    return _the_ddl(transaction.execute(_ONE_DDL + (" FOR UPDATE" if lock else ""), (event_id,)), event_id)


def _the_ddl(rows: list[tuple[Any, ...]], event_id: int) -> DdlEvent:
    if not rows:
        raise NotFound("there is no schema change of this id", advice="List those there are", id=event_id)
    return _ddl(rows[0])


def _ddl(row: tuple[Any, ...]) -> DdlEvent:
    event_id, flow_id, position, ddl, plan_json, status, created_at, decided_at = row
    return DdlEvent(
        id=int(event_id),
        flow_id=flow_id,
        position=Position.parse(position),
        ddl=ddl,
        plan_json=plan_json,
        status=DdlStatus(status),
        created_at=time_of(created_at),
        decided_at=None if decided_at is None else time_of(decided_at),
    )


def _stored_spec(flow_id: str, text: str) -> FlowSpec:
    try:
        return _remembered_spec(text) if len(text) <= _SPEC_KEPT_CHARACTERS_MAX else _spec(text)
    except ValidationError as error:
        raise CheckFailed(
            f"the stored definition is not one this wallaby reads ({error.error_count()} problems)",
            advice="Use the release that stored it, or delete the flow and create it again",
            flow=flow_id,
        ) from None


def _spec(text: str) -> FlowSpec:
    return FlowSpec.model_validate(json.loads(text))


@lru_cache(maxsize=_SPECS_KEPT_MAX)
def _remembered_spec(text: str) -> FlowSpec:
    return _spec(text)


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint | None:
    flow_id, epoch, position, lanes, committed_at = row
    if committed_at is None:
        return None
    return Checkpoint(
        flow_id=flow_id,
        epoch=int(epoch),
        position=Position.parse(position),
        lanes={lane: Position.parse(text) for lane, text in _load(lanes).items()},
        updated_at=time_of(committed_at),
    )


def _dump(spec: FlowSpec) -> str:
    return json.dumps(spec.to_mapping())


def _dump_lanes(lanes: Mapping[str, Position]) -> str:
    return json.dumps({str(lane): str(position) for lane, position in lanes.items()})


def _load(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
