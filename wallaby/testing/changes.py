"""Test data in the change layout, from descriptions a person can read.

::

    orders = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
    stream = Stream()
    stream.transaction([(orders, insert(1, "a")), (orders, update(1, None, unchanged=["note"]))])
    [window] = stream.windows()

Rows are Python values in column order. `Outlier` stands for a value the column's Arrow type cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from wallaby.lsn import START, Lsn, Position
from wallaby.pgtypes.numeric import numeric_typmod
from wallaby.pgtypes.types import builtin_type, change_schema
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.window import (
    BEFORE_OUTLIER_BIT,
    OP_COPY,
    OP_DELETE,
    OP_INSERT,
    OP_UPDATE,
    Barrier,
    BarrierKind,
    TablePart,
    Window,
)

_OIDS: Final = {
    "bool": (16, 1000),
    "bytea": (17, 1001),
    "int8": (20, 1016),
    "int2": (21, 1005),
    "int4": (23, 1007),
    "text": (25, 1009),
    "float4": (700, 1021),
    "float8": (701, 1022),
    "varchar": (1043, 1015),
    "date": (1082, 1182),
    "time": (1083, 1183),
    "timestamp": (1114, 1115),
    "timestamptz": (1184, 1185),
    "numeric": (1700, 1231),
    "uuid": (2950, 2951),
    "json": (114, 199),
    "jsonb": (3802, 3807),
    "inet": (869, 1041),
    "int4range": (3904, 3905),
}
_EXTENSIONS: Final = {
    "hstore": (90_000, "hstore"),
    "ltree": (90_010, "ltree"),
    "vector": (90_020, "vector"),
    "geometry": (90_030, "postgis"),
}
"""Object id, and the extension; the id of the array type is one more."""
_EPOCH_US: Final = 1_700_000_000_000_000
COPY_LSN: Final = 0xF00000
"""LSN of the snapshot every copy of a `Stream` is made under."""
COPY_TIME_US: Final = _EPOCH_US - 1
"""Time of that snapshot, microseconds since 1970 UTC."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """A cell whose value is outside its Arrow type: null there, and this text among the outliers."""

    text: str


@dataclass(frozen=True, slots=True)
class Change:
    """One change; rows in column order, ``before`` in the order of the key (of all columns without one)."""

    op: int
    after: tuple[Any, ...] | None
    before: tuple[Any, ...] | None = None
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Truncate:
    """TRUNCATE of some tables."""

    tables: tuple[TableName, ...]


@dataclass(frozen=True, slots=True)
class NewShape:
    """The first sight of a table's changed shape."""

    schema: TableSchema


def insert(*row: Any) -> Change:
    """A new row."""
    return Change(OP_INSERT, row)


def copied(*row: Any) -> Change:
    """A row of the initial copy."""
    return Change(OP_COPY, row)


def update(*row: Any, old: Sequence[Any] | None = None, unchanged: Sequence[str] = ()) -> Change:
    """A changed row; ``old`` is the old key (or row), ``unchanged`` names columns not sent (give None for them)."""
    return Change(OP_UPDATE, row, None if old is None else tuple(old), tuple(unchanged))


def delete(*old: Any) -> Change:
    """A removed row, by its key (or the whole row, without one)."""
    return Change(OP_DELETE, None, old)


def table(
    name: str | TableName,
    columns: Mapping[str, str],
    *,
    key: Sequence[str] = (),
    identity: ReplicaIdentity = ReplicaIdentity.DEFAULT,
    version: int = 1,
    oid: int = 0,
) -> TableSchema:
    """A table from column names and PostgreSQL type words (``int8``, ``numeric(10,2)``, ``text[]``).

    ``name`` is ``schema.table`` or a `TableName`. Replica identity full without ``key`` makes every column key.
    """
    if isinstance(name, str):
        name = TableName(*name.split(".", 1))
    whole = identity is ReplicaIdentity.FULL and not key
    return TableSchema(
        oid=oid or 20_000 + sum(map(ord, str(name))),
        name=name,
        columns=tuple(
            _column(column, word, is_key=whole or column in key, attnum=number)
            for number, (column, word) in enumerate(columns.items(), 1)
        ),
        identity=identity,
        version=version,
    )


def _column(name: str, word: str, *, is_key: bool, attnum: int) -> Column:
    base, _, rest = word.removesuffix("[]").partition("(")
    if base in _EXTENSIONS:
        oid, extension = _EXTENSIONS[base]
        kind, array_oid = PgType(oid, base, "public", extension=extension), oid + 1
    else:
        oid, array_oid = _OIDS[base]
        kind = builtin_type(oid) or PgType(oid, base)
    typmod = -1
    if rest:
        precision, scale = (int(part) for part in rest.rstrip(")").split(","))
        typmod = numeric_typmod(precision, scale)
    if word.endswith("[]"):
        kind = PgType(array_oid, "_" + base, kind.schema, TypeKind.ARRAY, element=kind)
    return Column(name, kind, typmod=typmod, is_key=is_key, nullable=not is_key, attnum=attnum)


