"""What the destination's catalog says about a target table. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from sinks.postgres.types import ElementType, TargetColumn, transport
from wallaby.errors import Refused
from wallaby.kept_types import TEXT, Kept
from wallaby.pgtypes.layout import layout_of
from wallaby.pgtypes.numeric import precision_and_scale
from wallaby.schema import FIRST_USER_OID, PgType, TableName, TypeKind, quote_identifier
from wallaby.transform.casts import Fidelity


@dataclass(frozen=True, slots=True)
class Target:
    """A target table as it is now."""

    name: TableName
    relkind: str
    """``r`` table, ``p`` partitioned table; anything else cannot be written."""
    columns: tuple[TargetColumn, ...]
    unique_keys: frozenset[tuple[str, ...]]
    """Column names, sorted, of every unique index that ON CONFLICT accepts."""
    primary_key: str = ""
    """Name of the primary key's constraint; empty without one."""

    @property
    def sql(self) -> str:
        """The quoted, qualified name."""
        return qualified(self.name)

    def column(self, name: str) -> TargetColumn | None:
        return next((column for column in self.columns if column.column == name), None)


def qualified(name: TableName) -> str:
    """``"schema"."table"``."""
    return f"{quote_identifier(name.schema)}.{quote_identifier(name.name)}"


_COLUMNS: Final = """
SELECT c.oid, c.relkind::text, a.attname, coalesce(b.oid, t.oid), coalesce(b.typname, t.typname),
       coalesce(bn.nspname, n.nspname), coalesce(b.typtype, t.typtype)::text,
       CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
       format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1), a.attnotnull, a.atthasdef,
       a.attgenerated <> '', a.attidentity::text, e.oid, e.typname, en.nspname, e.typtype::text, t.typtype = 'd'
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
LEFT JOIN pg_catalog.pg_namespace bn ON bn.oid = b.typnamespace
LEFT JOIN pg_catalog.pg_type e
  ON e.oid = coalesce(b.typelem, t.typelem) AND coalesce(b.typcategory, t.typcategory) = 'A'
LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
WHERE cn.nspname = %s AND c.relname = %s
ORDER BY a.attnum
"""

_UNIQUE: Final = """
SELECT (SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])),
    CASE WHEN i.indisprimary THEN (SELECT c.relname::text FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid) END
FROM pg_catalog.pg_index i
WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
"""


def read_target(connection: psycopg.Connection[Any], name: TableName) -> Target | None:
    """The table's shape, or None when there is no such relation."""
    rows = connection.execute(_COLUMNS, (name.schema, name.name)).fetchall()
    if not rows:
        return None
    columns = tuple(
        TargetColumn(
            column=row[2],
            oid=row[3],
            name=row[4],
            schema=row[5],
            kind=row[6],
            typmod=row[7],
            sql=row[8],
            cast=row[9],
            not_null=row[10],
            has_default=row[11],
            is_generated=row[12],
            identity=row[13],
            element=ElementType(row[14], row[15], row[16], row[17]) if row[14] else None,
            is_domain=row[18],
        )
        for row in rows
        if row[2] is not None
    )
    unique = connection.execute(_UNIQUE, (rows[0][0],)).fetchall()
    keys = frozenset(tuple(sorted(names)) for names, _ in unique if names)
    return Target(name, rows[0][1], columns, keys, next((primary for _, primary in unique if primary), ""))


_BUILT_IN: Final = """
SELECT pg_catalog.format_type(w.oid, w.typmod)
FROM ROWS FROM (unnest(%s::oid[]), unnest(%s::int4[])) WITH ORDINALITY AS w(oid, typmod, place) ORDER BY w.place
"""
_USER: Final = """
SELECT t.oid, pg_catalog.format_type(t.oid, %s), t.typtype::text,
       ARRAY(SELECT enumlabel::text FROM pg_catalog.pg_enum WHERE enumtypid = coalesce(nullif(t.typelem, 0), t.oid))
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %s AND t.typname = %s AND t.typisdefined
"""
_EXTENSION: Final = """
SELECT pg_catalog.format_type(CASE WHEN %s THEN t.typarray ELSE t.oid END, %s)
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
WHERE x.extname = %s AND t.typname = %s
"""
_STAND_INS: Final = {
    ("vector", "vector"): "real[]",
    ("vector", "halfvec"): "real[]",
    ("postgis", "geometry"): "bytea",
    ("postgis", "geography"): "bytea",
}
"""Types that hold every value of an extension's type where the extension is missing; of any other, ``text`` does."""
_AS_TEXT: Final = frozenset(
    [
        "regproc",
        "regprocedure",
        "regoper",
        "regoperator",
        "regclass",
        "regtype",
        "regconfig",
        "regdictionary",
        "regnamespace",
        "regrole",
        "regcollation",
        "aclitem",
        "gtsvector",
    ]
)
"""Types whose values name objects of the source database."""


