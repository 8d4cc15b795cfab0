"""The lane's position record: a row of ``wallaby.lanes``, moved in the transaction of the data.

In a lake every lane has a table of its own: there, whoever updates a table excludes all others that do.
"""

from __future__ import annotations

import hashlib
from typing import Final

from sinks.duckdb.ddl import OWN_SCHEMA, TargetName
from sinks.duckdb.session import Session
from wallaby.errors import Refused
from wallaby.lsn import Position
from wallaby.record import LaneRecord
from wallaby.window import LaneId

FORMAT_VERSION: Final = 1
RESTORED: Final = "the file or catalog was replaced"
"""How the destination may stand behind what it confirmed."""
LANE_TABLE: Final = "lane_"
"""How the names of tables of one lane begin."""
_LANES: Final = (
    "(flow VARCHAR, destination VARCHAR, lane INTEGER, lanes INTEGER,"
    " epoch UBIGINT, position VARCHAR, committed_at_us BIGINT, rows UBIGINT)"
)
_TABLES: Final = (
    f"lanes {_LANES}",
    "tables (target_schema VARCHAR, target_table VARCHAR,"
    " source_schema VARCHAR, source_table VARCHAR, resettable BOOLEAN, columns STRUCT(name VARCHAR, attnum INTEGER)[])",
    "format (version INTEGER)",
)
_WHERE: Final = "WHERE flow = ? AND destination = ? AND lane = ?"


def prepare(session: Session) -> None:
    """Make wallaby's own tables. `Refused` when a newer wallaby made them."""
    # Inside somebody's transaction they may go with it again.
    is_lasting = not session.in_transaction
    _prepare(session)
    session.is_prepared = is_lasting


def _prepare(session: Session) -> None:
    with session.transaction():
        if has_records(session):
            ((version,),) = session.query(f"SELECT max(version) FROM {own_schema(session)}.format")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise Refused(
                    f"the position record has format {version}, this wallaby knows {FORMAT_VERSION}",
                    advice="Use the newer wallaby, or another place",
                    path=session.place,
                )
            return
        own = own_schema(session)
        session.query(f"CREATE SCHEMA IF NOT EXISTS {own}")
        for definition in _TABLES:
            session.query(f"CREATE TABLE IF NOT EXISTS {own}.{definition}")
        session.query(f"INSERT INTO {own}.format VALUES ({FORMAT_VERSION})")
    session.prepared()


def own_schema(session: Session) -> str:
    """Where the record lives, as SQL."""
    session.connect()
    return TargetName(OWN_SCHEMA, "", session.catalog).schema_sql


def has_records(session: Session) -> bool:
    """True when `prepare` ran before, in this or another process."""
    return _exists(session, "format")


def read(session: Session, lane: LaneId) -> LaneRecord:
    """The lane's record as the open transaction sees it."""
    name = table_of(session, lane)
    if session.storage.has_table_per_lane and not _exists(session, name):
        return LaneRecord()
    rows = session.query(f"SELECT position, epoch FROM {own_schema(session)}.{name} {_WHERE}", _key(lane), lane=lane)
    return LaneRecord(Position.parse(str(rows[0][0])), int(str(rows[0][1]))) if rows else LaneRecord()


def store(session: Session, lane: LaneId, record: LaneRecord, *, rows: int = 0, committed_at_us: int = 0) -> None:
    """Write the record in the open transaction; ``rows`` are added to the lane's count."""
    assert session.in_transaction, "a record moves with its data or not at all"
    table = f"{own_schema(session)}.{table_of(session, lane)}"
    if session.storage.has_table_per_lane:
        # Of two that make it at once, one conflicts: so a lane has one row.
        session.query(f"CREATE TABLE IF NOT EXISTS {table} {_LANES}", lane=lane)
    known = session.query(
        f"UPDATE {table} SET position = ?, epoch = ?, lanes = ?, rows = rows + ?,"
        f" committed_at_us = greatest(committed_at_us, ?) {_WHERE}",
        (str(record.position), record.epoch, lane.count, rows, committed_at_us, *_key(lane)),
        lane=lane,
    )
    if known[0][0] == 0:
        session.query(
            f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*_key(lane), lane.count, record.epoch, str(record.position), committed_at_us, rows),
            lane=lane,
        )


def table_of(session: Session, lane: LaneId) -> str:
    """The table of ``wallaby`` that holds the lane's row."""
    if not session.storage.has_table_per_lane:
        return "lanes"
    return LANE_TABLE + hashlib.sha256(repr(_key(lane)).encode()).hexdigest()[:16]


def _exists(session: Session, table: str) -> bool:
    """True when there is such a table in ``wallaby``."""
    return session.has_table(f"{own_schema(session)}.{table}")


def _key(lane: LaneId) -> tuple[str, str, int]:
    return lane.flow, lane.destination, lane.index


__all__ = ["FORMAT_VERSION", "LANE_TABLE", "RESTORED", "has_records", "prepare", "read", "store", "table_of"]