@dataclass(frozen=True, slots=True)
class Placed:
    """A change with its place in the stream."""

    schema: TableSchema
    change: Change
    commit_lsn: int
    ordinal: int
    xid: int
    committed_at_us: int


def change_table(schema: TableSchema, changes: Iterable[Placed | Change]) -> pa.Table:
    """The changes in the change layout; a bare `Change` gets the next place of a transaction at LSN 0/1000."""
    placed = [
        item if isinstance(item, Placed) else Placed(schema, item, 0x1000, number, 700, _EPOCH_US)
        for number, item in enumerate(changes)
    ]
    layout = change_schema(schema)
    index = {column.name: i for i, column in enumerate(schema.columns)}
    befores = [p.change.before for p in placed]
    afters = [p.change.after for p in placed]
    columns: dict[str, pa.Array] = {
        "op": pa.array([p.change.op for p in placed], pa.uint8()),
        "commit_lsn": pa.array([p.commit_lsn for p in placed], pa.uint64()),
        "ordinal": pa.array([p.ordinal for p in placed], pa.uint64()),
        "xid": pa.array([p.xid for p in placed], pa.uint32()),
        "committed_at": pa.array([p.committed_at_us for p in placed], pa.timestamp("us", tz="UTC")),
        "unchanged": pa.array(
            [[index[name] for name in p.change.unchanged] or None for p in placed], layout.field("unchanged").type
        ),
        "after": _rows(layout.field("after").type, afters),
        "outliers": pa.array([_outliers(schema, p.change) or None for p in placed], layout.field("outliers").type),
    }
    if "before" in layout.names:
        columns["before"] = _rows(layout.field("before").type, befores)
    return pa.Table.from_arrays([columns[name] for name in layout.names], schema=layout)


def _rows(kind: pa.StructType, rows: Sequence[tuple[Any, ...] | None]) -> pa.StructArray:
    fields = list(kind)
    if not fields:
        return pa.array([None if row is None else {} for row in rows], kind)
    children = [values([None if row is None else row[i] for row in rows], f.type) for i, f in enumerate(fields)]
    absent = pa.array([row is None for row in rows], pa.bool_())
    return pa.StructArray.from_arrays(children, fields=fields, mask=absent)


