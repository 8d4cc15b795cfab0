"""Hand-made streams in, segments and barriers out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from tests.wallaby.pgoutput.streams import (
    ITEMS,
    ORDER_COLUMNS,
    ORDERS,
    batches,
    decode,
    int4,
    items,
    merged,
    orders,
    positions,
    resolve,
    rows,
    transaction,
    varied_stream,
)
from wallaby.errors import BinaryUnsupported, DecodeError, Retry
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.decoder import Decoder, LogicalMessage, Segment, drop_applied
from wallaby.schema import TableName, TableSchema
from wallaby.testing import pgoutput_writer as w
from wallaby.window import Barrier, BarrierKind

POINT_OID = 600
INSERT = w.insert(ORDERS, [int4(1), b"one", "1.50"])


def test_an_insert_carries_its_transaction_and_no_old_row() -> None:
    [segment] = decode(transaction(0x100, orders(), INSERT, xid=42))
    assert isinstance(segment, Segment)
    assert (segment.upto, segment.rows, segment.ends_transaction) == (Position(Lsn(0x130)), 1, True)
    assert segment.committed_at_us == 0x100 * 1_000_000
    [row] = rows([segment])
    assert row.pop("committed_at").timestamp() == 0x100
    assert row == {
        "op": ord("i"),
        "commit_lsn": 0x100,
        "ordinal": 0,
        "xid": 42,
        "unchanged": None,
        "before": None,
        "after": {"id": 1, "note": "one", "total": Decimal("1.50")},
        "outliers": None,
    }


@pytest.mark.must_not_fail(8)
def test_a_changed_key_arrives_with_the_old_key_only() -> None:
    update = w.update(ORDERS, [int4(2), b"x", None], key=[int4(1), None, None])
    [row] = rows(decode(transaction(0x100, orders(), update)))
    assert (row["op"], row["before"]) == (ord("u"), {"id": 1})
    assert row["after"] == {"id": 2, "note": "x", "total": None}


def test_an_update_of_other_columns_has_no_old_row() -> None:
    [row] = rows(decode(transaction(0x100, orders(), w.update(ORDERS, [int4(2), b"x", None]))))
    assert row["before"] is None


@pytest.mark.must_not_fail(9)
def test_a_delete_has_an_old_key_and_no_new_row() -> None:
    [row] = rows(decode(transaction(0x100, orders(), w.delete(ORDERS, key=[int4(9), None, None]))))
    assert (row["op"], row["before"], row["after"]) == (ord("d"), {"id": 9}, None)


@pytest.mark.must_not_fail(9)
def test_identity_full_without_a_key_carries_the_whole_old_row() -> None:
    columns = [(name, oid, typmod, True) for name, oid, typmod, _ in ORDER_COLUMNS]
    old: list[w.Cell] = [int4(1), b"old", "2.00"]
    [row] = rows(decode(transaction(0x100, orders(columns, "f"), w.delete(ORDERS, old=old))))
    assert row["before"] == {"id": 1, "note": "old", "total": Decimal("2.00")}


@pytest.mark.must_not_fail(9)
def test_identity_full_with_a_key_carries_the_key_of_the_old_row() -> None:
    update = w.update(ORDERS, [int4(2), b"new", None], old=[int4(1), b"old", None])
    [row] = rows(decode(transaction(0x100, orders(identity="f"), update)))
    assert row["before"] == {"id": 1}


@pytest.mark.must_not_fail(7)
def test_an_unchanged_toasted_value_is_listed_and_not_data() -> None:
    update = w.update(ORDERS, [int4(2), w.UNCHANGED, w.UNCHANGED])
    [first, second] = rows(decode(transaction(0x100, orders(), INSERT, update)))
    assert first["unchanged"] is None
    assert second["unchanged"] == [1, 2]
    assert second["after"] == {"id": 2, "note": None, "total": None}


@pytest.mark.must_not_fail(7)
def test_a_full_old_row_supplies_what_was_not_sent_again() -> None:
    update = w.update(ORDERS, [int4(2), w.UNCHANGED, None], old=[int4(2), b"kept", "1.00"])
    [row] = rows(decode(transaction(0x100, orders(identity="f"), update)))
    assert row["unchanged"] is None
    assert row["after"]["note"] == "kept"


def test_an_empty_transaction_moves_the_position() -> None:
    [segment] = decode(transaction(0x100))
    assert isinstance(segment, Segment)
    assert (segment.rows, segment.parts, segment.upto) == (0, (), Position(Lsn(0x130)))


def test_a_feed_is_cut_at_its_last_commit() -> None:
    payloads = [*transaction(0x100, orders(), INSERT), *transaction(0x200, INSERT, INSERT, commit=False)]
    first, second = decode(payloads)
    assert isinstance(first, Segment)
    assert isinstance(second, Segment)
    assert (first.rows, first.ends_transaction, first.upto) == (1, True, Position(Lsn(0x130)))
    assert (second.rows, second.ends_transaction, second.upto) == (2, False, Position(Lsn(0x200), 2))


def test_the_open_transaction_continues_in_the_next_feed() -> None:
    decoder = Decoder(resolve)
    opened = transaction(0x200, orders(), INSERT, commit=False, xid=77)
    closed = [w.xlog(INSERT, 0x200), w.xlog(w.commit(0x200, 0x230), 0x200)]
    events = decode(opened, decoder)
    assert decoder.in_transaction
    events += decode(closed, decoder)
    assert not decoder.in_transaction
    assert positions(events) == [Position(Lsn(0x200), 1), Position(Lsn(0x230))]
    assert [(row["xid"], row["commit_lsn"], row["ordinal"]) for row in rows(events)] == [(77, 0x200, 0), (77, 0x200, 1)]


def test_ordinals_count_over_all_tables() -> None:
    item = w.insert(ITEMS, [int4(1), None, b"\0\1"])
    events = decode(transaction(0x100, orders(), items(), item, INSERT, item, INSERT))
    assert [row["ordinal"] for row in rows(events, "items")] == [0, 2]
    assert [row["ordinal"] for row in rows(events, "orders")] == [1, 3]


@pytest.mark.must_not_fail(10)
def test_a_truncate_is_a_barrier_and_takes_an_ordinal() -> None:
    truncate = w.truncate([ORDERS, ITEMS], cascade=True, restart_identity=True)
    before, barrier, after = decode(transaction(0x100, orders(), items(), INSERT, truncate, INSERT, xid=5))
    assert isinstance(barrier, Barrier)
    assert (barrier.kind, barrier.commit_lsn, barrier.ordinal, barrier.xid) == (BarrierKind.TRUNCATE, 0x100, 1, 5)
    assert barrier.tables == (TableName("public", "orders"), TableName("public", "items"))
    assert (barrier.cascade, barrier.restart_identity) == (True, True)
    assert positions([before, after]) == [Position(Lsn(0x100), 1), Position(Lsn(0x130))]
    assert [row["ordinal"] for row in rows([after])] == [2]


@pytest.mark.must_not_fail(11)
def test_a_changed_shape_is_a_barrier_between_old_and_new_rows() -> None:
    wider = [*ORDER_COLUMNS, ("extra", 23, -1, False)]
    wide = w.insert(ORDERS, [int4(2), b"two", None, int4(9)])
    old, barrier, new = decode(transaction(0x100, orders(), INSERT, orders(wider), wide))
    assert isinstance(barrier, Barrier)
    assert (barrier.kind, barrier.ordinal) == (BarrierKind.SCHEMA, 1)
    assert [len(schema.columns) for schema in barrier.schemas] == [4]
    assert isinstance(old, Segment)
    assert isinstance(new, Segment)
    assert [schema.version for schema, _ in (*old.parts, *new.parts)] == [1, 2]
    assert rows([new])[0]["after"]["extra"] == 9
    assert [row["ordinal"] for row in rows([new])] == [1]


@pytest.mark.must_not_fail(11)
def test_a_table_created_again_under_the_old_name_is_a_barrier() -> None:
    again = w.relation(16999, "public", "orders", ORDER_COLUMNS[:2])
    events = decode([*transaction(0x100, orders(), INSERT), *transaction(0x200, again)])
    assert [event.kind for event in events if isinstance(event, Barrier)] == [BarrierKind.SCHEMA]


def test_a_repeated_relation_is_nothing() -> None:
    [segment] = decode(transaction(0x100, orders(), INSERT, orders(), INSERT))
    assert isinstance(segment, Segment)
    assert segment.rows == 2


@pytest.mark.must_not_fail(11)
def test_a_column_made_again_under_its_name_is_a_new_shape_though_the_message_is_the_same() -> None:
    numbers = iter([2, 2, 3, 3])

    def numbered(relation: object) -> TableSchema:
        schema = resolve(relation)  # type: ignore[arg-type]  # the protocol's own type
        last = replace(schema.columns[-1], attnum=next(numbers))
        return replace(schema, columns=(*schema.columns[:-1], last))

    messages = [part for _ in range(4) for part in (orders(), INSERT)]
    before, barrier, after = decode(transaction(0x100, *messages), Decoder(numbered))
    assert isinstance(before, Segment)
    assert isinstance(barrier, Barrier)
    assert isinstance(after, Segment)
    assert (before.rows, after.rows) == (2, 2)
    assert barrier.kind is BarrierKind.SCHEMA
    assert [schema.version for schema in barrier.schemas] == [2]


def test_a_catalog_that_disagrees_with_the_stream_is_refused() -> None:
    def wrong(relation: object) -> TableSchema:
        schema = resolve(relation)  # type: ignore[arg-type]  # the protocol's own type
        return replace(schema, columns=schema.columns[::-1])

    with pytest.raises(DecodeError, match="disagree"):
        decode(transaction(0x100, orders(), INSERT), Decoder(wrong))


def test_logical_messages_keep_their_place() -> None:
    message = w.message("mark", b"\1\2", 0x90, transactional=True)
    first, event, last = decode(transaction(0x100, orders(), INSERT, message, INSERT))
    assert event == LogicalMessage("mark", b"\1\2", Lsn(0x90), transactional=True)
    assert positions([first, last]) == [Position(Lsn(0x100), 1), Position(Lsn(0x130))]


@pytest.mark.must_not_fail(17)
def test_keepalives_tell_the_end_of_wal_and_ask_for_replies() -> None:
    decoder = Decoder(resolve)
    assert decode([w.keepalive(0x500)], decoder) == []
    assert (decoder.wal_end, decoder.keepalive, decoder.reply_requested) == (0x500, 0x500, False)
    decode([w.keepalive(0xFFFFFFFF00000000, reply_requested=True), *transaction(0x600)], decoder)
    assert (decoder.wal_end, decoder.keepalive) == (Lsn(0xFFFFFFFF00000000), Lsn(0xFFFFFFFF00000000))
    assert decoder.reply_requested
    decoder.reply_requested = False
    assert not decoder.reply_requested


@pytest.mark.must_not_fail(12)
def test_outliers_of_old_and_new_rows_are_told_apart() -> None:
    columns = [("at", 1082, -1, True), ("until", 1082, -1, False)]
    infinity, first = int4(2**31 - 1), int4(0)
    update = w.update(ORDERS, [first, "infinity"], key=[infinity, None])
    [row] = rows(decode(transaction(0x100, orders(columns), update)))
    assert row["outliers"] == [{"column": 1, "text": "infinity"}, {"column": 0x8000, "text": "infinity"}]
    assert row["before"] == {"at": None}
    assert row["after"]["until"] is None


def test_binary_and_text_cells_may_share_a_column() -> None:
    inserts = [w.insert(ORDERS, [cell, "x", None]) for cell in (int4(1), "2", None, int4(3), "4")]
    assert [row["after"]["id"] for row in rows(decode(transaction(0x100, orders(), *inserts)))] == [1, 2, None, 3, 4]


def test_a_binary_value_of_a_type_without_a_binary_decoder_asks_for_text() -> None:
    """A column of such a type may appear while the stream runs in binary; the next start chooses text."""
    columns = [*ORDER_COLUMNS[:1], ("place", POINT_OID, -1, False)]
    insert = w.insert(ORDERS, [int4(1), bytes(16)])
    with pytest.raises(BinaryUnsupported, match="no binary form") as caught:
        decode(transaction(0x100, orders(columns), insert))
    assert caught.value.retry is Retry.NOW
    assert caught.value.where["column"] == "place"


@pytest.mark.must_not_fail(13)
def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DecodeError, match="UTF-8") as caught:
        decode(transaction(0x100, orders(), w.insert(ORDERS, [int4(1), b"\xff\xfe", None])))
    assert caught.value.where["column"] == "note"


@pytest.mark.must_not_fail(14)
def test_many_rows_in_one_transaction_and_many_transactions_fit() -> None:
    events = decode(transaction(0x100, orders(), *[INSERT] * 20_000))
    assert sum(batch.num_rows for batch in batches(events, "orders")) == 20_000
    many = [payload for n in range(10_000) for payload in transaction(0x1000 + n * 0x40)]
    [segment] = decode(many)
    assert isinstance(segment, Segment)
    assert segment.transactions == 10_000


@pytest.mark.must_not_fail(13)
def test_a_value_of_100_megabytes_arrives_whole() -> None:
    note = b"0123456789" * 10_000_000
    [batch] = batches(decode(transaction(0x100, orders(), w.insert(ORDERS, [int4(1), note, None]))), "orders")
    assert batch.column("after").field("note")[0].as_buffer().to_pybytes() == note


def test_many_tables_in_one_feed() -> None:
    count = 300
    relations = [w.relation(20_000 + 64 * n, "public", f"t{n}", ORDER_COLUMNS) for n in range(count)]
    inserts = [w.insert(20_000 + 64 * (n % count), [int4(n), None, None]) for n in range(3 * count)]
    events = decode(transaction(0x100, *relations, *inserts))
    for n in range(count):
        assert [row["after"]["id"] for row in rows(events, f"t{n}")] == [n, n + count, n + 2 * count]


def test_a_table_without_columns_has_rows() -> None:
    empty = w.relation(ORDERS, "public", "orders", [])
    [segment] = decode(transaction(0x100, empty, w.insert(ORDERS, [])))
    assert isinstance(segment, Segment)
    assert segment.rows == 1
    assert segment.parts[0][1].column("after").null_count == 0


@pytest.mark.must_not_fail(13)
def test_any_way_to_cut_the_stream_gives_the_same_changes() -> None:
    payloads = varied_stream(seed=1)
    data = w.frames(payloads)
    whole = merged(Decoder(resolve).feed(data, 0, len(data))[1])
    rng = np.random.default_rng(2)
    for pieces in (2, 7, 60, len(data) // 3):
        cuts = [0, *np.sort(rng.integers(0, len(data), pieces)).tolist(), len(data)]
        decoder = Decoder(resolve)
        at, events = 0, []
        for cut in cuts[1:]:
            consumed, found = decoder.feed(data, at, max(cut, at))
            at += consumed
            events += found
        assert at == len(data)
        assert merged(events) == whole


def test_positions_of_segments_only_move_forward() -> None:
    payloads = varied_stream(seed=3)
    decoder = Decoder(resolve)
    found = [position for payload in payloads for position in positions(decode([payload], decoder))]
    assert found == sorted(found)


@pytest.mark.must_not_fail(2)
def test_rows_already_applied_are_dropped_at_every_position() -> None:
    payloads = [
        *transaction(0x100, orders(), INSERT, INSERT),
        *transaction(0x130, INSERT, w.truncate([ORDERS]), INSERT),
        *transaction(0x200, INSERT),
    ]
    events = decode(payloads)
    everything = [(row["commit_lsn"], row["ordinal"]) for row in rows(events)]
    assert everything == [(0x100, 0), (0x100, 1), (0x130, 0), (0x130, 2), (0x200, 0)]
    for after, kept in (
        (Position(Lsn(0)), 5),
        (Position(Lsn(0), 3), 5),
        (Position(Lsn(0x100)), 5),
        (Position(Lsn(0x100), 1), 4),
        (Position(Lsn(0x130)), 3),
        (Position(Lsn(0x130), 2), 2),
        (Position(Lsn(0x160)), 1),
        (Position(Lsn(0x230)), 0),
    ):
        found = [drop_applied(batch, after) for batch in batches(events, "orders")]
        assert [(row["commit_lsn"], row["ordinal"]) for b in found for row in b.to_pylist()] == everything[5 - kept :]


def test_nothing_to_drop_costs_no_copy() -> None:
    [batch] = batches(decode(transaction(0x100, orders(), INSERT)), "orders")
    assert drop_applied(batch, Position(Lsn(0x50))) is batch
    assert isinstance(batch, pa.RecordBatch)
