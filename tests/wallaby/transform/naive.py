"""What transforms mean, one row at a time in plain Python: the model the vectorised stage is compared with.

It knows the whole source row at every moment, so it never meets a value that was not sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from wallaby.lsn import Lsn
from wallaby.schema import TableSchema
from wallaby.testing.changes import Change, Placed, Stream, Truncate, values
from wallaby.window import OP_COPY, OP_DELETE, OP_INSERT, OP_UPDATE

Row = dict[str, Any]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {OP_COPY: "load", OP_INSERT: "insert", OP_UPDATE: "update", OP_DELETE: "delete"}


@dataclass(frozen=True)
class Rules:
    """The options as functions on rows (dicts by the source's column names)."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    """Role → name, in order."""
    watermark_is_lsn: bool = False
    soft_delete: bool = False
    where: Callable[[Row], bool] | None = None
    computed: Mapping[str, Callable[[Row], Any]] = field(default_factory=dict)
    masked: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    kept: Callable[[str], bool] = lambda _: True
    renamed: Mapping[str, str] = field(default_factory=dict)


def mirror(stream: Stream, schema: TableSchema, rules: Rules) -> list[Row]:
    """The target's rows at the end."""
    keyed: dict[Any, Row] = {}
    bag: list[Row] = []
    for placed, old, new in _changes(stream, schema):
        if placed is None:
            keyed.clear()
            bag.clear()
            continue
        op = placed.change.op
        if schema.is_keyless_full or not schema.has_key:
            if old is not None and _passes(rules, old):
                bag.remove(_written(rules, schema, old, placed, op))
            if new is not None and _passes(rules, new):
                bag.append(_written(rules, schema, new, placed, op))
            continue
        if old is not None and (new is None or not _passes(rules, new)):
            gone = keyed.pop(_key(schema, old), None)
            if rules.soft_delete and gone is not None:
                keyed[_key(schema, old)] = gone | _meta(rules, placed, OP_DELETE, in_log=False)
        elif new is not None and _passes(rules, new):
            if old is not None:
                keyed.pop(_key(schema, old), None)
            keyed[_key(schema, new)] = _written(rules, schema, new, placed, op)
    return [*keyed.values(), *bag]


def log(stream: Stream, schema: TableSchema, rules: Rules) -> list[Row]:
    """The log's rows: the target's columns, ``__op``, ``__commit_lsn`` and ``__ordinal``; in order."""
    rows: list[Row] = []
    for placed, old, new in _changes(stream, schema):
        if placed is None:
            rows.append({"__op": "t"})
            continue
        change = placed.change
        place = {"__commit_lsn": placed.commit_lsn, "__ordinal": placed.ordinal}
        leaves = new is None or not _passes(rules, new)
        moves = (
            old is not None
            and new is not None
            and change.before is not None
            and (schema.is_keyless_full or _key(schema, old) != _key(schema, new))
        )
        if schema.is_keyless_full and old is not None and not _passes(rules, old):
            old = None
            moves = False
        if old is not None and (leaves or moves):
            visible = {c.name: old[c.name] if c.is_key else None for c in schema.columns}
            row = _columns(rules, schema, visible, is_key_only=not schema.is_keyless_full)
            rows.append(row | _meta(rules, placed, OP_DELETE, in_log=True) | place | {"__op": "d"})
        if new is not None and not leaves:
            sent = dict(new)
            row = _columns(rules, schema, sent)
            for name in change.unchanged:
                if rules.kept(name) and not schema.is_keyless_full:
                    row[rules.renamed.get(name, name)] = None
            op = OP_INSERT if change.op == OP_UPDATE and schema.is_keyless_full and old is None else change.op
            rows.append(row | _meta(rules, placed, op, in_log=True) | place | {"__op": chr(op)})
    return rows


def _changes(stream: Stream, schema: TableSchema) -> Iterator[tuple[Any, Row | None, Row | None]]:
    """Each change of the table with the whole old and new row; (None, None, None) for a TRUNCATE."""
    source: dict[Any, Row] = {}
    seen = 0
    for copied_schema, copies in stream.copies:
        if copied_schema.name == schema.name:
            for change in copies:
                row = _row(schema, change.after)
                source[_key(schema, row)] = row
                yield Placed(schema, change, 0xF00000, seen, 0, 1_700_000_000_000_000 - 1), None, row
                seen += 1
    for transaction in stream.transactions:
        for number, step in enumerate(transaction.steps):
            if isinstance(step, Truncate) and schema.name in step.tables:
                source.clear()
                yield None, None, None
            elif isinstance(step, tuple) and step[0].name == schema.name:
                change = step[1]
                old, new = _versions(schema, change, source)
                yield transaction.placed(number), old, new


def _versions(schema: TableSchema, change: Change, source: dict[Any, Row]) -> tuple[Row | None, Row | None]:
    old: Row | None = None
    if change.op in (OP_UPDATE, OP_DELETE):
        if schema.is_keyless_full:
            old = _row(schema, change.before)
        else:
            names = [schema.columns[i].name for i in schema.key]
            given = change.before if change.before is not None else [change.after[i] for i in schema.key]  # type: ignore[index]  # an update has a row
            old = source.pop(tuple(zip(names, map(repr, given), strict=True)))
    if change.after is None:
        return old, None
    new = _row(schema, change.after)
    for name in change.unchanged:
        assert old is not None
        new[name] = old[name]
    if not schema.is_keyless_full:
        source[_key(schema, new)] = new
    return old, new


def _row(schema: TableSchema, cells: Any) -> Row:
    return {column.name: cell for column, cell in zip(schema.columns, cells, strict=True)}


def _key(schema: TableSchema, row: Row) -> Any:
    return tuple((schema.columns[i].name, repr(row[schema.columns[i].name])) for i in schema.key)


def _passes(rules: Rules, row: Row) -> bool:
    return rules.where is None or bool(rules.where(row))


def _written(rules: Rules, schema: TableSchema, row: Row, placed: Placed, op: int) -> Row:
    return _columns(rules, schema, row) | _meta(rules, placed, op, in_log=False)


def _columns(rules: Rules, schema: TableSchema, row: Row, *, is_key_only: bool = False) -> Row:
    whole = dict(row)
    for name, compute in rules.computed.items():
        whole[name] = None if is_key_only else compute(row)
    for name, mask in rules.masked.items():
        column = next((c for c in schema.columns if c.name == name), None)
        if not is_key_only or (column is not None and column.is_key):
            whole[name] = mask(whole[name])
    return {rules.renamed.get(name, name): cell for name, cell in whole.items() if rules.kept(name)}


def _meta(rules: Rules, placed: Placed, op: int, *, in_log: bool) -> Row:
    at = _EPOCH + timedelta(microseconds=placed.committed_at_us)
    lsn = str(Lsn(placed.commit_lsn))
    known = {
        "meta_synced_at": at,
        "meta_deleted": op == OP_DELETE,
        "meta_op": _WORDS[op] if in_log else None,
        "meta_watermark": lsn if rules.watermark_is_lsn else at,
        "meta_commit_lsn": lsn,
        "meta_position": f"{placed.commit_lsn:016X}/{placed.ordinal:016X}",
    }
    return {name: known[role] for role, name in rules.metadata.items()}


def canonical(rows: list[Row], fields: pa.Schema) -> list[str]:
    """Rows as text in one order, each cell as Arrow gives it back from a column of its type."""
    names = [name for name in fields.names if any(name in row for row in rows)]
    columns = {name: values([row.get(name) for row in rows], fields.field(name).type).to_pylist() for name in names}
    return sorted(str([(name, columns[name][i]) for name in names]) for i in range(len(rows)))
