"""Every format gives back what was written, and notices when a file is not whole."""

from __future__ import annotations

import hashlib
import io
import random
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.wallaby.wire.batches import KINDS, content, log_batch, reread, tables, written
from wallaby.errors import ConfigError, DamagedFile, RowRefused
from wallaby.wire import COMPRESSIONS, ArrowLayout, Compression, ProtoPayload, WireFormat, WireOptions, read, writer

CASES = [(format, WireOptions(compression=codec)) for format, codecs in COMPRESSIONS.items() for codec in codecs]
CASES += [
    (WireFormat.ARROW, WireOptions(arrow_layout=ArrowLayout.FILE, compression=codec))
    for codec in COMPRESSIONS[WireFormat.ARROW]
]
CASES.append((WireFormat.PROTO, WireOptions(proto_payload=ProtoPayload.ARROW)))
each_case = pytest.mark.parametrize(
    ("format", "options"), CASES, ids=[f"{f}-{o.compression}-{o.arrow_layout}-{o.proto_payload}" for f, o in CASES]
)
LOG = log_batch().schema
ENDLESS = {(WireFormat.JSON, Compression.NONE), *((WireFormat.AVRO, codec) for codec in COMPRESSIONS[WireFormat.AVRO])}
"""What does not know where it ends: cut off between two rows or blocks it looks whole."""
each_format = pytest.mark.parametrize("format", list(COMPRESSIONS))
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def content_of(format: WireFormat, batches: list[pa.RecordBatch], options: WireOptions | None = None) -> str:
    """The content hash of the file of the batches, whose schema must be theirs."""
    schema = batches[0].schema
    found = reread(format, written(format, batches, options), schema=schema)
    for batch in found:
        assert batch.schema.equals(schema)
    return content([pa.RecordBatch.from_arrays([pa.array([], kind) for kind in schema.types], schema=schema), *found])


@pytest.mark.must_not_fail(12)
@pytest.mark.must_not_fail(13)
@each_format
@patient
@given(batches=tables())
def test_what_is_read_is_what_was_written(format: WireFormat, batches: list[pa.RecordBatch]) -> None:
    assert content_of(format, batches) == content(batches)


@each_format
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_nulls_stays_one(format: WireFormat, kind: str) -> None:
    field = KINDS[kind][0].with_name("v")
    batch = pa.RecordBatch.from_arrays([pa.nulls(3, field.type)], schema=pa.schema([field]))
    assert content_of(format, [batch]) == content([batch])


@each_case
def test_every_compression_is_undone(format: WireFormat, options: WireOptions) -> None:
    batches = [log_batch(), log_batch(0), log_batch(1000)]
    assert content_of(format, batches, options) == content(batches)


@each_format
def test_a_file_without_rows_can_be_read(format: WireFormat) -> None:
    assert sum(batch.num_rows for batch in reread(format, written(format, [log_batch(0)]), schema=LOG)) == 0


@each_format
def test_rows_without_columns_are_counted_or_refused(format: WireFormat) -> None:
    rows = pa.RecordBatch.from_struct_array(pa.array([{}] * 3, pa.struct([])))
    if format is WireFormat.PARQUET:
        with pytest.raises(RowRefused):
            written(format, [rows])
    else:
        assert sum(batch.num_rows for batch in reread(format, written(format, [rows]), schema=rows.schema)) == 3


@pytest.mark.parametrize("format", [WireFormat.PARQUET, WireFormat.AVRO, WireFormat.PROTO])
@pytest.mark.parametrize("name", ["__commit_lsn", "__ordinal", "__xid", "__committed_at"])
def test_a_null_where_none_may_be_is_refused(format: WireFormat, name: str) -> None:
    rows = log_batch(2)
    i = rows.schema.get_field_index(name)
    column = pa.array([None, rows[name][1].as_py()], rows.schema.field(i).type)
    odd = pa.RecordBatch.from_arrays([*rows.columns[:i], column, *rows.columns[i + 1 :]], schema=rows.schema)
    with pytest.raises(RowRefused):
        written(format, [odd])


@each_format
def test_as_many_columns_as_a_table_can_have(format: WireFormat) -> None:
    batch = pa.RecordBatch.from_arrays(
        [pa.array([i, None], pa.int32()) for i in range(1_600)], names=[f"column {i}" for i in range(1_600)]
    )
    assert content_of(format, [batch]) == content([batch])


@pytest.mark.must_not_fail(13)
@each_format
def test_large_texts_stay_whole(format: WireFormat) -> None:
    texts = pa.array(["x" * 5_000_000, None, "", 'ü"\\' * 1_000_000])
    batch = pa.RecordBatch.from_arrays([texts], names=["v"])
    assert content_of(format, [batch]) == content([batch])


