"""What PostgreSQL's types become in Parquet files, and the names they can be mapped to."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from wallaby.kept_types import Kept, printed
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.pgtypes.types import arrow_field
from wallaby.schema import Column, PgType
from wallaby.type_map import TypeNames
from wallaby.wire.parquet_types import INTERVAL_TYPE, is_json, parquet_type

TYPE_NAMES: Final = TypeNames(
    {
        "bool": "bool",
        "int16": "int2",
        "int32": "int4",
        "int64": "int8",
        "uint32": "oid",
        "float": "float4",
        "double": "float8",
        "string": "text",
        "binary": "bytea",
        "uuid": "uuid",
        "date": "date",
        "time": "time",
        "timestamp": "timestamp",
        "timestamp with time zone": "timestamptz",
    },
    decimal="decimal",
    array="list<{}>",
    digits_max=76,
)
"""Names of the types a column can be mapped to: Arrow's, and PostgreSQL's for times and moments."""


def kept_as(pg_type: PgType, typmod: int) -> Kept:
    """See `wallaby.kept_types`."""
    layout = layout_of(pg_type, typmod)
    stored = parquet_type(layout.arrow, json=is_json(arrow_field(Column("v", pg_type, typmod))))
    if layout.family is Family.DECIMAL:
        return Kept(f"decimal({layout.precision},{layout.scale})")
    name = stored.extension_name.removeprefix("arrow.") if isinstance(stored, pa.BaseExtensionType) else str(stored)
    return Kept(_PRINTED.get(name, name), reason=printed(layout))


_PRINTED: Final = {
    "date32[day]": "date",
    "time64[us]": "time",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamp with time zone",
    str(INTERVAL_TYPE): "struct of months, days, microseconds",
}


__all__ = ["TYPE_NAMES", "kept_as"]
