"""The target tables of one destination: making them, bringing them to a new shape, and whether wallaby may empty them.

What wallaby knows of a target stands in its properties: the source table, its columns with their attribute numbers, and
whether it was empty when first seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import SortOrder
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    AssertLastAssignedFieldId,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)

from sinks.iceberg.catalogs import FORMAT_VERSION, CatalogSession, commit
from sinks.iceberg.config import IcebergOptions, partition_fields, sort_fields
from sinks.iceberg.ddl import (
    Reshape,
    TargetName,
    WantedColumn,
    new_schema,
    partition_spec,
    reshape,
    sort_order,
    target_name,
    wanted_columns,
)
from sinks.iceberg.errors import Conflict
from sinks.iceberg.versions import ROW_GROUP_ROWS, holds_only_copies
from wallaby.errors import ConfigError, Refused, Transient
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Finding, WriteMode
from wallaby.transform.history import NO_VERSIONS, VERSIONS, holds_versions, require_only_copied
from wallaby.transform.moves import known_numbers
from wallaby.transform.target import collision, require_fit, shape_finding

SOURCE: Final = "wallaby.source"
COLUMNS: Final = "wallaby.columns"
RESETTABLE: Final = "wallaby.resettable"
_ATTEMPTS_MAX: Final = 20


class Tables:
    """Loads a target whenever it is asked for: other writers change tables at any time."""

    def __init__(self, session: CatalogSession, options: IcebergOptions) -> None:
        self.options = options
        self._session = session

    def target(self, source: TableName) -> TargetName:
        return target_name(source, schema=self.options.schema_, table=self.options.table)

    def load(self, source: TableName) -> Table | None:
        """The target as it is now, None when there is none."""
        target = self.target(source)
        return self._session.find(target.namespace, target.table)

    def wanted(self, schema: TableSchema) -> tuple[WantedColumn, ...]:
        return wanted_columns(
            schema,
            self.options.write_mode,
            keep_outliers=self.options.keeps_outliers,
            versions=self.options.version_columns,
        )

    def ensure(self, schema: TableSchema, require_owner: Callable[[], None]) -> None:
        """Create the target, or bring it to ``schema``: a mirror's columns are renamed, dropped, added and widened as
        the source's were. Twice is once.

        ``require_owner`` is called between looking and changing, so that a leftover of an older epoch changes nothing.
        """
        target, wanted = self.target(schema.name), self.wanted(schema)
        self._require_not_own(target)
        for _ in range(_ATTEMPTS_MAX):
            table = self._session.find(target.namespace, target.table)
            require_owner()
            if table is None:
                table = self._create(target, wanted, schema)
            try:
                self._fit(table, wanted, schema)
            except Conflict:
                continue
            return
        raise Transient("the table changes faster than it can be brought into shape", table=target)

    def reset_properties(self) -> dict[str, str]:
        """What an emptied target is told: what its columns were before matters no more."""
        return {COLUMNS: "[]"}

    def require_resettable(self, table: Table, source: TableName) -> None:
        """`Refused` when the target held rows before wallaby came, or holds a history no copy brings back."""
        known = table.properties.get(RESETTABLE)
        if known != "true" and not (known is None and is_empty(table)):
            raise Refused(
                "the target table held rows before wallaby first saw it, so it is not emptied",
                advice="Empty or drop the table yourself, or choose another namespace with the option schema",
                table=self.target(source),
            )
        if self.options.write_mode is WriteMode.HISTORY and not is_empty(table):
            require_only_copied(holds_only_copies(table, self.options.version_columns), source)

    def findings(self, schemas: tuple[TableSchema, ...]) -> list[Finding]:
        """What does not fit: names that collide, existing tables of another shape, partitions by a missing column."""
        found: list[Finding] = []
        sources: dict[TargetName, TableName] = {}
        for schema in schemas:
            target = self.target(schema.name)
            other = sources.setdefault(target, schema.name)
            try:
                if other != schema.name:
                    raise collision(target, schema.name, other)
                self._require_not_own(target)
                wanted = self.wanted(schema)
                table = self._session.find(target.namespace, target.table)
                if table is None:
                    self._layout(new_schema(wanted), schema.name)
                else:
                    _require_source(table, schema.name, target)
                    require_fit(self._reshape(table, wanted, schema).unfit, schema.name)
            except (Refused, ConfigError) as error:
                found.append(shape_finding(schema.name, error))
        return found

    def _create(self, target: TargetName, wanted: tuple[WantedColumn, ...], schema: TableSchema) -> Table:
        made = new_schema(wanted)
        spec, order = self._layout(made, schema.name)
        properties = {
            SOURCE: _name(schema.name),
            RESETTABLE: "true",
            COLUMNS: _columns(schema, {}),
            "write.target-file-size-bytes": str(self.options.target_file_size),
        }
        if self.options.write_mode is WriteMode.HISTORY:
            properties["write.parquet.row-group-limit"] = str(ROW_GROUP_ROWS)
        return self._session.create(target.namespace, target.table, made, spec=spec, order=order, properties=properties)

    def _layout(self, made: Schema, source: TableName) -> tuple[PartitionSpec, SortOrder]:
        return (
            partition_spec(made, partition_fields(self.options), table=source),
            sort_order(made, sort_fields(self.options), table=source),
        )

    def _fit(self, table: Table, wanted: tuple[WantedColumn, ...], schema: TableSchema) -> None:
        target = self.target(schema.name)
        _require_source(table, schema.name, target)
        plan = self._reshape(table, wanted, schema)
        require_fit(plan.unfit, schema.name)
        numbers = known_numbers(dict(_owned(table)), plan.moves)
        properties = {
            SOURCE: _name(schema.name),
            COLUMNS: _columns(schema, numbers),
            RESETTABLE: table.properties.get(RESETTABLE, "true" if is_empty(table) else "false"),
        }
        changed = {name: value for name, value in properties.items() if table.properties.get(name) != value}
        updates: list[TableUpdate] = [SetPropertiesUpdate(updates=changed)] if changed else []
        requirements: list[TableRequirement] = [AssertCurrentSchemaId(current_schema_id=table.schema().schema_id)]
        if plan.schema is not None:
            number = max(schema.schema_id for schema in table.metadata.schemas) + 1
            updates += [
                AddSchemaUpdate(schema=plan.schema.model_copy(update={"schema_id": number})),
                SetCurrentSchemaUpdate(schema_id=-1),
            ]
            requirements.append(AssertLastAssignedFieldId(last_assigned_field_id=table.metadata.last_column_id))
        if updates:
            commit(table, updates, requirements)

    def _reshape(self, table: Table, wanted: tuple[WantedColumn, ...], schema: TableSchema) -> Reshape:
        if table.format_version != FORMAT_VERSION:
            return Reshape(None, (f"it has format version {table.format_version}, wallaby writes {FORMAT_VERSION}",))
        is_history = self.options.write_mode is WriteMode.HISTORY
        has_versions = holds_versions(table.schema().column_names, schema, self.options.version_columns)
        if is_history != has_versions and not is_empty(table):
            return Reshape(None, (NO_VERSIONS if is_history else VERSIONS,))
        bound = {field.source_id for spec in table.specs().values() for field in spec.fields}
        bound |= {field.source_id for order in table.sort_orders().values() for field in order.fields}
        return reshape(
            table.schema(),
            wanted,
            owned=() if self.options.write_mode is WriteMode.APPEND else _owned(table),
            last_id=table.metadata.last_column_id,
            bound_ids=frozenset(bound),
            is_empty=is_empty(table),
            history_of=schema if is_history else None,
        )

    def _require_not_own(self, target: TargetName) -> None:
        if target.namespace == self.options.state_namespace:
            raise Refused(
                "wallaby keeps its own records in this namespace (name-collision)",
                advice="Choose another with the option schema, or another state_namespace",
                table=target,
            )


def is_empty(table: Table) -> bool:
    """True when the table certainly has no rows now."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return True
    return bool(snapshot.summary) and snapshot.summary.get("total-data-files") == "0"


def _name(source: TableName) -> str:
    return json.dumps([source.schema, source.name])


def _columns(schema: TableSchema, numbers: dict[str, int]) -> str:
    """Names and attribute numbers; a number the schema lacks is the one that was known."""
    return json.dumps(
        [[column.name, column.attnum or numbers.get(column.name, 0)] for column in schema.columns],
        separators=(",", ":"),
    )


def _owned(table: Table) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), int(number)) for name, number in json.loads(table.properties.get(COLUMNS, "[]")))


def _require_source(table: Table, source: TableName, target: TargetName) -> None:
    known = table.properties.get(SOURCE)
    if known is not None and known != _name(source):
        raise collision(target, source, TableName(*json.loads(known)))


__all__ = ["Tables", "is_empty"]