@each_case
def test_a_file_cut_off_anywhere_gives_our_error(format: WireFormat, options: WireOptions) -> None:
    batches = [log_batch(3), log_batch(4)]
    whole = written(format, batches, options)
    rows = [row for batch in batches for row in batch.to_pylist()]
    may_look_whole = (format, options.codec(format)) in ENDLESS
    # An empty file is one of JSON without rows.
    for size in range(format is WireFormat.JSON, len(whole)):
        found: list[object] = []
        with suppress(DamagedFile) if may_look_whole else pytest.raises(DamagedFile):
            for batch in read(io.BytesIO(whole[:size]), format, schema=LOG):
                found += batch.to_pylist()
        assert found == rows[: len(found)], size


WATCHFUL = [
    *((WireFormat.PROTO, WireOptions(compression=codec)) for codec in COMPRESSIONS[WireFormat.PROTO]),
    (WireFormat.PROTO, WireOptions(proto_payload=ProtoPayload.ARROW)),
    (WireFormat.AVRO, WireOptions(compression=Compression.SNAPPY)),
    (WireFormat.JSON, WireOptions(compression=Compression.GZIP)),
]
"""What has a checksum over everything."""


@each_case
def test_a_changed_byte_gives_our_error_or_rows_of_the_same_columns(format: WireFormat, options: WireOptions) -> None:
    """Formats without checksums cannot know: the digest does (below). But nothing else than our error may come."""
    batches = [log_batch(3), log_batch(4)]
    whole, rows = written(format, batches, options), pa.Table.from_batches(batches)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        found = []
        with suppress(DamagedFile):
            for batch in read(io.BytesIO(damaged), format, schema=LOG):
                batch.validate(full=True)
                found.append(batch)
        if (format, options) in WATCHFUL and found:
            read_rows = pa.Table.from_batches(found)
            assert read_rows.equals(rows.slice(0, len(read_rows))), place


@each_format
@patient
@given(junk=st.binary(min_size=1, max_size=200))
@example(junk=b"{}\n")
def test_other_bytes_give_our_error(format: WireFormat, junk: bytes) -> None:
    with pytest.raises(DamagedFile):
        reread(format, junk, schema=LOG)


@each_format
def test_a_file_is_held_against_its_digest_before_a_row_is_given(format: WireFormat, tmp_path: Path) -> None:
    whole = written(format, [log_batch()])
    path = tmp_path / "file"
    path.write_bytes(whole)
    digest = hashlib.sha256(whole).hexdigest()
    assert content(list(read(path, format, schema=LOG, sha256=digest))) == content([log_batch()])
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DamagedFile, match="digest"):
        next(read(path, format, schema=LOG, sha256=digest))


@each_format
def test_an_unknown_compression_is_refused(format: WireFormat) -> None:
    [codec, *_] = [codec for codec in Compression if codec not in COMPRESSIONS[format]]
    with pytest.raises(ConfigError, match="compression"):
        writer(io.BytesIO(), log_batch().schema, format, WireOptions(compression=codec))


@each_format
def test_a_writer_holds_no_more_than_its_share(format: WireFormat) -> None:
    """The file grows with the rows: at the end, less than Parquet's gathered bytes are still to come."""
    dice = random.Random(7)
    made = writer(io.BytesIO(), pa.schema({"v": pa.binary()}), format)
    for _ in range(64):
        made.add(pa.RecordBatch.from_pydict({"v": [dice.randbytes(1 << 20)]}))
    written_before = made.bytes_written
    made.finish()
    assert written_before > made.bytes_written // 3


class _FullDisk(io.RawIOBase):
    """Takes so many bytes and no more."""

    def __init__(self, room: int) -> None:
        self.taken = b""
        self.room = room

    def write(self, data: object, /) -> int:
        part = bytes(memoryview(data))[:7]  # type: ignore[arg-type]  # a buffer
        if len(part) > self.room:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        self.taken += part
        return len(part)


@each_format
def test_a_sink_may_take_the_bytes_in_pieces(format: WireFormat) -> None:
    sink = _FullDisk(1 << 20)
    made = writer(sink, log_batch().schema, format)
    made.add(log_batch())
    made.finish()
    assert content(reread(format, sink.taken, schema=LOG)) == content([log_batch()])


@each_format
def test_a_full_disk_is_the_callers_error_and_the_writer_can_be_abandoned(format: WireFormat) -> None:
    sink = _FullDisk(1 << 20)
    made = writer(sink, log_batch().schema, format)
    sink.room = 0
    with pytest.raises(OSError, match="No space"):  # noqa: PT012  # when it is noticed is the format's affair
        made.add(log_batch(200_000))
        made.finish()
    before = sink.taken
    made.abandon()
    made.abandon()
    assert sink.taken == before


@each_format
def test_the_memory_of_a_batch_is_not_needed_afterwards(format: WireFormat) -> None:
    lent = bytearray(pa.array(range(10), pa.int64()).buffers()[1].to_pybytes())
    column = pa.Array.from_buffers(pa.int64(), 10, [None, pa.py_buffer(lent)])
    batch = pa.RecordBatch.from_arrays([column], names=["v"])
    file = io.BytesIO()
    made = writer(file, batch.schema, format)
    made.add(batch)
    lent[:] = bytes(80)
    made.finish()
    assert pa.Table.from_batches(reread(format, file.getvalue(), schema=batch.schema)).column(0).to_pylist() == list(
        range(10)
    )