def type_names(connection: psycopg.Connection[Any], wanted: Sequence[tuple[PgType, int]]) -> list[str]:
    """The SQL type each source type has in this database: its own where it exists, else ``text``.

    Domains become their base type. Types of extensions are found whatever schema they are in here, and stood in for
    where the extension is missing (see `missing_types`); other types of users are found by schema and name. An enum
    must have every label of the source's.
    """
    resolved = [_without_domain(pg_type, typmod) for pg_type, typmod in wanted]
    names = [""] * len(resolved)
    built_in = [i for i, (pg_type, _) in enumerate(resolved) if pg_type.oid < FIRST_USER_OID]
    if built_in:
        oids, typmods = [resolved[i][0].oid for i in built_in], [resolved[i][1] for i in built_in]
        for i, (name,) in zip(built_in, connection.execute(_BUILT_IN, (oids, typmods)).fetchall(), strict=True):
            element = resolved[i][0].element or resolved[i][0]
            names[i] = "text" if element.name in _AS_TEXT else name
    for i, (pg_type, typmod) in enumerate(resolved):
        if not names[i]:
            names[i] = _user_type(connection, pg_type, typmod)
    return names


def missing_types(connection: psycopg.Connection[Any], wanted: Sequence[tuple[PgType, int]]) -> dict[int, PgType]:
    """By place in ``wanted``: the extension's type (of the elements, for an array) that this database does not have."""
    found: dict[int, PgType] = {}
    for i, one in enumerate(wanted):
        pg_type, _ = _without_domain(*one)
        leaf = pg_type.element or pg_type
        if leaf.extension and _extension_type(connection, pg_type, -1) is None:
            found[i] = leaf
    return found


def stand_in(pg_type: PgType) -> str:
    """What holds every value of an extension's type that is missing; empty when nothing does (arrays of vectors)."""
    leaf = pg_type.element or pg_type
    instead = _STAND_INS.get((leaf.extension, leaf.name), "text")
    if pg_type.element is None:
        return instead
    return "" if instead.endswith("[]") else "text"


def _extension_type(connection: psycopg.Connection[Any], pg_type: PgType, typmod: int) -> str | None:
    leaf = pg_type.element or pg_type
    parameters = (pg_type.element is not None, typmod, leaf.extension, leaf.name)
    row = connection.execute(_EXTENSION, parameters).fetchone()
    return None if row is None else row[0]


def _user_type(connection: psycopg.Connection[Any], pg_type: PgType, typmod: int) -> str:
    if (pg_type.element or pg_type).extension:
        return _extension_type(connection, pg_type, typmod) or stand_in(pg_type)
    row = connection.execute(_USER, (typmod, pg_type.schema, pg_type.name)).fetchone()
    if row is None:
        return "text"
    labels = (pg_type.element or pg_type).labels
    return row[1] if set(labels) <= set(row[3]) else "text"


def _without_domain(pg_type: PgType, typmod: int) -> tuple[PgType, int]:
    while pg_type.kind is TypeKind.DOMAIN and pg_type.base is not None:
        pg_type, typmod = pg_type.base, pg_type.base_typmod
    return pg_type, typmod


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`: a target of the same type, as wallaby makes it."""
    element = pg_type.element
    target = TargetColumn(
        column="v",
        oid=pg_type.oid,
        name=pg_type.name,
        schema=pg_type.schema,
        kind="e" if pg_type.kind is TypeKind.ENUM else "b",
        typmod=typmod,
        sql=pg_type.name,
        cast=pg_type.name,
        not_null=False,
        has_default=False,
        is_generated=False,
        identity="",
        element=None if element is None else ElementType(element.oid, element.name, element.schema, "b"),
    )
    try:
        transport(layout_of(pg_type, typmod).arrow, target)
    except Refused as error:
        return Kept("", Fidelity.REFUSED, error.message)
    if pg_type.kind is TypeKind.DOMAIN and pg_type.base is not None:
        return kept_as(pg_type.base, pg_type.base_typmod)
    name = pg_type.name if element is None else f"{element.name}[]"
    if pg_type.name == "numeric" and (declared := precision_and_scale(typmod)) is not None:
        name = f"numeric({declared[0]},{declared[1]})"
    if (element or pg_type).name in _AS_TEXT:
        return Kept("text", reason=TEXT)
    if pg_type.extension:
        return Kept(name, reason=f"{stand_in(pg_type)} without the extension")
    return Kept(name, reason="" if pg_type.schema == "pg_catalog" else "text where the target database lacks it")
