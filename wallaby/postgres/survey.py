"""What a database holds, for somebody who is about to replicate it: tables with size, key and replica identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, LiteralString

from wallaby.postgres.connect import Connection
from wallaby.schema import ReplicaIdentity, TableName, quote_identifier

_TABLES: Final[LiteralString] = """
SELECT n.nspname, c.relname, c.relkind = 'p', c.relreplident,
    (SELECT coalesce(sum(pg_catalog.pg_total_relation_size(t.oid)), 0)::int8 FROM leaves AS t WHERE t.root = c.oid),
    (SELECT coalesce(sum(greatest(t.reltuples, 0)), 0)::int8 FROM leaves AS t
     WHERE t.root = c.oid AND t.relkind = 'r'),
    ARRAY(SELECT a.attname::text FROM pg_catalog.pg_index AS i
          CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
          JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
          WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident
                                       ELSE i.indisprimary AND i.indimmediate END
          ORDER BY k.place),
    pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""
"""Partitions count for their root, which is what publications send by default."""

_LEAVES: Final[LiteralString] = """
WITH RECURSIVE leaves (root, oid, relkind, reltuples) AS (
    SELECT oid, oid, relkind, reltuples FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
    UNION ALL
    SELECT l.root, c.oid, c.relkind, c.reltuples FROM leaves AS l
    JOIN pg_catalog.pg_inherits AS h ON h.inhparent = l.oid
    JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid AND c.relispartition
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedTable:
    """One table that could be replicated."""

    name: TableName
    is_partitioned: bool
    identity: ReplicaIdentity
    bytes: int
    """With indexes and TOAST, over all partitions."""
    rows: int
    """The planner's estimate; 0 before the first ANALYZE."""
    key: tuple[str, ...]
    """Columns of the primary key or the chosen index, whichever identifies rows; empty when none does."""
    is_owned: bool
    """The role of the connection may publish it."""

    @property
    def is_fit(self) -> bool:
        """Its updates and deletes can be replicated."""
        return self.identity is ReplicaIdentity.FULL or (
            self.identity is not ReplicaIdentity.NOTHING and bool(self.key)
        )

    @property
    def remedy(self) -> str:
        """What makes an unfit table fit."""
        name = f"{quote_identifier(self.name.schema)}.{quote_identifier(self.name.name)}"
        if self.key:
            return f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT;"
        return f"ALTER TABLE {name} REPLICA IDENTITY FULL;"


def survey(connection: Connection) -> list[SurveyedTable]:
    """Every ordinary and partitioned table of the database in order of their names; changes nothing."""
    rows = connection.execute(_LEAVES + _TABLES).fetchall()
    return [
        SurveyedTable(
            name=TableName(schema, table),
            is_partitioned=is_partitioned,
            identity=ReplicaIdentity(identity),
            bytes=size,
            rows=estimate,
            key=tuple(key),
            is_owned=is_owned,
        )
        for schema, table, is_partitioned, identity, size, estimate, key, is_owned in rows
    ]


def publications(connection: Connection) -> list[str]:
    """The names of the database's publications."""
    rows = connection.execute("SELECT pubname::text FROM pg_catalog.pg_publication ORDER BY 1").fetchall()
    return [name for (name,) in rows]
