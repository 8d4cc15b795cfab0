"""Batches of the contract: what a record has in it, where files are cut into messages, what is refused."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]  # not in its stubs
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[attr-defined]  # not in its stubs

from tests.wallaby.wire.batches import content, log_batch, reread, written
from wallaby.errors import DamagedFile, RowRefused
from wallaby.lsn import Lsn
from wallaby.memory import POISON
from wallaby.testing.changes import Change, Outlier, change_table, delete, insert, table, update
from wallaby.transform.append import OUTLIERS_FIELD, append_rows, append_truncate
from wallaby.v1 import data_pb2, types_pb2
from wallaby.window import Barrier, BarrierKind
from wallaby.wire import Compression, ProtoPayload, WireFormat, WireOptions

ORDERS = table("public.orders", {"id": "int8", "note": "text", "day": "date"}, key=["id"])
PLAIN = WireOptions(compression=Compression.NONE, table=ORDERS.name, schema_version=3, key=("id",))


def log(*changes: Change) -> pa.RecordBatch:
    """An append log of orders."""
    [batch] = append_rows(ORDERS, change_table(ORDERS, changes), keep_outliers=True).combine_chunks().to_batches()
    return batch


def messages(file: bytes) -> Iterator[data_pb2.Batch]:
    at = 0
    while at < len(file):
        size, at = _DecodeVarint(file, at)
        yield data_pb2.Batch.FromString(file[at : at + size])
        at += size


def records(*batches: pa.RecordBatch, options: WireOptions = PLAIN) -> list[data_pb2.Record]:
    return [record for message in messages(written(WireFormat.PROTO, batches, options)) for record in message.records]


def test_an_insert_is_a_record_of_the_contract() -> None:
    [record] = records(log(insert(7, "a", None)))
    assert (record.table, record.operation, record.schema_version) == ("orders", "insert", 3)
    assert (record.key, record.after_json, record.before_json) == (b'{"id":7}', b'{"id":7,"note":"a","day":null}', b"")
    assert (record.commit_lsn, record.ordinal, record.xid) == (0x1000, 0, 700)
    assert record.committed_at_unix_micros // 1000 == record.timestamp_unix_millis == 1_700_000_000_000


@pytest.mark.must_not_fail(7)
def test_columns_that_were_not_sent_are_named_and_not_there() -> None:
    [record] = records(log(update(7, None, None, unchanged=["note"])))
    assert (list(record.unchanged), json.loads(record.after_json)) == (["note"], {"id": 7, "day": None})


def test_a_delete_has_its_key_only() -> None:
    [record] = records(log(delete(7)))
    assert (record.operation, record.before_json, record.after_json) == ("delete", b'{"id":7}', b"")
    assert record.key == b'{"id":7}'


def test_a_truncation_has_no_row() -> None:
    barrier = Barrier(
        BarrierKind.TRUNCATE, commit_lsn=Lsn(16), ordinal=0, xid=1, committed_at_us=0, tables=(ORDERS.name,), schemas=()
    )
    [batch] = append_truncate(ORDERS, barrier).to_batches()
    [record] = records(batch)
    assert (record.operation, record.key, record.before_json, record.after_json) == ("truncate", b"", b"", b"")


@pytest.mark.must_not_fail(12)
def test_values_arrow_cannot_hold_travel_as_text() -> None:
    [record] = records(log(insert(7, "a", Outlier("infinity"))))
    assert [(one.column, one.text) for one in record.outliers] == [("day", "infinity")]
    assert json.loads(record.after_json)["day"] is None


@pytest.mark.parametrize("payload", ProtoPayload)
@pytest.mark.parametrize("key", [(), ("id",)])
def test_a_log_is_read_as_it_was_written(payload: ProtoPayload, key: tuple[str, ...]) -> None:
    batch = log(
        insert(1, "a", Outlier("infinity")), update(1, None, None, unchanged=["note"]), delete(1), insert(2, None, 3)
    )
    file = written(WireFormat.PROTO, [batch], WireOptions(table=ORDERS.name, key=key, proto_payload=payload))
    [found] = reread(WireFormat.PROTO, file)
    assert found.schema.equals(batch.schema, check_metadata=True)
    assert found.equals(batch)


def test_every_batch_says_of_which_table_it_is() -> None:
    large = pa.RecordBatch.from_pydict({"id": [1, 2, 3], "note": ["x" * 700_000] * 3})
    first, second, third, last = messages(written(WireFormat.PROTO, [large], PLAIN))
    for batch in (first, second, third, last):
        assert (batch.schema.namespace, batch.schema.name, batch.schema.version) == ("public", "orders", 3)
        assert [column.name for column in batch.schema.columns] == ["id", "note"]
        assert batch.wire_format == types_pb2.WIRE_FORMAT_PROTO
    assert [len(batch.records) for batch in (first, second, third, last)] == [1, 1, 1, 0]
    assert [bool(batch.schema.arrow) for batch in (first, second, third, last)] == [True, False, False, False]
    assert [batch.is_last for batch in (first, second, third, last)] == [False, False, False, True]


def test_columns_are_described_by_postgresqls_names() -> None:
    [batch, _] = messages(written(WireFormat.PROTO, [log(insert(1, "a", None))], PLAIN))
    assert [(column.name, column.type) for column in batch.schema.columns] == [
        ("id", "int8"),
        ("note", "text"),
        ("day", "date"),
    ]


def test_an_arrow_payload_says_that_it_is_one() -> None:
    batch, _ = messages(
        written(
            WireFormat.PROTO,
            [log_batch()],
            WireOptions(compression=Compression.NONE, proto_payload=ProtoPayload.ARROW),
        )
    )
    assert (batch.wire_format, len(batch.records)) == (types_pb2.WIRE_FORMAT_ARROW, 0)
    assert content(list(pa.ipc.open_stream(batch.arrow_stream))) == content([log_batch()])


def test_what_the_contract_has_no_place_for_is_refused() -> None:
    rows = log_batch(1)
    empty = pa.array([[]], pa.list_(pa.string()))
    with pytest.raises(RowRefused, match="empty list"):
        written(WireFormat.PROTO, [rows.set_column(7, rows.schema.field(7), empty)])
    with pytest.raises(RowRefused, match="null in a list"):
        written(WireFormat.PROTO, [rows.set_column(7, rows.schema.field(7), pa.array([[None]], pa.list_(pa.string())))])
    with pytest.raises(RowRefused, match="operation"):
        written(WireFormat.PROTO, [rows.set_column(2, rows.schema.field(2), pa.array(["x"]))])


def test_outliers_without_a_text_are_refused() -> None:
    rows = log_batch(1)
    odd = pa.array([[{"column": "id", "text": None}]], OUTLIERS_FIELD.type)
    with pytest.raises(RowRefused, match="null in a list"):
        written(WireFormat.PROTO, [rows.append_column(OUTLIERS_FIELD, odd)])


def test_no_byte_is_read_before_it_is_written() -> None:
    plain = written(WireFormat.PROTO, [log_batch(50)], PLAIN)
    token = POISON.set(lambda octets: octets.fill(0xA5))
    try:
        assert written(WireFormat.PROTO, [log_batch(50)], PLAIN) == plain
    finally:
        POISON.reset(token)


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.ClearField("crc32"),
        lambda batch: batch.records[0].__setattr__("after_json", b'{"other":1}'),
        lambda batch: batch.records[0].__setattr__("operation", "merge"),
    ],
    ids=["no checksum", "another column", "another operation"],
)
def test_a_batch_that_no_writer_leaves_is_none(change: Callable[[data_pb2.Batch], None]) -> None:
    head, _ = messages(written(WireFormat.PROTO, [log_batch(1)], PLAIN))
    change(head)
    has_checksum = head.HasField("crc32")
    head.ClearField("crc32")
    body = head.SerializeToString()
    checksum = data_pb2.Batch(crc32=zlib.crc32(body)) if has_checksum else data_pb2.Batch()
    body += checksum.SerializeToString()
    with pytest.raises(DamagedFile):
        reread(WireFormat.PROTO, _VarintBytes(len(body)) + body)
