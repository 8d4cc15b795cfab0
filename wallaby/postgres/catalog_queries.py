"""The SQL behind `Catalog`. Every name is qualified: the search path belongs to the role."""

from __future__ import annotations

from typing import Final, LiteralString

TYPES: Final[LiteralString] = """
SELECT t.oid, pg_catalog.jsonb_build_object(
    'name', t.typname,
    'schema', n.nspname,
    'kind', t.typtype,
    'element', CASE WHEN e.typarray = t.oid THEN t.typelem::int8 END,
    'base', CASE WHEN t.typtype = 'd' THEN t.typbasetype::int8 END,
    'base_typmod', t.typtypmod,
    'extension', CASE WHEN t.typsend::oid <> 0 AND (
            x.extname <> 'hstore' OR pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII'))
        THEN x.extname END,
    'labels', ARRAY(SELECT l.enumlabel::text FROM pg_catalog.pg_enum AS l
                    WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder))
FROM pg_catalog.pg_type AS t
JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem
LEFT JOIN pg_catalog.pg_depend AS d
    ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension AS x ON x.oid = d.refobjid
WHERE t.oid = ANY (%(oids)s::oid[])
"""
"""An array type is one its element calls its array: int2vector has elements too, but prints otherwise.

An extension's type counts as the extension's only where it has a send function (ltree has one since 1.2: an older one
stays behind after pg_upgrade). ``hstore_send`` announces lengths in the database's encoding and sends in the client's:
in a database of another encoding than UTF-8 its binary form cannot be read, so hstore is a type like any other there.
"""

COLUMNS: Final[LiteralString] = """
SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, a.attgenerated <> '',
    COALESCE(a.attnum = ANY (k.indkey[0:k.indnkeyatts - 1]) AND k.indimmediate, false),
    COALESCE(a.attnum = ANY (r.indkey[0:r.indnkeyatts - 1]), false),
    CASE WHEN a.atthasmissing THEN (a.attmissingval::text::text[])[1] WHEN c.relkind = 'p' THEN (
        SELECT (leaf.attmissingval::text::text[])[1] FROM pg_catalog.pg_partition_tree(a.attrelid) AS tree
        JOIN pg_catalog.pg_attribute AS leaf ON leaf.attrelid = tree.relid AND leaf.attname = a.attname
        WHERE leaf.atthasmissing LIMIT 1) END
FROM pg_catalog.pg_attribute AS a
JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_index AS k ON k.indrelid = a.attrelid AND k.indisprimary
LEFT JOIN pg_catalog.pg_index AS r
    ON r.indrelid = a.attrelid AND r.indisreplident AND r.indisvalid AND r.indimmediate
WHERE a.attrelid = ANY (%(oids)s::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
"""
"""The last is the constant that rows older than the column have: ADD COLUMN with a default writes no row, and notes it
in the leaves of a partitioned table."""

LISTED: Final[LiteralString] = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS r WHERE r.prattrs IS NOT NULL
    AND (r.prrelid = %(oid)s OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(%(oid)s::oid))))
"""
"""A publication sends some of the table's columns. From PostgreSQL 15 on."""

PUBLISHED: Final[LiteralString] = """
WITH sent AS (
    SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relkind, p.attnames::text[] AS columns,
        CASE WHEN pg_catalog.bool_or(p.rowfilter IS NULL) OVER same THEN NULL ELSE
            pg_catalog.string_agg('(' || p.rowfilter || ')', ' OR ') OVER same END AS row_filter,
        pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY p.pubname) AS number
    FROM pg_catalog.pg_publication_tables AS p
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = p.schemaname
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.tablename
    WHERE p.pubname = ANY (%(publications)s)
    WINDOW same AS (PARTITION BY c.oid)
)
SELECT oid, nspname, relname, relreplident, relkind, columns, row_filter
FROM sent
WHERE number = 1 AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_partition_ancestors(sent.oid) AS up (oid)
    JOIN sent AS root ON root.oid = up.oid AND root.oid <> sent.oid)
ORDER BY nspname, relname
"""
"""A partition whose ancestor is sent under its own name by another of the publications is sent as that ancestor."""

PUBLISHED_14: Final[LiteralString] = """
WITH sent AS (
    SELECT DISTINCT c.oid, n.nspname, c.relname, c.relreplident, c.relkind
    FROM pg_catalog.pg_publication_tables AS p
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = p.schemaname
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.tablename
    WHERE p.pubname = ANY (%(publications)s)
)
SELECT oid, nspname, relname, relreplident, relkind, NULL::text[], NULL::text
FROM sent
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_partition_ancestors(sent.oid) AS up (oid)
    JOIN sent AS root ON root.oid = up.oid AND root.oid <> sent.oid)
ORDER BY nspname, relname
"""
"""PostgreSQL 14 knows neither column lists nor row filters."""

NAMED: Final[LiteralString] = """
SELECT c.oid, n.nspname, c.relname, c.relreplident, c.relkind, NULL::text[], NULL::text
FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS wanted (schema, name)
JOIN pg_catalog.pg_namespace AS n ON n.nspname = wanted.schema
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.name
WHERE c.relkind IN ('r', 'p')
ORDER BY n.nspname, c.relname
"""
"""Tables as a publication would list them that does not exist yet."""
