"""The register of targets, and target tables made to fit. Runs what `sinks.postgres.ddl` decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from sinks.postgres import ddl
from sinks.postgres.catalog import Target, missing_types, qualified, read_target, stand_in, type_names
from sinks.postgres.config import PostgresDestinationOptions
from wallaby.errors import ConfigError, Refused
from wallaby.schema import TableName, TableSchema, quote_identifier
from wallaby.sink import Finding, Severity, WriteMode, error_finding
from wallaby.transform.history import VERSIONS, holds_versions
from wallaby.transform.moves import NO_MOVES

_InUse: Final = psycopg.errors.DependentObjectsStillExist
_LEAVE_OUT: Final = "Leave a column out with a column list of the publication, or send the table elsewhere"
_DDL_LOCK: Final = 0x77616C6C61
"""Advisory lock key (any fixed number): two sessions that CREATE IF NOT EXISTS the same name can collide."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A target as registered when wallaby first saw it: created by it, or adopted while empty."""

    source: TableName
    created: bool
    oid: int = 0
    """Of the source table when its columns were noted; 0 where they were not."""
    columns: tuple[ddl.Noted, ...] = ()


class Tables:
    """Target tables of one destination. Methods run in the caller's transaction, if one is open."""

    def __init__(self, options: PostgresDestinationOptions) -> None:
        self._options = options
        self._register = f"{quote_identifier(options.state_schema)}.tables"

    def create_state(self, connection: psycopg.Connection[Any]) -> None:
        """The state schema and its tables exist. Takes no lock when they do already."""
        found = connection.execute(
            "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
            " WHERE n.nspname = %s AND (c.relname, a.attname) IN (('lanes', 'position'), ('tables', 'columns'))",
            (self._options.state_schema,),
        ).fetchone()
        if found is not None and found[0] == 2:
            return
        with connection.transaction():
            self.lock(connection)
            for statement in ddl.state_statements(self._options.state_schema):
                connection.execute(statement)

    def lock(self, connection: psycopg.Connection[Any]) -> None:
        """One session at a time changes targets, until the transaction ends."""
        connection.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", (_DDL_LOCK,))

    def ensure(self, connection: psycopg.Connection[Any], schema: TableSchema, *, may_add: bool = False) -> Target:
        """The target exists and fits ``schema``; `Refused` with every difference otherwise. Twice is once.

        ``may_add`` allows new columns also in adopted tables.
        """
        options = self._options
        name = options.target_of(schema.name)
        if problem := ddl.too_wide(schema, options.write_mode):
            raise Refused(problem, advice=_LEAVE_OUT, table=schema.name)
        wanted = ddl.wanted_columns(schema, options.write_mode, options.version_columns)
        key = ddl.key_columns(schema, options.write_mode)
        names = type_names(connection, [(column.type, column.typmod) for column in wanted])
        if missing := [ddl.unavailable(column) for column, found in zip(wanted, names, strict=True) if not found]:
            raise unfit(name, ddl.Fit((), tuple(missing)))
        is_history = options.write_mode is WriteMode.HISTORY
        target = read_target(connection, name)
        entry, is_new = self.entry(connection, name), False
        if target is None:
            target = self._create(connection, schema, ddl.create_table(name, wanted, names, key))
            entry, is_new = None, True
        elif entry is None:
            if self.is_empty(connection, target):
                self._note(connection, name, schema.name, created=False)
        elif (key or is_history) and entry.source != schema.name:
            raise Refused(
                f"the target already {'holds the history of' if is_history else 'mirrors'} another source table",
                advice="Give each source table a target of its own",
                table=name,
                source=entry.source,
            )
        if not is_history and self._holds_versions(connection, target, schema):
            raise unfit(name, ddl.Fit((), (VERSIONS,)))
        is_ours = entry is not None and entry.created
        if is_history and is_ours and (lacks := ddl.lacks_versions(target, options.version_columns)):
            raise unfit(name, ddl.Fit((), lacks))
        moves = NO_MOVES
        if entry is not None and entry.oid == schema.oid and options.write_mode is not WriteMode.APPEND:
            plan, moves = ddl.move(target, entry.columns, wanted, names, is_ours=is_ours, keeps_dropped=is_history)
            target = self._alter(connection, target, plan)
        fit = ddl.fit(target, wanted, names, key=key, is_ours=is_ours, may_add=may_add or is_ours)
        target = self._alter(connection, target, fit)
        if is_history and (is_ours or is_new):
            self._index_current(connection, target, [schema.columns[i].name for i in schema.key])
        self._note_columns(connection, name, schema.oid, ddl.note(entry.columns if entry else (), wanted, moves))
        return target

    def entry(self, connection: psycopg.Connection[Any], name: TableName) -> Entry | None:
        """What the register says about the target."""
        row = connection.execute(
            f"SELECT source_schema, source_table, created, to_jsonb(t) -> 'columns' FROM {self._register} AS t"
            " WHERE target_schema = %s AND target_table = %s",
            (name.schema, name.name),
        ).fetchone()
        if row is None:
            return None
        noted = row[3] or {"oid": 0, "columns": []}
        columns = tuple(ddl.Noted(c["name"], c["attnum"], c["gone"]) for c in noted["columns"])
        return Entry(TableName(row[0], row[1]), row[2], noted["oid"], columns)

    def is_empty(self, connection: psycopg.Connection[Any], target: Target) -> bool:
        """A table without rows; a view is never empty."""
        if target.relkind not in ("r", "p"):
            return False
        return connection.execute(f"SELECT NOT EXISTS (SELECT FROM {target.sql})").fetchone() == (True,)

    def findings(self, connection: psycopg.Connection[Any], schemas: tuple[TableSchema, ...]) -> list[Finding]:
        """What is wrong with the role's privileges and the existing targets. Changes nothing."""
        options = self._options
        found: list[Finding] = []
        missing_schemas: set[str] = set()
        if not _has_schema(connection, options.state_schema):
            missing_schemas.add(options.state_schema)
        for schema in schemas:
            name = options.target_of(schema.name)
            if problem := ddl.too_wide(schema, options.write_mode):
                found.append(error_finding(f"table {schema.name}", problem, _LEAVE_OUT, "table-shape"))
                continue
            try:
                ddl.wanted_columns(schema, options.write_mode, options.version_columns)
            except (Refused, ConfigError) as error:
                found.append(error_finding(f"table {schema.name}", error.message, error.advice, "table-shape"))
                continue
            target = read_target(connection, name)
            if target is not None:
                found.extend(self._shape_findings(connection, schema, target))
                continue
            found.extend(self._type_findings(connection, schema))
            if not options.create_tables:
                found.append(
                    error_finding(
                        f"table {name}", "it does not exist", "Create it, or set create_tables: true", "table-shape"
                    )
                )
            elif not _has_schema(connection, name.schema):
                missing_schemas.add(name.schema)
            elif not _may(connection, "has_schema_privilege(%s, 'CREATE')", name.schema):
                found.append(
                    error_finding(
                        f"schema {name.schema}",
                        "the role may not create tables here",
                        f"GRANT CREATE ON SCHEMA {quote_identifier(name.schema)} to the role, or create the table",
                        "privilege",
                    )
                )
        if missing_schemas and not _may(connection, "has_database_privilege(current_database(), 'CREATE')"):
            for schema_name in sorted(missing_schemas):
                found.append(
                    error_finding(
                        f"schema {schema_name}",
                        "it does not exist and the role may not create schemas",
                        "GRANT CREATE ON DATABASE to the role, or create the schema and make the role its owner",
                        "privilege",
                    )
                )
        return found

    def _type_findings(self, connection: psycopg.Connection[Any], schema: TableSchema) -> list[Finding]:
        """What becomes of columns of a table still to be made whose types belong to extensions missing here."""
        wanted = ddl.wanted_columns(schema, self._options.write_mode, self._options.version_columns)
        found: list[Finding] = []
        for i, missing in missing_types(connection, [(column.type, column.typmod) for column in wanted]).items():
            instead = stand_in(wanted[i].type)
            found.append(
                Finding(
                    severity=Severity.WARNING if instead else Severity.ERROR,
                    subject=f"table {self._options.target_of(schema.name)}",
                    message=f"column {wanted[i].name}: the type {missing.name} of the extension {missing.extension} is "
                    + (f"missing here, so the column will be {instead}" if instead else "missing here"),
                    advice=f"CREATE EXTENSION {missing.extension} in the destination before the flow makes the table",
                    code="type-missing",
                )
            )
        return found

    def _shape_findings(
        self, connection: psycopg.Connection[Any], schema: TableSchema, target: Target
    ) -> list[Finding]:
        options = self._options
        wanted = ddl.wanted_columns(schema, options.write_mode, options.version_columns)
        names = type_names(connection, [(column.type, column.typmod) for column in wanted])
        is_registered = _has_schema(connection, options.state_schema) and connection.execute(
            "SELECT pg_catalog.to_regclass(%s) IS NOT NULL", (self._register,)
        ).fetchone() == (True,)
        entry = self.entry(connection, target.name) if is_registered else None
        is_ours = entry is not None and entry.created
        key = ddl.key_columns(schema, options.write_mode)
        fit = ddl.fit(target, wanted, names, key=key, is_ours=is_ours, may_add=is_ours)
        differences = fit.differences
        if options.write_mode is WriteMode.HISTORY and is_ours:
            differences += ddl.lacks_versions(target, options.version_columns)
        can_read = _may(connection, "has_table_privilege(%s, 'SELECT')", target.sql)
        if (
            can_read
            and options.write_mode is not WriteMode.HISTORY
            and self._holds_versions(connection, target, schema)
        ):
            differences += (VERSIONS,)
        found = [
            error_finding(
                f"table {target.name}",
                difference,
                "Change the target, drop it so that wallaby creates it, or name another schema",
                "table-shape",
            )
            for difference in differences
        ]
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            if not _may(connection, f"has_table_privilege(%s, '{privilege}')", target.sql):
                found.append(
                    error_finding(
                        f"table {target.name}",
                        f"the role lacks {privilege}",
                        f"GRANT {privilege} ON {target.sql} to the role",
                        "privilege",
                    )
                )
        return found

    def _create(self, connection: psycopg.Connection[Any], schema: TableSchema, statement: str) -> Target:
        name = self._options.target_of(schema.name)
        if not self._options.create_tables:
            raise Refused("the target table does not exist", advice="Create it, or set create_tables: true", table=name)
        if not _has_schema(connection, name.schema):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(name.schema)}")
        connection.execute(statement)
        self._note(connection, name, schema.name, created=True)
        target = read_target(connection, name)
        assert target is not None, f"{name} was just created"
        return target

    def _index_current(self, connection: psycopg.Connection[Any], target: Target, key: list[str]) -> None:
        """One open version per key: an index of ours on exactly these columns, and no other of ours."""
        wanted, statement = ddl.current_index(target, key, self._options.version_columns)
        rows = connection.execute(
            "SELECT c.relname, n.nspname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE i.indrelid = %s::regclass AND pg_catalog.starts_with(c.relname::text, %s)",
            (target.sql, ddl.CURRENT_INDEX),
        ).fetchall()
        present = dict(rows)
        for name, schema in present.items():
            if name != wanted:
                connection.execute(f"DROP INDEX {quote_identifier(schema)}.{quote_identifier(name)}")
        if wanted not in present:
            connection.execute(statement)

    def _holds_versions(self, connection: psycopg.Connection[Any], target: Target, schema: TableSchema) -> bool:
        names = (column.column for column in target.columns)
        return holds_versions(names, schema, self._options.version_columns) and not self.is_empty(connection, target)

    def holds_only_copies(self, connection: psycopg.Connection[Any], target: Target) -> bool:
        """True when no row of a history says more than a copy would; also for what is no history."""
        versions = self._options.version_columns
        if self._options.write_mode is not WriteMode.HISTORY or ddl.lacks_versions(target, versions):
            return True
        more = f"{quote_identifier(versions.opened_by)} <> 'r' OR NOT {quote_identifier(versions.is_current)}"
        query = f"SELECT NOT EXISTS (SELECT FROM {target.sql} WHERE {more})"
        return connection.execute(query.encode()).fetchone() == (True,)

    def _note(self, connection: psycopg.Connection[Any], name: TableName, source: TableName, *, created: bool) -> None:
        connection.execute(
            f"INSERT INTO {self._register} (target_schema, target_table, source_schema, source_table, created)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT (target_schema, target_table) DO UPDATE"
            " SET source_schema = excluded.source_schema, source_table = excluded.source_table,"
            " created = excluded.created, registered_at = now()",
            (name.schema, name.name, source.schema, source.name, created),
        )

    def forget_columns(self, connection: psycopg.Connection[Any], name: TableName) -> None:
        """The target was emptied: what its columns were before matters no more."""
        connection.execute(
            f"UPDATE {self._register} SET columns = NULL WHERE target_schema = %s AND target_table = %s",
            (name.schema, name.name),
        )

    def _note_columns(
        self, connection: psycopg.Connection[Any], name: TableName, oid: int, columns: tuple[ddl.Noted, ...]
    ) -> None:
        listed = [{"name": column.name, "attnum": column.attnum, "gone": column.is_gone} for column in columns]
        connection.execute(
            f"UPDATE {self._register} SET columns = new.columns FROM (SELECT %s::jsonb AS columns) AS new"
            " WHERE target_schema = %s AND target_table = %s AND tables.columns IS DISTINCT FROM new.columns",
            (Jsonb({"oid": oid, "columns": listed}), name.schema, name.name),
        )

    def _alter(self, connection: psycopg.Connection[Any], target: Target, fit: ddl.Fit) -> Target:
        if fit.differences:
            raise unfit(target.name, fit)
        if not fit.statements:
            return target
        for statement, difference in fit.statements:
            try:
                connection.execute(statement)
            except (
                psycopg.DataError,
                psycopg.IntegrityError,
                psycopg.ProgrammingError,
                psycopg.NotSupportedError,
                _InUse,
            ):
                raise unfit(target.name, ddl.Fit((), (difference,))) from None
        altered = read_target(connection, target.name)
        assert altered is not None, f"{target.name} was just altered"
        return altered


def unfit(name: TableName, fit: ddl.Fit) -> Refused:
    """The refusal of a target, listing every difference."""
    return Refused(
        f"the target table does not fit: {'; '.join(fit.differences)}",
        advice="Change the target, drop it so that wallaby creates it, or name another schema",
        table=name,
    )


def _has_schema(connection: psycopg.Connection[Any], schema: str) -> bool:
    query = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s)"
    return connection.execute(query, (schema,)).fetchone() == (True,)


def _may(connection: psycopg.Connection[Any], privilege: str, *parameters: str) -> bool:
    return connection.execute(f"SELECT pg_catalog.{privilege}", parameters).fetchone() == (True,)


__all__ = ["Entry", "Tables", "qualified", "unfit"]
