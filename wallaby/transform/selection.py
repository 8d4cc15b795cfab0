"""Which tables and columns a destination gets, and how they are called there.

Names are a function of the source's names alone, so tables and columns that come to be later follow the same rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from wallaby.flow.patterns import ColumnGlob, TableGlob, assignment, filled, parse_table_name
from wallaby.flow.transforms import TransformOptions
from wallaby.schema import TableName


@dataclass(frozen=True, slots=True)
class Selection:
    """The rules of names. What is listed as included is all there is; what is excluded goes in any case."""

    include_tables: tuple[TableGlob, ...]
    exclude_tables: tuple[TableGlob, ...]
    include_columns: tuple[ColumnGlob, ...]
    exclude_columns: tuple[ColumnGlob, ...]
    schema_template: str
    table_template: str
    tables: dict[TableName, TableName]
    columns: tuple[tuple[ColumnGlob, str], ...]

    @classmethod
    def of(cls, options: TransformOptions) -> Self:
        tables = map(assignment, options.rename_tables)
        columns = map(assignment, options.rename_columns)
        return cls(
            include_tables=tuple(map(TableGlob.parse, options.include_tables)),
            exclude_tables=tuple(map(TableGlob.parse, options.exclude_tables)),
            include_columns=tuple(map(ColumnGlob.parse, options.include_columns)),
            exclude_columns=tuple(map(ColumnGlob.parse, options.exclude_columns)),
            schema_template=options.rename_schema,
            table_template=options.rename_table,
            tables={parse_table_name(old): parse_table_name(new) for old, new in tables},
            columns=tuple((ColumnGlob.parse(pattern), template) for pattern, template in columns),
        )

    def target(self, table: TableName) -> TableName | None:
        """The table's name in the destination; None when it does not go there."""
        if self.include_tables and not any(glob.matches(table) for glob in self.include_tables):
            return None
        if any(glob.matches(table) for glob in self.exclude_tables):
            return None
        if table in self.tables:
            return self.tables[table]
        return TableName(
            filled(self.schema_template, schema=table.schema),
            filled(self.table_template, schema=table.schema, table=table.name),
        )

    @property
    def is_everything(self) -> bool:
        """Every table goes there, whole."""
        return not (self.include_tables or self.exclude_tables or self.include_columns or self.exclude_columns)

    def kept(self, table: TableName, columns: Iterable[str]) -> tuple[int, ...]:
        """Which of the columns go to the destination, in order."""
        listed = [glob for glob in self.include_columns if glob.table.matches(table)]
        return tuple(
            i
            for i, name in enumerate(columns)
            if (not listed or any(glob.name.matches(name) for glob in listed))
            and not any(glob.matches(table, name) for glob in self.exclude_columns)
        )

    def column(self, table: TableName, name: str) -> str:
        """The column's name in the destination, by the first rule that fits it."""
        for glob, template in self.columns:
            if glob.matches(table, name):
                return filled(template, column=name)
        return name


__all__ = ["Selection"]
