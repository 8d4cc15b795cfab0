"""The target tables of one destination: which source table each holds, and whether wallaby may empty it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sinks.duckdb.config import EngineOptions
from sinks.duckdb.ddl import (
    OWN_SCHEMA,
    Change,
    TargetColumn,
    TargetName,
    change,
    create_statement,
    fold,
    moved_columns,
    read_columns,
    target_name,
    wanted_columns,
)
from sinks.duckdb.lanes import LANE_TABLE, own_schema
from sinks.duckdb.session import Session
from wallaby.errors import ConfigError, Refused
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.sink import Finding, WriteMode
from wallaby.transform.history import NO_VERSIONS, VERSIONS, holds_versions, require_only_copied
from wallaby.transform.moves import NO_MOVES, Moves, known_numbers
from wallaby.transform.target import collision, require_fit, shape_finding

_WHERE: str = "WHERE lower(target_schema) = lower(?) AND lower(target_table) = lower(?)"


@dataclass(frozen=True, slots=True)
class _Known:
    """What wallaby's own table says of a target."""

    source: TableName
    columns: tuple[tuple[str, int], ...]
    """Name and attnum, in the source's order."""


class Tables:
    """Everything runs in the open transaction if there is one, else in one of its own."""

    def __init__(self, session: Session, options: EngineOptions) -> None:
        self.options = options
        self._session = session

    def target(self, source: TableName) -> TargetName:
        return target_name(source, schema=self.options.schema_, table=self.options.table, catalog=self._session.catalog)

    @property
    def _own(self) -> str:
        return f"{own_schema(self._session)}.tables"

    def exists(self, target: TargetName) -> bool:
        return read_columns(self._session, target) is not None

    def wanted(self, schema: TableSchema) -> tuple[TargetColumn, ...]:
        return wanted_columns(
            schema,
            self.options.write_mode,
            keep_outliers=self.options.keeps_outliers,
            versions=self.options.version_columns,
            storage=self._session.storage,
        )

    def _change(
        self, target: TargetName, existing: tuple[TargetColumn, ...], wanted: tuple[TargetColumn, ...]
    ) -> Change:
        return change(target, existing, wanted, storage=self._session.storage)

    def ensure(self, schema: TableSchema) -> None:
        """Create the target, or bring it to ``schema``: a mirror's columns are renamed, dropped, added and widened as
        the source's were. Twice is once."""
        target = self.target(schema.name)
        with self._session.transaction():
            known = self._known(target)
            _require_free(target, schema.name, known)
            existing = read_columns(self._session, target)
            resettable, numbers = True, {}
            if existing is None:
                self._session.query(f"CREATE SCHEMA IF NOT EXISTS {target.schema_sql}", table=target)
                self._session.query(create_statement(target, self.wanted(schema)), table=target)
            else:
                resettable = known is None and self._is_empty(target)
                owned = known.columns if known else ()
                numbers = known_numbers(dict(owned), self._reshape(target, existing, owned, schema))
            self._remember(target, schema, numbers, known, resettable=resettable)

    def _reshape(
        self,
        target: TargetName,
        existing: tuple[TargetColumn, ...],
        owned: tuple[tuple[str, int], ...],
        schema: TableSchema,
    ) -> Moves:
        """Bring an existing target, with the columns ``owned`` so far, to ``schema``."""
        wanted = self.wanted(schema)
        moves = NO_MOVES
        self._require_versions(target, existing, schema)
        mode = self.options.write_mode
        if mode is not WriteMode.APPEND and owned:
            history_of = schema if mode is WriteMode.HISTORY else None
            moved = moved_columns(target, existing, owned, wanted, history_of=history_of)
            self._apply(moved, schema)
            moves = moved.moves
            if moved.statements:
                existing = read_columns(self._session, target) or ()
        self._apply(self._change(target, existing, wanted), schema)
        return moves

    def reset(self, source: TableName) -> None:
        """Empty the target; `Refused` when it held rows before wallaby came, or holds a history no copy brings back."""
        target = self.target(source)
        with self._session.transaction():
            if self._holds_ours(target, source):
                self._session.query(f"DELETE FROM {target.sql}", table=target)
                # What the columns were before matters no more.
                self._session.query(f"UPDATE {self._own} SET columns = [] {_WHERE}", (target.schema, target.table))

    def require_resettable(self, source: TableName) -> None:
        """`Refused` as `reset`."""
        with self._session.transaction():
            self._holds_ours(self.target(source), source)

    def _holds_ours(self, target: TargetName, source: TableName) -> bool:
        """False when there is no target. `Refused` as `reset`."""
        existing = read_columns(self._session, target)
        if existing is None:
            return False
        known = self._session.query(f"SELECT resettable FROM {self._own} {_WHERE}", (target.schema, target.table))
        if not (known[0][0] if known else self._is_empty(target)):
            raise Refused(
                "the target table held rows before wallaby first saw it, so it is not emptied",
                advice="Empty or drop the table yourself, or choose another schema with the option schema",
                table=target,
            )
        if self._has_versions(existing):
            columns = self.options.version_columns
            more = f"{quote_identifier(columns.opened_by)} <> 'r' OR NOT {quote_identifier(columns.is_current)}"
            found = self._session.query(f"SELECT 1 FROM {target.sql} WHERE {more} LIMIT 1", table=target)
            require_only_copied(not found, source)
        return True

    def findings(self, schemas: tuple[TableSchema, ...], *, can_read: bool) -> list[Finding]:
        """What does not fit: names that collide in DuckDB, existing tables of another shape."""
        found: list[Finding] = []
        sources: dict[tuple[str, str], TableName] = {}
        for schema in schemas:
            target = self.target(schema.name)
            other = sources.setdefault(target.folded, schema.name)
            try:
                if other != schema.name:
                    raise collision(target, schema.name, other, ignores_case=True)
                wanted = self.wanted(schema)
                _require_not_own(target)
                existing = read_columns(self._session, target) if can_read else None
                if existing is not None:
                    self._require_versions(target, existing, schema)
                    require_fit(self._change(target, existing, wanted).unfit, schema.name)
            except (Refused, ConfigError) as error:
                found.append(shape_finding(schema.name, error))
        return found

    def _require_versions(self, target: TargetName, existing: tuple[TargetColumn, ...], schema: TableSchema) -> None:
        """`Refused` when a history would be put among rows that are no versions, or other rows among versions."""
        is_history = self.options.write_mode is WriteMode.HISTORY
        has_versions = holds_versions((column.name for column in existing), schema, self.options.version_columns)
        if is_history != has_versions and not self._is_empty(target):
            require_fit((NO_VERSIONS if is_history else VERSIONS,), schema.name)

    def _has_versions(self, existing: tuple[TargetColumn, ...]) -> bool:
        names = {fold(name) for name in self.options.version_columns.names}
        return self.options.write_mode is WriteMode.HISTORY and names <= {fold(column.name) for column in existing}

    def _apply(self, plan: Change, schema: TableSchema) -> None:
        require_fit(plan.unfit, schema.name)
        for statement in plan.statements:
            self._session.query(statement, table=schema.name)

    def _known(self, target: TargetName) -> _Known | None:
        """What is noted of the target, in one look: in a lake each is a scan of files."""
        rows = self._session.query(
            "SELECT source_schema, source_table, list_transform(columns, lambda c: c.name),"
            f" list_transform(columns, lambda c: c.attnum) FROM {self._own} {_WHERE}",
            (target.schema, target.table),
        )
        if not rows:
            return None
        schema, table, names, numbers = rows[0]
        assert isinstance(names, list), "a list, empty where nothing is known"
        assert isinstance(numbers, list), "as long as the names"
        return _Known(TableName(str(schema), str(table)), tuple(zip(names, numbers, strict=True)))

    def _remember(
        self,
        target: TargetName,
        schema: TableSchema,
        numbers: Mapping[str, int],
        known: _Known | None,
        *,
        resettable: bool,
    ) -> None:
        """Note the target, once, and its columns; a number the schema lacks is the one that was known."""
        now = tuple((column.name, column.attnum or numbers.get(column.name, 0)) for column in schema.columns)
        columns = [{"name": name, "attnum": attnum} for name, attnum in now]
        if known is None:
            self._session.query(
                f"INSERT INTO {self._own} VALUES (?, ?, ?, ?, ?, ?)",
                (target.schema, target.table, schema.name.schema, schema.name.name, resettable, columns),
            )
        elif known.columns != now:
            self._session.query(f"UPDATE {self._own} SET columns = ? {_WHERE}", (columns, target.schema, target.table))

    def _is_empty(self, target: TargetName) -> bool:
        return not self._session.query(f"SELECT 1 FROM {target.sql} LIMIT 1", table=target)


def _require_free(target: TargetName, source: TableName, known: _Known | None) -> None:
    _require_not_own(target)
    if known is not None and known.source != source:
        raise collision(target, source, known.source, ignores_case=True)


def _require_not_own(target: TargetName) -> None:
    if target.folded[0] == OWN_SCHEMA and (
        target.folded[1] in ("lanes", "tables", "format") or target.folded[1].startswith(LANE_TABLE)
    ):
        raise Refused(
            "wallaby keeps its own record under this name (name-collision)",
            advice="Choose another schema with the option schema",
            table=target,
        )


__all__ = ["Tables"]
