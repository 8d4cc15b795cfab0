"""The transforming stage: a destination's tables and changes as its options want them, before any sink sees them.

`Stage` knows the options; what they make of one version of one table is a `Shape`, worked out once: the source's table,
the target's, and what is done to columns in between. Rows then pass through in columns, `Rows` in and `Rows` out, in an
order that makes each step say one thing:

1. rows are chosen, and columns computed (`wallaby.transform.expressions`);
2. columns that the destination does not get are dropped, the others renamed (`wallaby.transform.selection`);
3. columns are masked (`wallaby.transform.masking`); rules go by the names at the source;
4. metadata columns, and what becomes of a deletion (`wallaby.transform.metadata`).

Everything is a function of the change and the options, so that a change which comes again after a crash comes out the
same, and a table's target shape is the same in every life.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from wallaby.errors import Refused
from wallaby.flow.expressions import ColumnRule
from wallaby.flow.masks import MaskKind
from wallaby.flow.patterns import duplicates
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import Column, ReplicaIdentity, TableName, TableSchema
from wallaby.sink import Finding, Severity, WriteMode
from wallaby.transform.engine import Engine, Expression, NotAnExpression, computed_column
from wallaby.transform.expressions import Program
from wallaby.transform.masking import Mask, masked
from wallaby.transform.metadata import Metadata
from wallaby.transform.rows import Rows
from wallaby.transform.selection import Selection
from wallaby.versions import NAME_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a table cannot be had as the options want it."""

    message: str
    advice: str
    code: str
    column: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """What becomes of one version of one table."""

    source: TableSchema
    target: TableSchema
    program: Program | None
    columns: tuple[Column, ...]
    """Those of ``source``, and the computed ones behind them."""
    kept: tuple[int, ...]
    """Which of ``columns`` the destination gets."""
    masks: Mapping[int, Mask]
    """By place in ``kept``."""
    metadata: Metadata | None


