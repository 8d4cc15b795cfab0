"""The set-based statements of an apply, as text. Pure; nothing here talks to a server.

Every statement reads rows from a source named ``s``: a staging table, or ``unnest`` of one array-of-records parameter.
Columns of the source are numbered: ``cN`` is column N's value, ``xN`` its outlier as text, ``oN`` the key before the
window, ``n`` a count. So no statement depends on how long or odd a source's names are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sinks.postgres.types import TargetColumn, Transport
from wallaby.schema import quote_identifier


class Shape:
    """One target table and how each source column reaches it. Columns the target generates itself are left out."""

    def __init__(
        self, table: str, columns: Mapping[int, TargetColumn], transports: Mapping[int, Transport], key: Sequence[int]
    ) -> None:
        self.table = table
        self.columns = columns
        self.transports = transports
        self.key = tuple(key)
        self._overriding = " OVERRIDING SYSTEM VALUE" if any(c.identity for c in columns.values()) else ""

    def insert(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        """Append the source's rows."""
        return self._insert(source, fields, outliers)

    def insert_counted(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        """Append each source row ``n`` times."""
        return self._insert(f"{source} CROSS JOIN LATERAL generate_series(1, s.n)", fields, outliers)

    def upsert(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        """Insert the rows, or replace the whole row of that key."""
        changed = [i for i in fields if i not in self.key and self.columns[i].identity != "a"]
        action = "NOTHING"
        if changed:
            action = "UPDATE SET " + ", ".join(f"{self._name(i)} = excluded.{self._name(i)}" for i in changed)
        key = ", ".join(self._name(i) for i in self.key)
        return f"{self._insert(source, fields, outliers)} ON CONFLICT ({key}) DO {action}"

    def update(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        """Set the given columns of the rows with the source's keys."""
        changed = [i for i in fields if i not in self.key and self.columns[i].identity != "a"]
        # With nothing but key columns left there is nothing to set; the row must still be there.
        values = ", ".join(f"{self._name(i)} = {self._value(i, outliers)}" for i in changed or self.key[:1])
        return f"UPDATE {self.table} AS t SET {values} FROM {source} WHERE {self._same_key('c')}"

    def delete(self, source: str) -> str:
        """Remove the rows with the source's keys."""
        return f"DELETE FROM {self.table} AS t USING {source} WHERE {self._same_key('c')}"

    def delete_counted(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        """Remove ``n`` copies of each source row. Rows are compared as text: equal text is equal value, for every type,
        also those without an equality operator, and it can be hashed."""
        target = ", ".join(f"t.{self._name(i)}" for i in fields)
        wanted = ", ".join(f"({self._value(i, outliers)})::{self.columns[i].sql}" for i in fields)
        return (
            f"WITH w AS MATERIALIZED (SELECT ROW({wanted})::text AS row, sum(s.n) AS n FROM {source} GROUP BY 1),"
            f" h AS (SELECT t.tableoid AS part, t.ctid AS place, w.n,"
            f" row_number() OVER (PARTITION BY w.row ORDER BY t.tableoid, t.ctid) AS number"
            f" FROM {self.table} AS t JOIN w ON w.row = ROW({target})::text)"
            f" DELETE FROM {self.table} AS t USING h"
            f" WHERE t.ctid = h.place AND t.tableoid = h.part AND h.number <= h.n"
        )

    def fetch_missing(self, stage: str, missing: Sequence[int], *, only: int | None = None) -> str:
        """Fill a staging table's missing columns from the rows that had the keys ``oN`` before the window.

        ``only`` is a boolean column of the target that must be true, too.
        """
        values = ", ".join(f"c{i} = t.{self._name(i)}" for i in missing)
        condition = self._same_key("o") if only is None else f"{self._same_key('o')} AND t.{self._name(only)}"
        return f"UPDATE {stage} AS s SET {values} FROM {self.table} AS t WHERE {condition}"

    def end(self, source: str, closing: Sequence[int], is_current: int, order: Sequence[int]) -> str:
        """End the open versions of the source's keys.

        Keys that differ may be equal to PostgreSQL (``1.0`` and ``1.00``, letters of citext): of theirs the first by
        the columns ``order`` ends the version.
        """
        values = ", ".join(f"{self._name(i)} = {self._value(i, ())}" for i in closing)
        keys = ", ".join(self._value(i, ()) for i in self.key)
        first = ", ".join(self._value(i, ()) for i in order)
        once = f"(SELECT DISTINCT ON ({keys}) s.* FROM {source} ORDER BY {keys}, {first}) AS s"
        return (
            f"UPDATE {self.table} AS t SET {self._name(is_current)} = false, {values} FROM {once}"
            f" WHERE {self._same_key('c')} AND t.{self._name(is_current)}"
        )

    def names(self, fields: Sequence[int]) -> str:
        """The target's column list for ``fields``."""
        return ", ".join(self._name(i) for i in fields)

    def _insert(self, source: str, fields: Sequence[int], outliers: Collection[int]) -> str:
        values = ", ".join(self._value(i, outliers) for i in fields)
        if not fields:
            return f"INSERT INTO {self.table} SELECT FROM {source}"
        return f"INSERT INTO {self.table} ({self.names(fields)}){self._overriding} SELECT {values} FROM {source}"

    def _value(self, i: int, outliers: Collection[int]) -> str:
        cast = self.transports[i].cast
        if i in outliers:
            cast = self.columns[i].cast
            return f"CASE WHEN s.x{i} IS NULL THEN s.c{i}::{cast} ELSE s.x{i}::{cast} END"
        return f"s.c{i}::{cast}" if cast else f"s.c{i}"

    def _same_key(self, letter: str) -> str:
        casts = {i: f"::{self.transports[i].cast}" if self.transports[i].cast else "" for i in self.key}
        return " AND ".join(f"t.{self._name(i)} = s.{letter}{i}{casts[i]}" for i in self.key)

    def _name(self, i: int) -> str:
        return quote_identifier(self.columns[i].column)
