"""Changes of one table into its target: plan per key in Arrow, then a handful of set-based statements.

Two ways into the server, the same statements behind both:

* few rows: each set is one array-of-records parameter, and all statements of a commit travel in one pipeline, so a
  commit costs one round trip;
* many rows: each set is a binary COPY into a staging table.

Rows that were inserted are first tried as a COPY straight into the target, which halves the server's work; when a key
exists after all, a savepoint undoes the attempt and the ordinary way is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from sinks.postgres.catalog import Target
from sinks.postgres.encode import Encoding
from sinks.postgres.stage import Slot, Stage, Stages, copy_into
from sinks.postgres.statements import Shape
from sinks.postgres.types import TEXT_OID, Transport, is_printed, transport
from wallaby.content import value_texts
from wallaby.errors import Refused, RowRefused
from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.transform.append import append_rows
from wallaby.transform.history import HistoryPlan, plan_history
from wallaby.transform.mirror import (
    MISSING_ROWS_ADVICE,
    InsertPlan,
    MirrorPlan,
    MultisetPlan,
    Patch,
    plan,
)
from wallaby.transform.target import target_schema
from wallaby.versions import VersionColumns

_INT8: Final = Encoding(20)
_TEXT: Final = Encoding(TEXT_OID)
_DIRECT_ROWS_MIN: Final = 64
"""Fewer rows are not worth a savepoint."""
_DIRECT_PAUSE: Final = 32
"""After a direct COPY met an existing key, this many applies of the table go the ordinary way."""


@dataclass(frozen=True, slots=True)
class Step:
    """Rows and the statement that applies them. ``head`` and ``tail`` surround the name of the source."""

    slots: tuple[Slot, ...]
    statement: str
    """With ``{source}`` replaced by `SOURCE`."""
    expected: int | None
    """Rows the statement must touch, where fewer mean that the target lost rows; None where any number is right."""
    purpose: str


SOURCE: Final = "\x00source\x00"
"""Stands for the source of rows in a step's statement: no SQL can contain it."""


