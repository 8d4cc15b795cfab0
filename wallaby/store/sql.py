"""The control store over SQL: one implementation for PostgreSQL and SQLite, which differ only in their edge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from wallaby.ddl.approval import DdlStatus, Decision, next_status
from wallaby.errors import AlreadyExists, CheckFailed, ConfigError, NotFound, Refused, Superseded
from wallaby.flow import FlowSpec
from wallaby.flow.storable import refuse_literal_secrets
from wallaby.lifecycle import Command, FlowState, next_state
from wallaby.lsn import START, Lsn, Position
from wallaby.store.edge import Transaction
from wallaby.store.port import (
    DDL_CHARACTERS_MAX,
    PAGE_SIZE_DEFAULT,
    PAGE_SIZE_MAX,
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
from wallaby.store.sql_access import SqlAccess
from wallaby.store.sql_letters import SqlLetters
from wallaby.store.sql_rows import after_token as _after_token
from wallaby.store.sql_rows import count_change as _count_change
from wallaby.store.sql_rows import foreign_token as _foreign_token
from wallaby.store.sql_rows import hold as _hold
from wallaby.store.sql_rows import refuse_epoch as _refuse_epoch
from wallaby.store.sql_rows import storable_text as _storable
from wallaby.store.sql_rows import time_of as _time
from wallaby.store.sql_rows import token_for as _token

_SPEC_VERSION: Final = 1
_ID_MAX: Final = 2**63 - 1
_FLOW: Final = "id, spec, state, run_once, revision, reason, created_at, updated_at"
_EVENT: Final = "id, flow_id, command, from_state, to_state, reason, created_at"
_DDL: Final = "id, flow_id, position, ddl, plan_json, status, created_at, decided_at"
_CHECKPOINT: Final = "flow_id, committed_epoch, position, lanes, committed_at"


class SqlStore(SqlAccess, SqlLetters):
    """A `Store` over an `Edge`."""

    def __repr__(self) -> str:
        return f"SqlStore({self._edge.dialect})"

    def close(self) -> None:
        self._edge.close()

    def version(self) -> int:
        with self._edge.transaction() as transaction:
            return int(transaction.execute("SELECT version FROM wallaby.changes WHERE id = 1")[0][0])

    # Flows

    def create_flow(self, spec: FlowSpec, *, state: FlowState = FlowState.CREATED, reason: str = "") -> FlowRecord:
        refuse_literal_secrets(spec)
        now, reason = datetime.now(UTC), _storable(reason)
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
        with self._edge.transaction() as transaction:
            return _read_flow(transaction, flow_id)

    def list_flows(self, page_size: int = 0, page_token: str = "") -> FlowPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                f"SELECT {_FLOW} FROM wallaby.flows WHERE id > %s ORDER BY id LIMIT %s",
                (_after_token(page_token), size + 1),
            )
        flows = tuple(_flow(row) for row in rows[:size])
        return FlowPage(flows, _token(flows[-1].id) if len(rows) > size else "")

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
            transaction.execute("DELETE FROM wallaby.dead_letters WHERE flow_id = %s", (flow_id,))
            _log_change(transaction, flow_id, Command.DELETE, record.state, record.state, "deleted", datetime.now(UTC))
            _reset(transaction, flow_id)

    def move_flow(self, flow_id: str, command: Command, reason: str = "") -> FlowRecord:
        assert command not in (Command.UPDATE, Command.DELETE), f"{command} has a method of its own"
        with self._edge.transaction() as transaction:
            record = _read_flow(transaction, flow_id, lock=True)
            state = next_state(record.state, command)
            once = command is Command.RUN_ONCE if _says_how_long(command) else record.run_once
            if (state, once) == (record.state, record.run_once):
                return record
            now, short = datetime.now(UTC), _storable(reason)
            rows = transaction.execute(
                "UPDATE wallaby.flows SET state = %s, run_once = %s, reason = %s, updated_at = %s WHERE id = %s"
                f" RETURNING {_FLOW}",
                (state, once, short, now.isoformat(), flow_id),
            )
            _log_change(transaction, flow_id, command, record.state, state, short, now)
        return _flow(rows[0])

    def state_events(self, flow_id: str, limit: int = 100) -> tuple[StateEvent, ...]:
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                f"SELECT {_EVENT} FROM wallaby.flow_state_events WHERE flow_id = %s ORDER BY id DESC LIMIT %s",
                (flow_id, limit),
            )
        return tuple(map(_event, rows))

    def newest_cursor(self) -> int:
        with self._edge.transaction() as transaction:
            rows = transaction.execute("SELECT max(id) FROM wallaby.flow_state_events")
        return int(rows[0][0] or 0)

    def events_after(self, cursor: int, flow_id: str = "", limit: int = 100) -> tuple[StateEvent, ...]:
        chosen, parameters = (" AND flow_id = %s", (cursor, flow_id)) if flow_id else ("", (cursor,))
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                f"SELECT {_EVENT} FROM wallaby.flow_state_events WHERE id > %s{chosen} ORDER BY id LIMIT %s",
                (*parameters, limit),
            )
        return tuple(map(_event, rows))

    # Schema changes

    def record_ddl(self, flow_id: str, *, position: Position, ddl: str, plan_json: str = "") -> DdlEvent:
        for field, text in (("ddl", ddl), ("plan_json", plan_json)):
            if len(text) > DDL_CHARACTERS_MAX or _storable(text, None) != text:
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
        with self._edge.transaction() as transaction:
            return _read_ddl(transaction, event_id)

    def list_ddl(
        self, *, status: DdlStatus | None = None, flow_id: str = "", page_size: int = 0, page_token: str = ""
    ) -> DdlPage:
        if page_size < 0:
            raise ConfigError("must not be negative", field="page_size")
        size = min(page_size or PAGE_SIZE_MAX, PAGE_SIZE_MAX)
        after = _after_token(page_token) or "0"
        if not after.isdecimal() or int(after) > _ID_MAX:
            raise _foreign_token()
        chosen = {"status = %s": status, "flow_id = %s": flow_id or None}
        conditions = {text: value for text, value in chosen.items() if value is not None}
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
                f"SELECT {_DDL} FROM wallaby.ddl_events WHERE {' AND '.join(('id > %s', *conditions))}"
                " ORDER BY id LIMIT %s",
                (int(after), *conditions.values(), size + 1),
            )
        events = tuple(map(_ddl, rows[:size]))
        return DdlPage(events, _token(str(events[-1].id)) if len(rows) > size else "")

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
            _count_change(transaction)
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
        with self._edge.transaction() as transaction:
            rows = transaction.execute(f"SELECT {_CHECKPOINT} FROM wallaby.checkpoints WHERE flow_id = %s", (flow_id,))
        return _checkpoint(rows[0]) if rows else None

    def list_checkpoints(self) -> tuple[Checkpoint, ...]:
        with self._edge.transaction() as transaction:
            rows = transaction.execute(f"SELECT {_CHECKPOINT} FROM wallaby.checkpoints ORDER BY flow_id")
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
            _hold(transaction, flow_id, epoch)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET source_identity = %s WHERE flow_id = %s",
                (json.dumps(dict(identity)), flow_id),
            )

    def get_source_identity(self, flow_id: str) -> dict[str, str | int] | None:
        with self._edge.transaction() as transaction:
            rows = transaction.execute("SELECT source_identity FROM wallaby.checkpoints WHERE flow_id = %s", (flow_id,))
        return dict(_load(rows[0][0])) if rows and rows[0][0] is not None else None

    def set_snapshot_state(
        self,
        flow_id: str,
        epoch: int,
        status: SnapshotStatus,
        consistent_point: Lsn | None = None,
        slot: str = "",
    ) -> None:
        with self._edge.transaction() as transaction:
            _hold(transaction, flow_id, epoch)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET snapshot_status = %s, snapshot_epoch = %s, snapshot_slot = %s,"
                " snapshot_consistent_point = %s WHERE flow_id = %s",
                (status, epoch, slot, None if consistent_point is None else str(consistent_point), flow_id),
            )

    def begin_copy(self, flow_id: str, epoch: int, *, slot: str, identity: Mapping[str, str | int]) -> None:
        with self._edge.transaction() as transaction:
            _hold(transaction, flow_id, epoch)
            transaction.execute(
                "UPDATE wallaby.checkpoints SET position = %s, lanes = '{}', committed_epoch = NULL,"
                " committed_at = NULL, source_identity = %s, snapshot_status = %s, snapshot_epoch = %s,"
                " snapshot_slot = %s, snapshot_consistent_point = NULL WHERE flow_id = %s",
                (str(START), json.dumps(dict(identity)), SnapshotStatus.COPYING, epoch, slot, flow_id),
            )

    def get_snapshot_state(self, flow_id: str) -> SnapshotState | None:
        with self._edge.transaction() as transaction:
            rows = transaction.execute(
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


def _read_flow(transaction: Transaction, flow_id: str, *, lock: bool = False) -> FlowRecord:
    rows = transaction.execute(
        f"SELECT {_FLOW} FROM wallaby.flows WHERE id = %s" + (" FOR UPDATE" if lock else ""), (flow_id,)
    )
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
        _refuse_epoch(flow_id, mine=epoch, stored=stored_epoch)
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
    _count_change(transaction)
    transaction.execute(
        "INSERT INTO wallaby.flow_state_events (flow_id, command, from_state, to_state, reason, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s)",
        (flow_id, command, before, after, reason, at.isoformat()),
    )


def _says_how_long(command: Command) -> bool:
    return command in (Command.START, Command.RESUME, Command.RUN_ONCE)


def _flow(row: tuple[Any, ...]) -> FlowRecord:
    flow_id, spec, state, once, revision, reason, created_at, updated_at = row
    return FlowRecord(
        id=flow_id,
        spec=_stored_spec(flow_id, _load(spec)),
        state=FlowState(state),
        run_once=bool(once),
        revision=int(revision),
        reason=reason,
        created_at=_time(created_at),
        updated_at=_time(updated_at),
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
        at=_time(at),
    )


def _read_ddl(transaction: Transaction, event_id: int, *, lock: bool = False) -> DdlEvent:
    rows = transaction.execute(
        f"SELECT {_DDL} FROM wallaby.ddl_events WHERE id = %s" + (" FOR UPDATE" if lock else ""), (event_id,)
    )
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
        created_at=_time(created_at),
        decided_at=None if decided_at is None else _time(decided_at),
    )


def _stored_spec(flow_id: str, value: Any) -> FlowSpec:
    try:
        return FlowSpec.model_validate(value)
    except ValidationError as error:
        raise CheckFailed(
            f"the stored definition is not one this wallaby reads ({error.error_count()} problems)",
            advice="Use the release that stored it, or delete the flow and create it again",
            flow=flow_id,
        ) from None


def _checkpoint(row: tuple[Any, ...]) -> Checkpoint | None:
    flow_id, epoch, position, lanes, committed_at = row
    if committed_at is None:
        return None
    return Checkpoint(
        flow_id=flow_id,
        epoch=int(epoch),
        position=Position.parse(position),
        lanes={lane: Position.parse(text) for lane, text in _load(lanes).items()},
        updated_at=_time(committed_at),
    )


def _dump(spec: FlowSpec) -> str:
    return json.dumps(spec.to_mapping())


def _dump_lanes(lanes: Mapping[str, Position]) -> str:
    return json.dumps({str(lane): str(position) for lane, position in lanes.items()})


def _load(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
