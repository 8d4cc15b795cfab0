"""What a destination does not get of the source's tables, and that no rename gives it away.

Rules go by the names at the source, so a rename could take a column or a table from the rule that hid it: under its new
name it would arrive as it is. What does not change with a name is a table's oid and a column's attribute number. So the
names of every table are remembered as the stream last told them (`wallaby.schema.KnownNames`), or, until it does, as
the catalog shows them, over restarts, and before rows of another shape go anywhere, `Concealment.require_kept` asks the
rules about both: what they hide under the old names, they must hide under the new ones.

It is always the present rules that are asked. So an operator who takes a rule away, or puts the new name into it, is
not stopped; one who wants what was renamed to be seen says so in ``reveal_columns``.

The catalog is the present and the stream is history: a column that was renamed or dropped since has no number in the
stream's older shapes. Where that leaves it open whether a column that comes is a hidden one that went, it is taken for
that one. What we dislike: a column that was really dropped, and another added, while the flow was far behind, then need
``reveal_columns`` as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Self

from wallaby.errors import Refused
from wallaby.flow.expressions import RowRule
from wallaby.flow.patterns import ColumnGlob
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import Column, KnownNames, TableName, TableSchema
from wallaby.transform.engine import Engine, NotAnExpression
from wallaby.transform.selection import Selection

_ADVICE: Final = (
    "Write the new name into {options}, or, if it may be seen, into reveal_columns; then start the flow again"
)


@dataclass(frozen=True, slots=True)
class Concealment:
    """The rules by which one destination does not get tables, columns, rows, or values as they are."""

    destination: str
    selection: Selection
    masks: tuple[ColumnGlob, ...]
    rows: tuple[RowRule, ...]
    revealed: tuple[ColumnGlob, ...]

    @classmethod
    def of(cls, options: TransformOptions, *, destination: str) -> Self:
        return cls(
            destination,
            Selection.of(options),
            tuple(rule.columns for rule in options.mask_rules),
            options.row_rules,
            tuple(map(ColumnGlob.parse, options.reveal_columns)),
        )

    @property
    def is_nothing(self) -> bool:
        """Everything arrives, as it is."""
        return not (self.masks or self.rows) and self.selection.is_everything

    def require_kept(self, before: KnownNames, now: TableSchema) -> None:
        """`Refused` when something the rules hide of the table under its names ``before`` would arrive as ``now``."""
        hidden = self._hidden(before.name, [name for name, _ in before.columns])
        still = self._hidden(now.name, [column.name for column in now.columns])
        former = _former(before, now.columns)
        went = [known for known in before.columns if known[0] in hidden and known not in former.values()]
        for i, column in enumerate(now.columns):
            if column.name in still or self._is_revealed(now.name, column.name):
                continue
            known = former.get(column.name)
            if known is not None and known[0] in hidden:
                raise self._refused(
                    "a column hidden from the destination would arrive as it is: it, or its table, was renamed",
                    "mask_columns, exclude_columns or exclude_tables",
                    now.name,
                    column.name,
                )
            if known is None and any(_may_be(now.columns, i, number) for _, number in went):
                raise self._refused(
                    "a column came as one hidden from the destination went, and nothing tells whether it is the same",
                    "mask_columns or exclude_columns",
                    now.name,
                    column.name,
                )
        if any(glob.table.matches(now.name) and glob.name.text == "*" for glob in self.revealed):
            return
        rules = self._rules(now.name)
        if self._rules(before.name) - rules:
            raise self._refused(
                "rows hidden from the destination would arrive: the table was renamed, and where is not about its new "
                "name",
                "where",
                now.name,
                None,
            )
        taken = _taken_names(before, now.columns)
        read = _reads(now, rules) if taken and rules else frozenset()
        if taken & read:
            raise self._refused(
                "rows hidden from the destination might arrive: a column that where reads was renamed, and another one "
                "has its name",
                "where",
                now.name,
                min(taken & read),
            )

    def _hidden(self, table: TableName, columns: Collection[str]) -> frozenset[str]:
        if self.selection.target(table) is None:
            return frozenset(columns)
        names = tuple(columns)
        kept = {names[i] for i in self.selection.kept(table, names)}
        return frozenset(
            name for name in names if name not in kept or any(glob.matches(table, name) for glob in self.masks)
        )

    def _rules(self, table: TableName) -> frozenset[str]:
        if self.selection.target(table) is None:
            return frozenset()  # no row arrives
        return frozenset(rule.sql for rule in self.rows if rule.tables.matches(table))

    def _is_revealed(self, table: TableName, column: str) -> bool:
        return any(glob.matches(table, column) for glob in self.revealed)

    def _refused(self, message: str, options: str, table: TableName, column: str | None) -> Refused:
        return Refused(
            message,
            advice=_ADVICE.format(options=options),
            destination=self.destination,
            table=table,
            column=column,
        )


def _former(before: KnownNames, columns: Iterable[Column]) -> dict[str, tuple[str, int]]:
    """By present name, the column as it was known: the same by number, or by name where a number is unknown."""
    by_number = {known[1]: known for known in before.columns if known[1]}
    by_name = {known[0]: known for known in before.columns}
    former: dict[str, tuple[str, int]] = {}
    for column in columns:
        if column.attnum in by_number:
            former[column.name] = by_number[column.attnum]
        elif column.name in by_name and not (column.attnum and by_name[column.name][1]):
            former[column.name] = by_name[column.name]
    return former


def _taken_names(before: KnownNames, columns: Iterable[Column]) -> frozenset[str]:
    """Names that other columns have now, while those that had them are still there."""
    by_name = dict(before.columns)
    present = {column.attnum for column in columns}
    return frozenset(
        column.name
        for column in columns
        if column.attnum and by_name.get(column.name, column.attnum) in present - {0, column.attnum}
    )


def _reads(now: TableSchema, rules: Iterable[str]) -> frozenset[str]:
    """The columns that the rules read; an expression that does not fit the table is refused where it is compiled."""
    engine = Engine()
    found: set[str] = set()
    for sql in rules:
        with contextlib.suppress(NotAnExpression):
            found.update(now.columns[i].name for i in engine.reads(now, sql))
    return frozenset(found)


def _may_be(columns: tuple[Column, ...], place: int, number: int) -> bool:
    """Whether the column at ``place`` may be the one of attribute ``number`` (0: unknown). They come in that order."""
    own = columns[place].attnum
    if own or not number:
        return not (own and number)
    low = max((column.attnum for column in columns[:place]), default=0)
    high = min((column.attnum for column in columns[place + 1 :] if column.attnum), default=number + 1)
    return low < number < high


__all__ = ["Concealment"]