def values(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Python values as an array of any type of the change layout; an `Outlier` becomes null."""
    cells = [None if isinstance(cell, Outlier) else cell for cell in cells]
    if isinstance(kind, pa.BaseExtensionType):
        return kind.wrap_array(pa.array(cells, kind.storage_type))
    return pa.array(cells, kind)


def _outliers(schema: TableSchema, change: Change) -> list[dict[str, Any]]:
    found = [{"column": i, "text": cell.text} for i, cell in enumerate(change.after or ()) if isinstance(cell, Outlier)]
    found += [
        {"column": i | BEFORE_OUTLIER_BIT, "text": cell.text}
        for i, cell in zip(schema.key, change.before or (), strict=False)
        if isinstance(cell, Outlier)
    ]
    return found


def part(schema: TableSchema, changes: pa.Table) -> TablePart:
    """The table part that ships ``changes``."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, changes.schema) as writer:
        writer.write_table(changes)
    return TablePart(schema, len(changes), sink.getvalue())


Step = tuple[TableSchema, Change] | Truncate | NewShape


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one transaction did, in order, and where it lies in the WAL."""

    commit_lsn: Lsn
    end_lsn: Lsn
    xid: int
    committed_at_us: int
    steps: tuple[Step, ...]

    def position(self, done: int) -> Position:
        """Where a consumer stands after the first ``done`` steps."""
        return Position(self.end_lsn) if done == len(self.steps) else Position(self.commit_lsn, done)

    def placed(self, number: int) -> Placed:
        schema, change = self.steps[number]  # type: ignore[misc]  # barriers are not asked for
        return Placed(schema, change, self.commit_lsn, number, self.xid, self.committed_at_us)


@dataclass(slots=True)
class Stream:
    """Transactions one after another, and the windows they can be cut into. ``copy`` comes first."""

    transactions: list[Transaction] = field(default_factory=list)
    copies: list[tuple[TableSchema, list[Change]]] = field(default_factory=list)
    _lsn: int = 0x1000000

    def copy(self, schema: TableSchema, rows: Iterable[Sequence[Any]]) -> None:
        """A piece of the initial copy of a table: one window."""
        assert not self.transactions, "the copy comes before the stream"
        self.copies.append((schema, [copied(*row) for row in rows]))

    def transaction(self, steps: Sequence[Step]) -> Transaction:
        """Append a transaction."""
        number = len(self.transactions)
        commit_lsn = Lsn(self._lsn + 0x100)
        self._lsn = commit_lsn + 0x40
        done = Transaction(commit_lsn, Lsn(self._lsn), 700 + number, _EPOCH_US + number * 1000, tuple(steps))
        self.transactions.append(done)
        return done

    def windows(self, cuts: Iterable[tuple[int, int]] | None = None) -> list[Window]:
        """The stream as windows, cut after each (transaction number, step count) of ``cuts`` and around barriers.

        Without ``cuts`` there is one window per transaction (several around barriers).
        """
        wanted = None if cuts is None else set(cuts)
        result = self._copy_windows()
        after = result[-1].upto if result else START
        pending: list[Placed] = []
        for number, transaction in enumerate(self.transactions):
            for done, step in enumerate(transaction.steps, 1):
                upto = transaction.position(done)
                if isinstance(step, Truncate | NewShape):
                    if pending:
                        start = self._between(number, done - 1)
                        result.append(_window(after, start, pending, ends=done == 1))
                        pending, after = [], start
                    barrier = _barrier(step, transaction, done - 1)
                    result.append(Window(after, upto, barrier=barrier, ends_transaction=done == len(transaction.steps)))
                    after = upto
                    continue
                pending.append(transaction.placed(done - 1))
                if (wanted is None and done == len(transaction.steps)) or (wanted and (number, done) in wanted):
                    result.append(_window(after, upto, pending, ends=done == len(transaction.steps)))
                    pending, after = [], upto
        if pending:
            result.append(_window(after, self.transactions[-1].position(len(self.transactions[-1].steps)), pending))
        return result

    def _between(self, number: int, done: int) -> Position:
        if done:
            return self.transactions[number].position(done)
        return Position(self.transactions[number - 1].end_lsn)

    def _copy_windows(self) -> list[Window]:
        result: list[Window] = []
        after = START
        seen: dict[TableName, int] = {}
        for number, (schema, rows) in enumerate(self.copies, 1):
            first = seen.get(schema.name, 0)
            seen[schema.name] = first + len(rows)
            placed = [Placed(schema, row, COPY_LSN, first + i, 0, COPY_TIME_US) for i, row in enumerate(rows)]
            upto = Position(Lsn(0), number)
            result.append(_window(after, upto, placed))
            after = upto
        return result


def _window(after: Position, upto: Position, placed: Sequence[Placed], *, ends: bool = True) -> Window:
    by_table: dict[TableSchema, list[Placed]] = {}
    for item in placed:
        by_table.setdefault(item.schema, []).append(item)
    parts = tuple(part(schema, change_table(schema, items)) for schema, items in by_table.items())
    return Window(after, upto, parts=parts, ends_transaction=ends)


def _barrier(step: Truncate | NewShape, transaction: Transaction, ordinal: int) -> Barrier:
    place = (transaction.commit_lsn, ordinal, transaction.xid, transaction.committed_at_us)
    if isinstance(step, Truncate):
        return Barrier(BarrierKind.TRUNCATE, step.tables, (), *place)
    return Barrier(BarrierKind.SCHEMA, (step.schema.name,), (step.schema,), *place)


def bulk(
    schema: TableSchema,
    columns: Sequence[pa.Array],
    *,
    op: int = OP_INSERT,
    commit_lsn: int = 0x1000,
    unchanged: Sequence[int] = (),
) -> pa.Table:
    """Many changes of one kind at once: ``columns`` are the new rows' columns; no old rows, one transaction."""
    layout = change_schema(schema)
    rows = len(columns[0])
    after = layout.field("after").type
    cells = [column.cast(after.field(i).type) for i, column in enumerate(columns)]
    constants: dict[str, Any] = {"op": op, "commit_lsn": commit_lsn, "xid": 700, "committed_at": _EPOCH_US}
    arrays = []
    for item in layout:
        if item.name == "ordinal":
            arrays.append(pa.array(range(rows), pa.uint64()))
        elif item.name == "after":
            arrays.append(pa.StructArray.from_arrays(cells, fields=list(after)))
        elif item.name == "unchanged" and unchanged:
            arrays.append(pa.repeat(pa.scalar(list(unchanged), item.type), rows))
        elif item.name in constants:
            arrays.append(pa.repeat(pa.scalar(constants[item.name], item.type), rows))
        else:
            arrays.append(pa.nulls(rows, item.type))
    return pa.Table.from_arrays(arrays, schema=layout)
