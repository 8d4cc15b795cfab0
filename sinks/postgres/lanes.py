"""The position record of a lane: a row of a table beside the data, moved in its transaction."""

from __future__ import annotations

from typing import Any, Final

import psycopg

from wallaby.errors import Refused
from wallaby.lsn import START, Position
from wallaby.record import LaneRecord, require_epoch
from wallaby.schema import quote_identifier
from wallaby.window import CommitToken, LaneId

RESTORED: Final = "its state schema changed"
"""How the destination may stand behind what it confirmed."""
_EVICTION_MS: Final = 5_000
"""How long an ended session may take to be gone."""


class Lanes:
    """The table of position records. Methods run in the caller's transaction, if one is open."""

    def __init__(self, state_schema: str) -> None:
        self._table = f"{quote_identifier(state_schema)}.lanes"
        where = "flow = $1 AND destination = $2 AND lane = $3"
        self._read = f"SELECT epoch, position, lanes FROM {self._table} WHERE {where}"
        self._move = (
            f"UPDATE {self._table} SET position = $4, rows = rows + $5, committed_at = clock_timestamp(),"
            " source_committed_at = coalesce(to_timestamp(nullif($6::float8, 0) / 1000000.0), source_committed_at)"
            f" WHERE {where} AND epoch = $7 AND position = $8"
        )
        # A record that is not where it should be divides by zero: the pipeline's other statements are then not run.
        self._claim = f"WITH moved AS ({self._move} RETURNING 1) SELECT 1 / count(*) FROM moved"

    def read(self, connection: psycopg.Connection[Any], lane: LaneId, *, locks: bool) -> LaneRecord | None:
        """The record; ``locks`` holds its row until the transaction ends, so that writers take turns."""
        row = (
            _raw(connection).execute(self._read + (" FOR UPDATE" if locks else ""), _key(lane), prepare=True).fetchone()
        )
        if row is None:
            return None
        record = LaneRecord(Position.parse(row[1]), row[0])
        if row[2] != lane.count and record.position != START:
            raise Refused(
                f"the destination has positions of {row[2]} lanes, the flow now has {lane.count}",
                advice=f"Set parallelism back to {row[2]}, or copy the tables again",
                lane=lane,
            )
        return record

    def fence(self, connection: psycopg.Connection[Any], lane: LaneId, epoch: int) -> LaneRecord:
        """Make sure the record exists, lock it, and raise its epoch; `Superseded` when the stored one is newer."""
        raw = _raw(connection)
        raw.execute(
            f"INSERT INTO {self._table} (flow, destination, lane, lanes, epoch, position)"
            " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (flow, destination, lane) DO NOTHING",
            (*_key(lane), lane.count, epoch, str(START)),
        )
        record = self.read(connection, lane, locks=True)
        assert record is not None, f"record of lane {lane} vanished under its lock"
        require_epoch(record, lane, epoch)
        raw.execute(
            f"UPDATE {self._table} SET epoch = $4, lanes = $5 WHERE flow = $1 AND destination = $2 AND lane = $3",
            (*_key(lane), epoch, lane.count),
        )
        return LaneRecord(record.position, epoch)

    def evict(self, connection: psycopg.Connection[Any], lane: LaneId, epoch: int) -> None:
        """End the session of an older epoch that holds the record's lock; its transaction is rolled back."""
        _raw(connection).execute(
            f"SELECT pg_catalog.pg_terminate_backend(held.pid, {_EVICTION_MS}) FROM {self._table} AS record"
            " JOIN pg_catalog.pg_locks AS held ON held.locktype = 'transactionid' AND held.granted"
            " AND held.transactionid = record.xmax AND held.pid <> pg_catalog.pg_backend_pid()"
            " WHERE flow = $1 AND destination = $2 AND lane = $3 AND epoch < $4",
            (*_key(lane), epoch),
        )

    def reset(self, connection: psycopg.Connection[Any], lane: LaneId) -> None:
        """Back to the start; the epoch stays."""
        _raw(connection).execute(
            f"UPDATE {self._table} SET position = $4, committed_at = clock_timestamp()"
            " WHERE flow = $1 AND destination = $2 AND lane = $3",
            (*_key(lane), str(START)),
        )

    def move(self, connection: psycopg.Connection[Any], token: CommitToken) -> bool:
        """Move the record from the token's ``after`` to its ``upto``; False when it was not there."""
        return _raw(connection).execute(self._move, _parameters(token), prepare=True).rowcount == 1

    def claim(self, connection: psycopg.Connection[Any], token: CommitToken) -> None:
        """As `move`, for pipelines: a record that is not there makes the statement fail."""
        _raw(connection).execute(self._claim, _parameters(token), prepare=True)


def _raw(connection: psycopg.Connection[Any]) -> psycopg.RawCursor[Any]:
    return psycopg.RawCursor(connection)


def _key(lane: LaneId) -> tuple[str, str, int]:
    return lane.flow, lane.destination, lane.index


def _parameters(token: CommitToken) -> tuple[object, ...]:
    return (
        *_key(token.lane),
        str(token.upto),
        token.rows,
        float(token.committed_at_us),
        token.epoch,
        str(token.after),
    )