@dataclass(slots=True)
class TableApply:
    """Applies changes of one table and schema version. One per writer; forgotten when the target's shape changes."""

    schema: TableSchema
    target: Target
    mode: WriteMode
    versions: VersionColumns = field(default_factory=VersionColumns)
    shape: Shape = field(init=False)
    _direct_pause: int = 0

    def __post_init__(self) -> None:
        arrow = target_schema(self.schema, self.mode, versions=self.versions)
        columns = {}
        for i, item in enumerate(arrow):
            column = self.target.column(item.name)
            if column is None:
                raise Refused(f"column {item.name} is missing", advice="Restart the flow", table=self.target.name)
            if not column.is_generated:
                columns[i] = column
        transports = {i: transport(arrow.field(i).type, column) for i, column in columns.items()}
        has_key = self.mode is not WriteMode.APPEND and self.schema.has_key
        self.shape = Shape(self.target.sql, columns, transports, self.schema.key if has_key else ())

    def steps(self, changes: pa.Table) -> list[Step] | None:
        """The statements for few rows; None when rows that moved without all their values need a staging table."""
        if self.mode is WriteMode.APPEND:
            return [self._append(changes)]
        if self.mode is WriteMode.HISTORY:
            history = plan_history(self.schema, changes, self.versions)
            return None if history.patches else [self._end(history), *self._begin(history)]
        match plan(self.schema, changes):
            case MirrorPlan() as mirror:
                if any(patch.moves for patch in mirror.patches):
                    return None
                return [*self._mirror_steps(mirror)]
            case MultisetPlan() as multiset:
                return [*self._multiset_steps(multiset)]
            case InsertPlan() as inserts:
                return [self._insert(inserts.rows)]

    def run(self, connection: psycopg.Connection[Any], stages: Stages, changes: pa.Table) -> None:
        """Apply many rows inside the open transaction."""
        if self.mode is WriteMode.APPEND:
            self._run_insert(connection, stages, self._append(changes))
            return
        if self.mode is WriteMode.HISTORY:
            self._run_history(connection, stages, plan_history(self.schema, changes, self.versions))
            return
        match plan(self.schema, changes):
            case MirrorPlan() as mirror:
                self._run_mirror(connection, stages, mirror)
            case MultisetPlan() as multiset:
                for step in self._multiset_steps(multiset):
                    self._run_step(connection, stages, step)
            case InsertPlan() as inserts:
                self._run_insert(connection, stages, self._insert(inserts.rows))

    def lost_rows(self) -> RowRefused:
        """The target does not hold rows that were written to it before."""
        return RowRefused(
            "rows to be changed are not in the destination's table",
            advice=MISSING_ROWS_ADVICE,
            table=self.target.name,
        )

    def _run_mirror(self, connection: psycopg.Connection[Any], stages: Stages, mirror: MirrorPlan) -> None:
        mirror, new = self._split(mirror)
        moved = self._fetch(connection, stages, [patch for patch in mirror.patches if patch.moves])
        for step in self._mirror_steps(mirror):
            self._run_step(connection, stages, step)
        fields = tuple(self.shape.columns)
        for stage, outliers in moved:
            connection.execute(self.shape.upsert(f"{stage.sql} AS s", fields, outliers))
        # Last: a new row may take a value of a unique index that the statements before have set free.
        if new is not None and not (all(self._is_direct(new)) and self._copy_direct(connection, new)):
            self._run_step(connection, stages, new)

    def _run_history(self, connection: psycopg.Connection[Any], stages: Stages, history: HistoryPlan) -> None:
        """The three steps of `wallaby.transform.history`."""
        width = len(self.schema.columns)
        patches = [replace(patch, rows=_outliers_last(patch.rows, width)) for patch in history.patches]
        filled = self._fetch(connection, stages, patches, only=self._place(self.versions.is_current))
        self._run_step(connection, stages, self._end(history))
        for step in self._begin(history):
            self._run_insert(connection, stages, step)
        for stage, outliers in filled:
            connection.execute(self.shape.insert(f"{stage.sql} AS s", tuple(self.shape.columns), outliers))

    def _fetch(
        self, connection: psycopg.Connection[Any], stages: Stages, patches: list[Patch], *, only: int | None = None
    ) -> list[tuple[Stage, frozenset[int]]]:
        """Rows in staging tables, the columns PostgreSQL did not send filled from where each row was; and which of the
        columns have outliers."""
        found = []
        for k, patch in enumerate(patches):
            slots = self._moved_slots(patch)
            stage = stages.copy(slots, f"{self.shape.table} moved {k}")
            statement = self.shape.fetch_missing(stage.sql, self._written(patch.missing), only=only)
            if connection.execute(statement).rowcount != patch.rows.num_rows:
                raise self.lost_rows()
            found.append((stage, self._outliers(slots)))
        return found

    def _end(self, history: HistoryPlan) -> Step:
        keys = [(i, history.closes.column(place)) for place, i in enumerate(self.schema.key)]
        ends = [(self._place(name), history.closes[name]) for name in self.versions.closing]
        slots = tuple(self._slot(f"c{i}", self.shape.transports[i], column) for i, column in (*keys, *ends))
        versions = self.versions
        order = [self._place(name) for name in (versions.valid_to_lsn, versions.valid_to_ordinal, versions.closed_by)]
        statement = self.shape.end(SOURCE, [i for i, _ in ends], self._place(versions.is_current), order)
        return Step(slots, statement, None, f"{self.shape.table} ends")

    def _begin(self, history: HistoryPlan) -> Iterator[Step]:
        if history.versions.num_rows:
            yield self._insert(_outliers_last(history.versions, len(self.schema.columns)))

    def _place(self, name: str) -> int:
        """Index in the shape of a column of the history's own."""
        return len(self.schema.columns) + self.versions.names.index(name)

    def _run_insert(self, connection: psycopg.Connection[Any], stages: Stages, step: Step) -> None:
        if all(self._is_direct(step)):
            copy_into(connection, self.shape.table, self.shape.names(tuple(self.shape.columns)), step.slots)
        else:
            self._run_step(connection, stages, step)

    def _run_step(self, connection: psycopg.Connection[Any], stages: Stages, step: Step) -> None:
        stage = stages.copy(step.slots, step.purpose)
        touched = connection.execute(step.statement.replace(SOURCE, f"{stage.sql} AS s")).rowcount
        if step.expected is not None and touched != step.expected:
            raise self.lost_rows()

    def _split(self, mirror: MirrorPlan) -> tuple[MirrorPlan, Step | None]:
        """The plan without the rows worth a direct COPY, and those."""
        inserted = mirror.inserted
        if inserted is None or np.count_nonzero(inserted) < _DIRECT_ROWS_MIN:
            return mirror, None
        if self._direct_pause > 0:
            self._direct_pause -= 1
            return mirror, None
        if inserted.all():
            return replace(mirror, upserts=mirror.upserts.slice(0, 0)), self._upsert(mirror.upserts)
        new, others = (mirror.upserts.filter(pa.array(chosen)) for chosen in (inserted, ~inserted))
        return replace(mirror, upserts=others), self._upsert(new)

    def _copy_direct(self, connection: psycopg.Connection[Any], step: Step) -> bool:
        connection.execute("SAVEPOINT direct")
        try:
            copy_into(connection, self.shape.table, self.shape.names(tuple(self.shape.columns)), step.slots)
        except psycopg.errors.UniqueViolation:
            connection.execute("ROLLBACK TO SAVEPOINT direct")
            self._direct_pause = _DIRECT_PAUSE
            return False
        connection.execute("RELEASE SAVEPOINT direct")
        return True

    def _is_direct(self, step: Step) -> Iterator[bool]:
        yield len(step.slots) == len(self.shape.transports)
        yield from (way.is_direct for way in self.shape.transports.values())

    def _mirror_steps(self, mirror: MirrorPlan) -> Iterator[Step]:
        if mirror.deletes.num_rows:
            yield self._delete(mirror.deletes)
        for patch in mirror.patches:
            if not patch.moves:
                yield self._patch(patch)
        if mirror.upserts.num_rows:
            yield self._upsert(mirror.upserts)

    def _multiset_steps(self, multiset: MultisetPlan) -> Iterator[Step]:
        fields = tuple(self.shape.columns)
        for rows, build in (
            (multiset.deletes, self.shape.delete_counted),
            (multiset.inserts, self.shape.insert_counted),
        ):
            if rows.num_rows == 0:
                continue
            counts = rows.column(rows.num_columns - 1)
            slots = (*self._row_slots(rows, fields), Slot("n", "int8", _INT8, counts))
            statement = build(f"{SOURCE}", fields, self._outliers(slots))
            yield Step(slots, statement, pc.sum(counts).as_py(), f"{self.shape.table} counted")

    def _delete(self, keys: pa.Table) -> Step:
        slots = tuple(
            self._slot(f"c{i}", self.shape.transports[i], keys.column(place)) for place, i in enumerate(self.schema.key)
        )
        return Step(slots, self.shape.delete(SOURCE), None, f"{self.shape.table} keys")

    def _upsert(self, rows: pa.Table) -> Step:
        fields = tuple(self.shape.columns)
        slots = self._row_slots(rows, fields)
        return Step(slots, self.shape.upsert(SOURCE, fields, self._outliers(slots)), None, f"{self.shape.table} rows")

    def _insert(self, rows: pa.Table) -> Step:
        fields = tuple(self.shape.columns)
        if not fields:
            # Rows without a column are counted by one that says nothing.
            slots: tuple[Slot, ...] = (Slot("n", "int8", _INT8, pa.array(np.zeros(rows.num_rows, np.int64))),)
            return Step(slots, self.shape.insert(SOURCE, fields, frozenset()), None, f"{self.shape.table} rows")
        slots = self._row_slots(rows, fields)
        return Step(slots, self.shape.insert(SOURCE, fields, self._outliers(slots)), None, f"{self.shape.table} rows")

    def _patch(self, patch: Patch) -> Step:
        fields = tuple(i for i in self.shape.columns if i not in patch.missing)
        slots = self._row_slots(patch.rows, fields)
        statement = self.shape.update(SOURCE, fields, self._outliers(slots))
        return Step(slots, statement, patch.rows.num_rows, f"{self.shape.table} patch")

    def _append(self, changes: pa.Table) -> Step:
        return self._insert(append_rows(self.schema, changes, keep_outliers=True))

    def _moved_slots(self, patch: Patch) -> tuple[Slot, ...]:
        """All columns, the missing ones in the target's own type and not sent, and the keys before the window."""
        sent = tuple(i for i in self.shape.columns if i not in patch.missing)
        slots = list(self._row_slots(patch.rows, sent))
        for i in self._written(patch.missing):
            slots.append(Slot(f"c{i}", self.shape.columns[i].sql, _TEXT, None))
        for place, i in enumerate(self.schema.key):
            slots.append(self._slot(f"o{i}", self.shape.transports[i], patch.origin.column(place)))
        return tuple(slots)

    def _written(self, columns: Sequence[int]) -> tuple[int, ...]:
        return tuple(i for i in columns if i in self.shape.columns)

    def _row_slots(self, rows: pa.Table, fields: Sequence[int]) -> tuple[Slot, ...]:
        """``rows`` holds every column of the shape at its index and, right behind them, the outliers.

        Rows of a log name the columns of outliers by name, others by index.
        """
        outliers = rows.column(len(self.schema.columns) if self.mode is WriteMode.MIRROR else rows.num_columns - 1)
        index = {column.name: i for i, column in enumerate(self.schema.columns)}
        slots = [self._slot(f"c{i}", self.shape.transports[i], rows.column(i)) for i in fields]
        for column, texts in _outlier_columns(outliers):
            i = index[column] if isinstance(column, str) else column
            if i in fields:
                slots.append(Slot(f"x{i}", "text", _TEXT, texts))
        return tuple(slots)

    def _slot(self, name: str, way: Transport, array: pa.ChunkedArray) -> Slot:
        if way.staged == "int8" and array.type == pa.uint64():
            array = array.cast(pa.int64())
        if is_printed(array.type):
            array = pa.chunked_array([printed(chunk) for chunk in array.chunks], pa.large_string())
        return Slot(name, way.staged, way.encoding, array)

    @staticmethod
    def _outliers(slots: Sequence[Slot]) -> frozenset[int]:
        return frozenset(int(slot.name[1:]) for slot in slots if slot.name[0] == "x")


