"""What a target's rows consist of, by the mode it is written in, and how it is said that one cannot be had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

import pyarrow as pa

from wallaby.errors import ConfigError, Refused
from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Finding, WriteMode, error_finding
from wallaby.transform.append import append_schema
from wallaby.transform.history import history_schema
from wallaby.versions import VersionColumns

_COLLISION: Final = "name-collision"
"""What the finding is called; its error says so, too."""


def target_schema(
    schema: TableSchema, mode: WriteMode, *, versions: VersionColumns, keep_outliers: bool = False
) -> pa.Schema:
    """The source's columns in their own types, then the mode's own. Raises as `append_schema` and `history_schema`."""
    match mode:
        case WriteMode.APPEND:
            return append_schema(schema, keep_outliers=keep_outliers)
        case WriteMode.MIRROR:
            return arrow_schema(schema)
        case WriteMode.HISTORY:
            return history_schema(schema, versions)
        case never:
            assert_never(never)


def require_fit(unfit: Sequence[str], table: TableName) -> None:
    """`Refused` with all the reasons why the target of ``table`` cannot be brought into shape, if there are any."""
    if unfit:
        raise Refused(
            f"the target table does not fit: {'; '.join(unfit)}",
            advice="Change or drop the target table, or choose another with the options schema and table",
            table=table,
        )


def collision(target: object, table: TableName, other: TableName, *, ignores_case: bool = False) -> Refused:
    """Two tables of the source have one target; ``ignores_case``: to the destination, names that differ by it only."""
    case = "Case in names is ignored, and one" if ignores_case else "One"
    return Refused(
        f"{table} and {other} would both be written to {target} ({_COLLISION})",
        advice=f"{case} target holds one table: give each its own destination",
        table=table,
    )


def shape_finding(table: TableName, error: Refused | ConfigError) -> Finding:
    """The finding of what ``error`` refuses of a table."""
    code = _COLLISION if _COLLISION in error.message else "table-shape"
    return error_finding(f"table {table}", error.message, error.advice, code)


__all__ = ["collision", "require_fit", "shape_finding", "target_schema"]
