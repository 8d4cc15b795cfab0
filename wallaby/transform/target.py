"""What a target's rows consist of, by the mode it is written in."""

from __future__ import annotations

from typing import assert_never

import pyarrow as pa

from wallaby.pgtypes.types import arrow_schema
from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.transform.append import append_schema
from wallaby.transform.history import history_schema
from wallaby.versions import VersionColumns


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


__all__ = ["target_schema"]