def _outliers_last(rows: pa.Table, width: int) -> pa.Table:
    """Versions of ``width`` source columns with their ``__outliers`` behind the history's own columns."""
    return rows.select([*range(width), *range(width + 1, rows.num_columns), width])


def printed(array: pa.Array) -> pa.Array:
    """The text PostgreSQL reads for each value of a column that `is_printed`."""
    if pa.types.is_list(array.type) and pa.types.is_list(array.type.value_type):
        # Lists in a list are vectors in an array: brackets around their numbers.
        offsets = array.offsets
        first = offsets[0].as_py()
        vectors = value_texts(array.values.slice(first, offsets[-1].as_py() - first))
        texts = pc.replace_substring_regex(vectors, r"^\{(.*)\}$", r"[\1]").cast(pa.string())
        mask = array.is_null() if array.null_count else None
        array = pa.ListArray.from_arrays(pc.subtract(offsets, first), texts, mask=mask)
    return value_texts(array)


def _outlier_columns(outliers: pa.ChunkedArray) -> Iterator[tuple[int | str, pa.Array]]:
    """Per column with outliers: their text, null in the other rows."""
    if outliers.null_count == len(outliers):
        return
    lists = outliers.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = pa.concat_arrays(lists.chunks)
    rows = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    entries = lists.flatten()
    columns = entries.field("column").dictionary_encode()
    codes = columns.indices.to_numpy(zero_copy_only=False)
    for code, column in enumerate(columns.dictionary.to_pylist()):
        places = np.flatnonzero(codes == code)
        at = np.zeros(len(lists), np.int64)
        mask = np.ones(len(lists), np.bool_)
        at[rows[places]] = places
        mask[rows[places]] = False
        yield column, entries.field("text").take(pa.array(at, mask=mask))
