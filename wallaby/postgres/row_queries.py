"""The SQL behind `RowReader`. Every name is qualified: the search path belongs to the role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.pgoutput.copy_decoder import copy_select_expression
from wallaby.schema import PgType, TableSchema, TypeKind, quote_identifier

_ROW_FILTER: Final = """(
    SELECT pg_catalog.pg_get_expr(r.prqual, r.prrelid) FROM pg_catalog.pg_publication_rel AS r
    JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid WHERE p.pubname = $4 AND r.prrelid = c.oid)"""

_FACTS: Final = """
SELECT pg_catalog.pg_current_snapshot()::text, c.relkind::text, (
    SELECT pg_catalog.json_object_agg(a.attname, pg_catalog.json_build_array(a.atttypid::int8, a.atttypmod))
    FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text,
    {row_filter}{settings}
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid AND n.nspname = $2 AND c.relname = $3 AND $4::text IS NOT NULL
"""


def read_command(
    schema: TableSchema, columns: Sequence[int], *, row_filter: str | None = None, is_root: bool = False
) -> str:
    """The COPY of the key's number and ``columns`` of every row whose key is in the settings."""
    arrays = [
        f"pg_catalog.current_setting('{_setting(k)}')::{_type_name(schema.columns[i].type)}[]"
        for k, i in enumerate(schema.key)
    ]
    aliases = ", ".join([*(f"k{k}" for k in range(len(arrays))), "number"])
    conditions = [
        f"present.{quote_identifier(schema.columns[i].name)} {_equals(schema.columns[i].type)} wanted.k{k}"
        for k, i in enumerate(schema.key)
    ]
    conditions += [] if row_filter is None else [f"({row_filter})"]
    selected = ", ".join(f"{copy_select_expression(schema.columns[i])} AS v{k}" for k, i in enumerate(columns))
    table = qualified(schema) if is_root else f"ONLY {qualified(schema)}"
    return (
        f"COPY (SELECT wanted.number, found.* FROM unnest({', '.join(arrays)}) WITH ORDINALITY AS wanted ({aliases})"
        f" CROSS JOIN LATERAL (SELECT {selected} FROM {table} AS present WHERE {' AND '.join(conditions)}) AS found)"
        " TO STDOUT (FORMAT binary)"
    )


def array_literal(values: pa.Array) -> str:
    """The values, none of them null, as the text of a PostgreSQL array."""
    escaped = pc.replace_substring_regex(value_texts(values), r'(["\\])', r"\\\1")
    listed = pa.LargeListArray.from_arrays(pa.array([0, len(escaped)], pa.int64()), escaped)
    inside = pc.binary_join(listed, pa.scalar('","', pa.large_string()))[0].as_py()
    return f'{{"{inside}"}}' if len(values) else "{}"


def facts_query(keys: int, *, has_filters: bool) -> str:
    """The snapshot and the table's kind, shape and row filter; the keys are put into settings on the way."""
    condition = _ROW_FILTER if has_filters else "NULL::text"
    settings = "".join(f", pg_catalog.set_config('{_setting(k)}', ${5 + k}, true) <> ''" for k in range(keys))
    return _FACTS.format(row_filter=condition, settings=settings)


def _setting(number: int) -> str:
    return f"wallaby.key_{number}"


def qualified(schema: TableSchema) -> str:
    return f"{quote_identifier(schema.name.schema)}.{quote_identifier(schema.name.name)}"


def _type_name(kind: PgType) -> str:
    return f"{quote_identifier(kind.schema)}.{quote_identifier(kind.name)}"


def _equals(kind: PgType) -> str:
    """The type's own operator: one of an extension is found in the extension's schema only."""
    while kind.kind is TypeKind.DOMAIN and kind.base is not None:
        kind = kind.base
    schema = kind.schema if kind.kind is TypeKind.BASE else "pg_catalog"
    return f"OPERATOR({quote_identifier(schema)}.=)"
