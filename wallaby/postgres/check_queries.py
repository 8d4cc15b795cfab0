"""The SQL behind `check_source`. Read-only, every name qualified."""

from __future__ import annotations

from typing import Final, LiteralString

SERVER: Final[LiteralString] = """
SELECT pg_catalog.current_setting('wal_level'),
    pg_catalog.current_setting('max_replication_slots')::int,
    (SELECT count(*) FROM pg_catalog.pg_replication_slots)::int,
    pg_catalog.current_setting('max_wal_senders')::int,
    (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'walsender')::int,
    pg_catalog.pg_is_in_recovery(),
    r.rolsuper OR r.rolreplication OR EXISTS (
        SELECT FROM pg_catalog.pg_roles AS g
        WHERE g.rolname IN ('rds_replication', 'cloudsqlsuperuser', 'azure_pg_admin')
        AND pg_catalog.pg_has_role(g.oid, 'member')),
    r.rolsuper,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
    pg_catalog.current_database()::text,
    r.rolname::text,
    (SELECT count(*) FROM pg_catalog.pg_prepared_xacts)::int
FROM pg_catalog.pg_roles AS r WHERE r.rolname = CURRENT_USER
"""
"""Managed services grant replication through a role of their own instead of the attribute."""

ALL_TABLES: Final[LiteralString] = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2
"""

TABLES: Final[LiteralString] = """
SELECT n.nspname, c.relname, c.relreplident,
    CASE c.relreplident
        WHEN 'f' THEN pg_catalog.current_setting('server_version_num')::int4 < 180000 OR NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables AS p
                            WHERE p.pubname = %(publication)s AND p.schemaname = n.nspname AND p.tablename = c.relname
                            AND pg_catalog.to_jsonb(p) -> 'attnames' ? a.attname::text))
        WHEN 'n' THEN false
        WHEN 'i' THEN EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident)
        ELSE EXISTS (SELECT FROM pg_catalog.pg_index AS i
                     WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
    END,
    pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
    pg_catalog.row_security_active(c.oid),
    pg_catalog.pg_has_role(c.relowner, 'USAGE'),
    c.relreplident IN ('d', 'i') OR EXISTS (
        SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS given (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = given.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = given.name
ORDER BY 1, 2
"""
"""From 18 on, UPDATE and DELETE need every column of the replica identity to be published, generated ones too."""
