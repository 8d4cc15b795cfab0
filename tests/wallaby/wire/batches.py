"""Record batches of every type wallaby makes, drawn at random, and files in memory."""

from __future__ import annotations

import decimal
import io
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st

from wallaby.content import ContentHash
from wallaby.transform.append import LOG_FIELDS, LOG_OUTLIER_TYPE
from wallaby.wire import WireFormat, WireOptions, read, writer

_JSON: Final = {b"wallaby.type": b"jsonb"}
_TEXT: Final = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from('\x00\x1f"\\\n\r\t{},= ')), max_size=12)
_MICROSECONDS: Final = st.integers(-(2**63), 2**63 - 1)


def _scaled(precision: int, scale: int) -> st.SearchStrategy[decimal.Decimal]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda value: decimal.Decimal(value).scaleb(-scale, _WIDE))


_WIDE: Final = decimal.Context(prec=80)
_INTERVALS: Final = st.tuples(
    st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63) // 1000 + 1, 2**63 // 1000)
).map(lambda parts: pa.MonthDayNano([parts[0], parts[1], parts[2] * 1000]))

KINDS: Final[dict[str, tuple[pa.Field, st.SearchStrategy[Any]]]] = {
    "bool": (pa.field("", pa.bool_()), st.booleans()),
    "int2": (pa.field("", pa.int16()), st.integers(-(2**15), 2**15 - 1)),
    "int4": (pa.field("", pa.int32()), st.integers(-(2**31), 2**31 - 1)),
    "int8": (pa.field("", pa.int64()), st.integers(-(2**63), 2**63 - 1)),
    "oid": (pa.field("", pa.uint32()), st.integers(0, 2**32 - 1)),
    "uint8": (pa.field("", pa.uint64()), st.integers(0, 2**63 - 1)),
    "float4": (pa.field("", pa.float32()), st.floats(width=32)),
    "float8": (pa.field("", pa.float64()), st.floats(width=64)),
    "text": (pa.field("", pa.string()), _TEXT),
    "jsonb": (pa.field("", pa.string(), metadata=_JSON), _TEXT),
    "bytea": (pa.field("", pa.binary()), st.binary(max_size=12)),
    "uuid": (pa.field("", pa.binary(16)), st.binary(min_size=16, max_size=16)),
    "date": (pa.field("", pa.date32()), st.integers(-(2**31) + 1, 2**31 - 1)),
    "time": (pa.field("", pa.time64("us")), st.integers(0, 86_399_999_999)),
    "timestamp": (pa.field("", pa.timestamp("us")), _MICROSECONDS),
    "timestamptz": (pa.field("", pa.timestamp("us", "UTC")), _MICROSECONDS),
    "numeric_12_2": (pa.field("", pa.decimal128(12, 2)), _scaled(12, 2)),
    "numeric_38_10": (pa.field("", pa.decimal128(38, 10)), _scaled(38, 10)),
    "numeric_18_18": (pa.field("", pa.decimal128(18, 18)), _scaled(18, 18)),
    "numeric_76_0": (pa.field("", pa.decimal256(76, 0)), _scaled(76, 0)),
    "numeric_60_40": (pa.field("", pa.decimal256(60, 40)), _scaled(60, 40)),
    "interval": (pa.field("", pa.month_day_nano_interval()), _INTERVALS),
    "hstore": (
        pa.field("", pa.map_(pa.string(), pa.string())),
        st.dictionaries(_TEXT, st.none() | _TEXT, max_size=3).map(lambda pairs: list(pairs.items())),
    ),
    "vector": (pa.field("", pa.list_(pa.float32())), st.lists(st.floats(width=32), max_size=3)),
    "outliers": (
        pa.field("", LOG_OUTLIER_TYPE),
        st.lists(st.fixed_dictionaries({"column": _TEXT, "text": _TEXT}), max_size=2),
    ),
}
"""A field (without its name) and its values, for every Arrow type of a log."""
for _name, (_field, _values) in list(KINDS.items()):
    if _name not in ("hstore", "vector", "outliers"):
        KINDS[f"{_name}[]"] = (
            pa.field("", pa.list_(_field.type), metadata=_field.metadata),
            st.lists(st.none() | _values, max_size=3),
        )


@st.composite
def tables(draw: st.DrawFn, kinds: Sequence[str] = tuple(KINDS)) -> list[pa.RecordBatch]:
    """Some batches of one schema, empty ones among them."""
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=6))
    fields = [KINDS[kind][0].with_name(f'c{i} ü"') for i, kind in enumerate(chosen)]
    counts = draw(st.lists(st.integers(0, 9), max_size=3))
    batches = []
    for count in counts:
        arrays = [
            pa.array(draw(st.lists(st.none() | KINDS[kind][1], min_size=count, max_size=count)), field.type)
            for kind, field in zip(chosen, fields, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        # A slice: buffers that begin elsewhere are where encoders err.
        batches.append(batch.slice(draw(st.integers(0, 2))))
    return batches or [_empty(pa.schema(fields))]


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def log_batch(rows: int = 5) -> pa.RecordBatch:
    """Rows of an append log with some columns."""
    fields = [pa.field("id", pa.int64()), pa.field("note", pa.string()), *LOG_FIELDS]
    numbers = list(range(rows))
    values = {
        "id": numbers,
        "note": [None if n % 3 == 2 else f"note {n}" for n in numbers],
        "__op": ["riud"[n % 4] for n in numbers],
        "__commit_lsn": [4096 + n for n in numbers],
        "__ordinal": numbers,
        "__xid": [700 + n for n in numbers],
        "__committed_at": [1_700_000_000_000_000 + n for n in numbers],
        "__unchanged": [["note"] if n % 3 == 2 else None for n in numbers],
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(values[field.name], field.type) for field in fields], schema=pa.schema(fields)
    )


def written(format: WireFormat, batches: Sequence[pa.RecordBatch], options: WireOptions | None = None) -> bytes:
    """The file of the batches."""
    file = io.BytesIO()
    made = writer(file, batches[0].schema, format, options)
    for batch in batches:
        made.add(batch)
    made.finish()
    assert made.bytes_written == len(file.getvalue())
    return file.getvalue()


def content(batches: Sequence[pa.RecordBatch]) -> str:
    """The content hash of all rows."""
    found = ContentHash()
    for batch in batches:
        found.add(pa.Table.from_batches([batch]))
    return found.hexdigest()


def reread(format: WireFormat, file: bytes, **options: Any) -> list[pa.RecordBatch]:
    """The batches of a file."""
    return list(read(io.BytesIO(file), format, **options))
