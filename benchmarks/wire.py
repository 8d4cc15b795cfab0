"""What does it cost to put rows of a log into each format, and to read them again?

Append-log rows in memory, in batches of 65,536, encoded into memory: narrow (two numbers and a short text beside the
log's own six columns) and wide (40 mixed columns beside them). Every format with its default compression and with none.
The peers write the same rows the way their manuals show: pyarrow's own writers, fastavro's and Protobuf's a row at a
time, `json.dumps` a row at a time. Rows become Python values outside of the peers' measured time.

All rates, ratios and spreads are of CPU seconds of this process. Row-at-a-time peers write a twentieth of the rows.
Reading is measured for ours only: it is for consumers, and four of the formats are read through Python values.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from benchmarks.measure import Line, Run, main, summarise
from wallaby.schema import TableName
from wallaby.transform.append import LOG_FIELDS
from wallaby.v1 import data_pb2
from wallaby.wire import COMPRESSIONS, Compression, ProtoPayload, WireFormat, WireOptions, read, writer
from wallaby.wire.avro_schema import avro_schema

_BATCH_ROWS: Final = 65_536
_PYTHON_SHARE: Final = 20
"""Peers of a row at a time write so much less: the rate is the same."""
_TABLE: Final = TableName("public", "orders")

Encode = Callable[[pa.RecordBatch, int], int]
"""Writes so many rows of a batch, repeated, and returns the bytes."""


@dataclass(frozen=True, slots=True)
class _Subject:
    name: str
    subject: str
    encode: Encode
    share: int = 1

    def rows(self, wanted: int) -> int:
        """Rows of a run."""
        return max(wanted // self.share, _BATCH_ROWS // _PYTHON_SHARE)


def measure(words: argparse.Namespace) -> Iterator[Line]:
    """Both shapes, all subjects by turns."""
    for shape, batch in (("narrow", _batch(0)), ("wide", _batch(40))):
        rows = words.rows if shape == "narrow" else words.rows // 8
        subjects = list(_subjects(batch))
        runs: dict[str, list[tuple[Run, int]]] = {}
        for subject in subjects:
            subject.encode(batch, subject.rows(rows) if isinstance(subject.encode, _Reader) else 100)
        for _ in range(words.runs):
            for subject in subjects:
                found = _run(subject, batch, subject.rows(rows))
                runs.setdefault(f"{subject.name} {subject.subject}", []).append(found)
        peers: dict[str, Line] = {}
        for subject in subjects:
            measured = runs[f"{subject.name} {subject.subject}"]
            line = _line(f"{shape}: {subject.name}", subject.subject, measured, peers.get(subject.name))
            peers.setdefault(subject.name, line)
            yield line


def _line(name: str, subject: str, measured: list[tuple[Run, int]], peer: Line | None) -> Line:
    runs = [run for run, _ in measured]
    line = summarise(name, subject, runs, is_peer=peer is None)
    rates = [run.rows / run.cpu_s for run in runs]
    size = measured[0][1] / runs[0].rows
    return replace(
        line,
        ratio=1.0 if peer is None else line.rows_per_cpu_s / peer.rows_per_cpu_s,
        spread=(max(rates) - min(rates)) / line.rows_per_cpu_s,
        note=f"{1e6 / line.rows_per_cpu_s:.2f} us a row (best {1e6 / max(rates):.2f}), {size:.0f} bytes a row",
        extra={**line.extra, "best_rows_per_cpu_s": max(rates), "bytes_per_row": size},
    )


def _run(subject: _Subject, batch: pa.RecordBatch, rows: int) -> tuple[Run, int]:
    wall, cpu = time.perf_counter(), time.process_time()
    size = subject.encode(batch, rows)
    return Run(rows=rows, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu), size


def _subjects(batch: pa.RecordBatch) -> Iterator[_Subject]:
    """The peer first, then ours, per format."""
    python = batch.slice(0, _BATCH_ROWS // _PYTHON_SHARE).to_pylist()
    yield _Subject("arrow", "pyarrow", _pyarrow_ipc)
    yield from _ours(WireFormat.ARROW, "arrow")
    yield _Subject("parquet", "pyarrow", _pyarrow_parquet)
    yield from _ours(WireFormat.PARQUET, "parquet")
    yield _Subject("avro", "fastavro", _fastavro(batch.schema, python), _PYTHON_SHARE)
    yield from _ours(WireFormat.AVRO, "avro")
    yield _Subject("json", "json.dumps", _dumps(python), _PYTHON_SHARE)
    yield from _ours(WireFormat.JSON, "json")
    yield _Subject("proto", "protobuf", _protobuf(python), _PYTHON_SHARE)
    yield from _ours(WireFormat.PROTO, "proto")
    yield _Subject(
        "proto", "wallaby, Arrow inside", _writes(WireFormat.PROTO, WireOptions(proto_payload=ProtoPayload.ARROW))
    )


def _ours(format: WireFormat, name: str) -> Iterator[_Subject]:
    for codec in (Compression.NONE, COMPRESSIONS[format][0]):
        yield _Subject(name, f"wallaby, {codec}", _writes(format, WireOptions(compression=codec, table=_TABLE)))
    share = 1 if format in (WireFormat.ARROW, WireFormat.PARQUET) else _PYTHON_SHARE
    yield _Subject(name, "wallaby, read", _Reader(format), share)


def _writes(format: WireFormat, options: WireOptions) -> Encode:
    def encode(batch: pa.RecordBatch, rows: int) -> int:
        sink = io.BytesIO()
        made = writer(sink, batch.schema, format, replace(options, key=("c0",)))
        for piece in _pieces(batch, rows):
            made.add(piece)
        made.finish()
        return made.bytes_written

    return encode


class _Reader:
    """Reads a file; the first call, which is not measured, writes it."""

    def __init__(self, format: WireFormat) -> None:
        self._format = format
        self._files: dict[int, bytes] = {}

    def __call__(self, batch: pa.RecordBatch, rows: int) -> int:
        if rows not in self._files:
            sink = io.BytesIO()
            made = writer(sink, batch.schema, self._format)
            for piece in _pieces(batch, rows):
                made.add(piece)
            made.finish()
            self._files[rows] = sink.getvalue()
        found = sum(part.num_rows for part in read(io.BytesIO(self._files[rows]), self._format, schema=batch.schema))
        assert found == rows, (found, rows)
        return len(self._files[rows])


def _pieces(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    while rows > 0:
        yield batch.slice(0, min(rows, batch.num_rows))
        rows -= batch.num_rows


def _pyarrow_ipc(batch: pa.RecordBatch, rows: int) -> int:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        for piece in _pieces(batch, rows):
            stream.write_batch(piece)
    return sink.tell()


def _pyarrow_parquet(batch: pa.RecordBatch, rows: int) -> int:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, batch.schema, compression="none") as file:
        for piece in _pieces(batch, rows):
            file.write_batch(piece)
    return sink.tell()


def _fastavro(schema: pa.Schema, python: list[dict[str, Any]]) -> Encode:
    parsed = fastavro.parse_schema(avro_schema(schema, _TABLE))

    def encode(_: pa.RecordBatch, rows: int) -> int:
        sink = io.BytesIO()
        fastavro.writer(sink, parsed, _repeated(python, rows))
        return sink.tell()

    return encode


def _dumps(python: list[dict[str, Any]]) -> Encode:
    def encode(_: pa.RecordBatch, rows: int) -> int:
        sink = io.BytesIO()
        for row in _repeated(python, rows):
            sink.write(json.dumps(row, default=str).encode() + b"\n")
        return sink.tell()

    return encode


def _protobuf(python: list[dict[str, Any]]) -> Encode:
    own = [field.name for field in LOG_FIELDS]

    def encode(_: pa.RecordBatch, rows: int) -> int:
        batch = data_pb2.Batch()
        for row in _repeated(python, rows):
            after = {name: value for name, value in row.items() if name not in own}
            batch.records.add(
                table="orders",
                operation="insert",
                after_json=json.dumps(after, default=str).encode(),
                commit_lsn=row["__commit_lsn"],
                ordinal=row["__ordinal"],
                xid=row["__xid"],
            )
        return len(batch.SerializeToString())

    return encode


def _repeated(python: list[dict[str, Any]], rows: int) -> Iterator[dict[str, Any]]:
    while rows > 0:
        yield from python[:rows]
        rows -= len(python)


def _batch(columns: int) -> pa.RecordBatch:
    """Rows of a log: with 0 columns the narrow shape, else so many mixed ones."""
    random = np.random.default_rng(7)
    rows = _BATCH_ROWS
    texts = pa.array([f"a note of {number}" for number in range(1_000)]).take(pa.array(random.integers(0, 1_000, rows)))
    moments = pa.array(1_700_000_000_000_000 + random.integers(0, 10**12, rows), pa.timestamp("us", "UTC"))
    kinds: list[Callable[[], pa.Array]] = [
        lambda: pa.array(random.integers(-(2**40), 2**40, rows)),
        lambda: texts,
        lambda: pa.array(random.integers(0, 100_000, rows), pa.int32()),
        lambda: pa.array(random.random(rows)),
        lambda: moments,
        lambda: pa.array(random.integers(0, 2, rows).astype(np.bool_)),
        lambda: pa.array(random.integers(0, 10**9, rows)).cast(pa.decimal128(21, 2)),
        lambda: pa.array(random.integers(0, 20_000, rows).astype(np.int32)).view(pa.date32()),
    ]
    arrays = [kinds[i % len(kinds)]() for i in range(columns or 3)]
    own = [
        pa.array(["i"] * rows),
        pa.array(np.arange(rows, dtype=np.uint64) + 2**33),
        pa.array(np.arange(rows, dtype=np.uint64)),
        pa.array(np.full(rows, 70_000, np.uint32)),
        moments,
        pa.nulls(rows, LOG_FIELDS[5].type),
    ]
    fields = [pa.field(f"c{i}", array.type) for i, array in enumerate(arrays)]
    return pa.RecordBatch.from_arrays([*arrays, *own], schema=pa.schema([*fields, *LOG_FIELDS]))


if __name__ == "__main__":
    raise SystemExit(main(measure, __doc__))