class Stage:
    """A destination's transforms. It remembers the shapes it has met, one per table, and which target each goes to."""

    def __init__(self, options: TransformOptions, mode: WriteMode) -> None:
        self._mode = mode
        self._rows = options.row_rules
        self._computed = options.column_rules
        self._engine = Engine() if self._rows or self._computed else None
        self._selection = Selection.of(options)
        self._masks = tuple(Mask(rule, options.mask_secret.encode()) for rule in options.mask_rules)
        self._metadata = Metadata.of(options, mode)
        self._shapes: dict[TableName, Shape] = {}
        self._sources: dict[TableName, TableName] = {}
        """By target."""

    def target(self, table: TableName) -> TableName | None:
        """The table's name in the destination; None when it does not go there."""
        return self._selection.target(table)

    def shape(self, schema: TableSchema) -> Shape | None:
        """What becomes of the table, None: it does not go there; `Refused` with what does not fit."""
        known = self._shapes.get(schema.name)
        if known is not None and known.source == schema:
            return known
        target = self.target(schema.name)
        if target is None:
            return None
        shape, misfits = self._shaped(schema, target)
        owner = self._sources.get(target, schema.name)
        if owner != schema.name:
            misfits.append(_shared(target, owner))
        if misfits:
            first = misfits[0]
            raise Refused(first.message, advice=first.advice, table=schema.name, column=first.column)
        self._sources[target] = schema.name
        self._shapes[schema.name] = shape
        return shape

    def findings(self, tables: tuple[TableSchema, ...]) -> list[Finding]:
        """Everything that does not fit, without a destination."""
        found: list[Finding] = []
        sources: dict[TableName, TableName] = {}
        for schema in tables:
            target = self.target(schema.name)
            if target is None:
                continue
            misfits = self._shaped(schema, target)[1]
            owner = sources.setdefault(target, schema.name)
            if owner != schema.name:
                misfits.append(_shared(target, owner))
            found += [_finding(schema, misfit) for misfit in misfits]
        return found + (self._unused(tables) if tables else [])

    def changed(self, shape: Shape, changes: pa.Table) -> pa.RecordBatch:
        """The changes (change layout of ``shape.source``) as changes of ``shape.target``."""
        rows = Rows.of(shape.source, changes)
        if shape.program is not None:
            rows = shape.program.applied(rows)
        rows = masked(rows.with_columns(shape.kept), shape.masks)
        if shape.metadata is not None:
            rows = shape.metadata.applied(rows, is_keyless=shape.source.is_keyless_full)
        return rows.batch(shape.target)

    def _shaped(self, schema: TableSchema, name: TableName) -> tuple[Shape, list[Misfit]]:
        misfits: list[Misfit] = []
        program, columns = self._programmed(schema, misfits)
        kept = self._selection.kept(schema.name, [column.name for column in columns])
        masks = {place: mask for place, i in enumerate(kept) if (mask := self._mask(schema, columns[i])) is not None}
        chosen = tuple(
            replace(
                masks[place].column(columns[i]) if place in masks else columns[i],
                name=self._selection.column(schema.name, columns[i].name),
            )
            for place, i in enumerate(kept)
        )
        more = () if self._metadata is None else self._metadata.columns
        target = replace(schema, name=name, columns=(*chosen, *more))
        if target.is_keyless_full and not schema.is_keyless_full:
            # Nothing but the key is left. It stays one: rows are told apart by it, and not counted.
            target = replace(target, identity=ReplicaIdentity.DEFAULT)
        shape = Shape(schema, target, program, columns, kept, masks, self._metadata)
        return shape, [*misfits, *self._misfits(shape)]

    def _programmed(self, schema: TableSchema, misfits: list[Misfit]) -> tuple[Program | None, tuple[Column, ...]]:
        """The table's expressions, and its columns with the computed ones."""
        engine = self._engine
        rows = [rule for rule in self._rows if rule.tables.matches(schema.name)]
        computed = [rule for rule in self._computed if rule.column.table.matches(schema.name)]
        if engine is None or not (rows or computed):
            return None, schema.columns
        predicates = [_compiled(engine, schema, rule.sql, "where", misfits) for rule in rows]
        if any(expression is not None and expression.type.name != "bool" for expression in predicates):
            misfits.append(_not_compiled("where", "must be true or false", None))
        filled = [
            (rule.column.name.text, _compiled(engine, schema, rule.sql, "computed_columns", misfits, rule))
            for rule in computed
        ]
        known = [(name, expression) for name, expression in filled if expression is not None]
        columns = tuple(computed_column(name, expression, is_key=schema.is_keyless_full) for name, expression in known)
        program = Program(
            engine,
            schema,
            tuple(expression for expression in predicates if expression is not None),
            tuple(expression for _, expression in known),
        )
        return program, (*schema.columns, *columns)

    def _mask(self, schema: TableSchema, column: Column) -> Mask | None:
        return next((mask for mask in self._masks if mask.rule.columns.matches(schema.name, column.name)), None)

    def _misfits(self, shape: Shape) -> Iterator[Misfit]:
        schema = shape.source
        is_mirror = self._mode is not WriteMode.APPEND
        if self._metadata is not None and is_mirror and schema.is_keyless_full:
            yield Misfit(
                "a table whose rows are told apart by all their columns cannot have metadata columns in a mirror: "
                "equal rows would no longer be equal",
                "Give the table a primary key, write it with append_mode, or leave it to another destination",
                "transform-needs-key",
            )
        if schema.columns and not shape.kept:
            yield Misfit("no column of the table is left", "Exclude the table, or keep a column", "transform-no-column")
        if is_mirror and schema.has_key:
            yield from _key_misfits(shape)
        yield from self._hidden_misfits(shape)
        yield from _name_misfits(shape.target)

    def _hidden_misfits(self, shape: Shape) -> Iterator[Misfit]:
        """A column that is to be hidden, by its full name, and is not there."""
        rules = [("mask_columns", mask.rule.columns) for mask in self._masks]
        rules += [("exclude_columns", glob) for glob in self._selection.exclude_columns]
        for option, glob in rules:
            is_named = glob.table.is_exact and glob.name.is_exact and glob.table.matches(shape.source.name)
            if is_named and not any(glob.name.matches(column.name) for column in shape.columns):
                yield Misfit(
                    f"the column of {option} is not there: under another name it would arrive as it is",
                    f"Change {option} to the column's present name, or remove its entry",
                    "transform-column-gone",
                    glob.name.text,
                )

    def _unused(self, tables: tuple[TableSchema, ...]) -> list[Finding]:
        """Rules that are about none of ``tables``: most likely a name is misspelt."""
        selection = self._selection
        globs = [("include_tables", glob) for glob in selection.include_tables]
        globs += [("exclude_tables", glob) for glob in selection.exclude_tables]
        globs += [("where", rule.tables) for rule in self._rows]
        globs += [("computed_columns", rule.column.table) for rule in self._computed]
        columns = [("include_columns", glob) for glob in selection.include_columns]
        columns += [("exclude_columns", glob) for glob in selection.exclude_columns]
        columns += [("rename_columns", glob) for glob, _ in selection.columns]
        columns += [("mask_columns", mask.rule.columns) for mask in self._masks]
        globs += [(option, glob.table) for option, glob in columns]
        names = [schema.name for schema in tables]
        unused = [(option, str(glob)) for option, glob in globs if not any(map(glob.matches, names))]
        unused += [("rename_tables", str(name)) for name in selection.tables if name not in names]
        return [
            Finding(
                severity=Severity.WARNING,
                subject=f"options.{option}",
                message=f"{text} is no table of the flow at present",
                advice="Correct the name, unless the table is still to come",
                code="transform-unused",
            )
            for option, text in dict.fromkeys(unused)
        ]


def _key_misfits(shape: Shape) -> Iterator[Misfit]:
    places = {i: place for place, i in enumerate(shape.kept)}
    for i in shape.source.key:
        name = shape.source.columns[i].name
        if i not in places:
            yield Misfit(
                "a mirror finds its rows by this column of the key, and it is left out",
                "Keep the column, masked if need be, or write a log with append_mode",
                "transform-key-excluded",
                name,
            )
        elif places[i] in shape.masks and shape.masks[places[i]].rule.kind is MaskKind.REDACT:
            yield Misfit(
                "a mirror finds its rows by this column of the key, and redact makes all its values one",
                "Mask it with hmac, token or hash, or write a log with append_mode",
                "transform-key-redacted",
                name,
            )


def _compiled(
    engine: Engine, schema: TableSchema, sql: str, option: str, misfits: list[Misfit], rule: ColumnRule | None = None
) -> Expression | None:
    try:
        return engine.compiled(schema, sql)
    except NotAnExpression as error:
        misfits.append(_not_compiled(option, str(error), None if rule is None else rule.column.name.text))
        return None


def _not_compiled(option: str, why: str, column: str | None) -> Misfit:
    return Misfit(
        f"the expression of {option} does not fit the table: {why}",
        "An expression is SQL of DuckDB over the columns of one row; docs/transforms.md says what it may hold",
        "transform-expression",
        column,
    )


def _name_misfits(target: TableSchema) -> Iterator[Misfit]:
    names = [column.name for column in target.columns]
    for name in duplicates(names):
        yield Misfit(
            "two columns of the target would have this name",
            "Choose another name for one of them, or leave it out",
            "transform-collision",
            name,
        )
    for name in (target.name.schema, target.name.name, *names):
        if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= NAME_BYTES_MAX:
            yield Misfit(
                f"the name {name!r} would have {len(name.encode('utf-8', 'surrogatepass'))} bytes",
                f"Choose a rule that leaves 1 to {NAME_BYTES_MAX}",
                "transform-name-length",
            )


def _shared(target: TableName, owner: TableName) -> Misfit:
    return Misfit(
        f"{target} in the destination is {owner} already: two tables would be written into one",
        "Choose a rule that keeps their names apart, such as rename_table: {schema}__{table}",
        "transform-collision",
    )


def _finding(schema: TableSchema, misfit: Misfit) -> Finding:
    return Finding(
        severity=Severity.ERROR,
        subject=f"table {schema.name}" if misfit.column is None else f"column {schema.name}.{misfit.column}",
        message=misfit.message,
        advice=misfit.advice,
        code=misfit.code,
    )


__all__ = ["Misfit", "Shape", "Stage"]
