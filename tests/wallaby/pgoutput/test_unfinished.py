"""Streamed and prepared transactions: only what commits comes out, once, in the order of the commits."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest

from tests.wallaby.pgoutput.conftest import MakeSpool
from tests.wallaby.pgoutput.mixture import end, insert, mixture, run
from tests.wallaby.pgoutput.streams import ORDERS, batches, decode, int4, items, merged, orders, resolve, rows, waiting
from tests.wallaby.pgoutput.streams import transaction as plain
from wallaby.errors import DecodeError, StreamingUnfit
from wallaby.lsn import Lsn, Position
from wallaby.pgoutput.decoder import Decoder, Event, Segment
from wallaby.pgoutput.messages import Committed, Prepared, RolledBack
from wallaby.testing import pgoutput_writer as w
from wallaby.window import Barrier, BarrierKind

pytestmark = pytest.mark.must_not_fail(14)

WIDER = [("id", 23, -1, True), ("note", 25, -1, False), ("total", 1700, -1, False), ("extra", 25, -1, False)]


def keys(events: Iterable[Event]) -> list[int]:
    return [row["after"]["id"] for row in rows(events)]


def test_a_streamed_transaction_comes_out_when_it_commits_as_any_other() -> None:
    streamed = [
        *run(50, (50, orders()), (50, insert(1)), is_first=True),
        *plain(0x100, orders(), insert(2), xid=51),
        *run(50, (50, insert(3))),
        *end(w.stream_commit(50, 0x200, 0x230, 0x200 * 1_000_000)),
    ]
    ordinary = [*plain(0x100, orders(), insert(2), xid=51), *plain(0x200, insert(1), insert(3), xid=50)]
    assert merged(decode(streamed)) == merged(decode(ordinary))


def test_nothing_leaves_before_the_commit_and_nothing_after_an_abort() -> None:
    decoder = Decoder(resolve)
    begun = run(50, (50, orders()), (50, insert(1)), is_first=True)
    assert decode(begun, decoder) == []
    assert waiting(decoder) == (1, 0)
    assert not decoder.in_transaction
    assert decode(end(w.stream_abort(50, 50)), decoder) == []
    assert waiting(decoder) == (0, 0)
    assert keys(decode(plain(0x300, orders(), insert(4)), decoder)) == [4]


@pytest.mark.parametrize("abort_lsn", [None, 0x50])
def test_rolled_back_sub_transactions_leave_no_row_and_no_gap_in_the_ordinals(abort_lsn: int | None) -> None:
    events = decode(
        [
            *run(50, (50, orders()), (50, insert(1)), (51, insert(2)), (52, insert(3)), is_first=True),
            *end(w.stream_abort(50, 52, abort_lsn=abort_lsn)),
            *run(50, (53, insert(4)), (50, insert(5))),
            *end(w.stream_abort(50, 53, abort_lsn=abort_lsn)),
            *end(w.stream_commit(50, 0x200, 0x230)),
        ]
    )
    assert [(row["ordinal"], row["after"]["id"]) for row in rows(events)] == [(0, 1), (1, 2), (2, 5)]


def test_sixty_four_levels_deep_only_what_survives_comes_out() -> None:
    deep = [(100 + level, insert(level)) for level in range(64)]
    payloads = run(50, (50, orders()), *deep, is_first=True)
    for level in range(63, 31, -1):
        payloads += end(w.stream_abort(50, 100 + level))
    payloads += end(w.stream_commit(50, 0x200, 0x230))
    assert keys(decode(payloads)) == list(range(32))


def test_transactions_that_interleave_come_out_in_the_order_of_their_commits() -> None:
    events = decode(
        [
            *run(50, (50, orders()), (50, insert(1)), is_first=True),
            *run(60, (60, orders()), (60, insert(2)), is_first=True),
            *run(50, (50, insert(3))),
            *run(60, (60, insert(4))),
            *end(w.stream_commit(60, 0x200, 0x230)),
            *end(w.stream_commit(50, 0x300, 0x330)),
        ]
    )
    assert keys(events) == [2, 4, 1, 3]
    assert [segment.upto for segment in events if isinstance(segment, Segment)][-1] == Position(Lsn(0x330))


def test_truncates_messages_and_new_shapes_keep_their_place_in_a_streamed_transaction() -> None:
    content = [
        orders(),
        insert(1),
        w.truncate([ORDERS]),
        insert(2),
        w.message("mark", b"x", 0x50, transactional=True),
        orders(WIDER),
        insert(3, "more"),
    ]
    begun = run(50, *((50, message) for message in content), is_first=True)
    streamed = decode([*begun, *end(w.stream_commit(50, 0x200, 0x230, 0x200 * 1_000_000))])
    assert merged(streamed) == merged(decode(plain(0x200, *content, xid=50)))
    assert [type(event) for event in streamed][:3] == [Segment, Barrier, Segment]


def test_a_description_from_what_was_rolled_back_is_taken_when_it_is_needed() -> None:
    """The server sends it once, also when it first came with a sub-transaction that is rolled back."""
    decoder = Decoder(resolve)
    payloads = [
        *run(50, (51, orders()), (51, insert(1)), is_first=True),
        *end(w.stream_abort(50, 51)),
        *run(50, (50, insert(2))),
        *end(w.stream_commit(50, 0x200, 0x230)),
        *plain(0x300, insert(3)),
    ]
    assert keys(decode(payloads, decoder)) == [2, 3]


def test_a_shape_that_was_rolled_back_is_never_announced() -> None:
    decoder = Decoder(resolve)
    events = decode(
        [
            *plain(0x100, orders(), insert(1)),
            *run(50, (50, insert(2)), (51, orders(WIDER)), (51, insert(3, "gone")), is_first=True),
            *end(w.stream_abort(50, 51)),
            *run(50, (50, orders()), (50, insert(4))),
            *end(w.stream_commit(50, 0x200, 0x230)),
            *plain(0x300, insert(5)),
        ],
        decoder,
    )
    assert not [event for event in events if isinstance(event, Barrier)]
    assert keys(events) == [1, 2, 4, 5]


def test_a_description_that_stayed_held_is_taken_by_a_later_transaction() -> None:
    decoder = Decoder(resolve)
    decode(plain(0x100, orders(), insert(1)), decoder)
    events = decode(
        [
            *run(50, (50, items()), (51, orders(WIDER)), (51, insert(2, "gone")), is_first=True),
            *end(w.stream_abort(50, 51)),
            *end(w.stream_commit(50, 0x200, 0x230)),
            *plain(0x300, insert(3, "kept")),
        ],
        decoder,
    )
    assert [event.kind for event in events if isinstance(event, Barrier)] == [BarrierKind.SCHEMA]
    assert [row["after"]["extra"] for row in rows(events)] == ["kept"]


def prepared(gid: str = "g", xid: int = 70, *messages: bytes) -> list[bytes]:
    inside = (w.begin_prepare(0x80, 0xA0, xid, gid), *messages, w.prepare(0x80, 0xA0, xid, gid))
    return [w.xlog(message, 0x80) for message in inside]


def test_a_prepared_transaction_holds_and_comes_out_when_it_commits() -> None:
    decoder = Decoder(resolve)
    events = decode(prepared("größe", 70, orders(), insert(1)), decoder)
    assert events == [Prepared(70, Lsn(0x80), Lsn(0xA0), "größe")]
    assert waiting(decoder) == (0, 1)
    assert keys(decode(plain(0x100, insert(2), xid=71), decoder)) == [2]
    events = decode(end(w.commit_prepared(0x200, 0x230, 70, "größe", 0x200)), decoder)
    assert isinstance(events[0], Committed)
    assert events[0].end_lsn == Lsn(0x230)
    assert [(row["commit_lsn"], row["xid"], row["after"]["id"]) for row in rows(events)] == [(0x200, 70, 1)]
    assert waiting(decoder) == (0, 0)


def test_a_prepared_transaction_that_is_rolled_back_leaves_nothing_but_what_it_described() -> None:
    decoder = Decoder(resolve)
    decode(prepared("g", 70, orders(), insert(1)), decoder)
    assert decode(end(w.rollback_prepared(0xA0, 0x150, 70, "g")), decoder) == [RolledBack(70, "g")]
    assert keys(decode(plain(0x200, insert(2)), decoder)) == [2]


def test_a_prepared_transaction_that_changed_a_shape_is_read_with_its_own_descriptions() -> None:
    decoder = Decoder(resolve)
    decode(plain(0x50, orders(), insert(0)), decoder)
    decode(prepared("g", 70, insert(1), orders(WIDER), insert(2, "more")), decoder)
    events = decode(end(w.commit_prepared(0x200, 0x230, 70, "g")), decoder)
    kinds = [event.kind if isinstance(event, Barrier) else type(event).__name__ for event in events]
    assert kinds == ["Committed", "Segment", BarrierKind.SCHEMA, "Segment"]
    assert [row["after"].get("extra") for row in rows(events)] == [None, "more"]


def test_a_streamed_transaction_may_be_prepared() -> None:
    decoder = Decoder(resolve)
    events = decode(
        [
            *run(70, (70, orders()), (70, insert(1)), (71, insert(2)), is_first=True),
            *end(w.stream_abort(70, 71)),
            *end(w.stream_prepare(0x80, 0xA0, 70, "g")),
        ],
        decoder,
    )
    assert events == [Prepared(70, Lsn(0x80), Lsn(0xA0), "g")]
    assert keys(decode(end(w.commit_prepared(0x200, 0x230, 70, "g")), decoder)) == [1]


def test_between_begin_prepare_and_prepare_the_position_does_not_move() -> None:
    decoder = Decoder(resolve)
    payloads = prepared("g", 70, orders(), insert(1))
    decode([*payloads[:-1], w.keepalive(0x90)], decoder)
    assert decoder.in_transaction
    decode(payloads[-1:], decoder)
    assert not decoder.in_transaction


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_a_large_transaction_is_released_piece_by_piece_from_memory_and_disk(
    memory_bytes: int, make_spool: MakeSpool
) -> None:
    spool = make_spool(memory_bytes=memory_bytes)
    decoder = Decoder(resolve, spool=spool)
    note, count = "x" * 1000, 12_000
    first = True
    for start in range(0, count, 1000):
        messages = [w.insert(ORDERS, [int4(i), note, None]) for i in range(start, start + 1000)]
        decode(run(50, *((50, m) for m in (*([orders()] if first else []), *messages)), is_first=first), decoder)
        first = False
    assert spool.memory_bytes <= memory_bytes
    assert spool.disk_bytes > 10_000_000 - memory_bytes
    data = w.frames([*end(w.stream_commit(50, 0x200, 0x230)), *plain(0x300, insert(count))])
    at, feeds, found = 0, 0, list[int]()
    while at < len(data) or decoder.has_backlog:
        consumed, events = decoder.feed(data, at, len(data))
        assert sum(event.rows for event in events if isinstance(event, Segment)) < count / 2
        found += keys(events)
        at, feeds = at + consumed, feeds + 1
    assert found == list(range(count + 1))
    assert feeds > 4
    assert (spool.memory_bytes, spool.disk_bytes) == (0, 0)


def test_a_message_larger_than_a_released_piece_comes_out_whole() -> None:
    note = "y" * (5 << 20)
    change = w.insert(ORDERS, [int4(1), note, None])
    payloads = [*run(50, (50, orders()), (50, insert(0)), (50, change), (50, insert(2)), is_first=True)]
    decoder = Decoder(resolve)
    data = w.frames([*payloads, *end(w.stream_commit(50, 0x200, 0x230))])
    consumed, events = decoder.feed(data, 0, len(data))
    while decoder.has_backlog:
        _, more = decoder.feed(data, len(data), len(data))
        events += more
    assert consumed == len(data)
    found = rows(events)
    assert [row["after"]["id"] for row in found] == [0, 1, 2]
    assert found[1]["after"]["note"] == note


def test_more_than_may_wait_is_refused_with_the_way_out(make_spool: MakeSpool) -> None:
    decoder = Decoder(resolve, spool=make_spool(memory_bytes=0, disk_bytes_max=2_000))
    payloads = run(50, (50, orders()), *((50, insert(i)) for i in range(100)), is_first=True)
    with pytest.raises(StreamingUnfit, match="2,000 bytes") as caught:
        decode(payloads, decoder)
    assert "spool_disk" in caught.value.advice


@pytest.mark.parametrize(
    ("payloads", "reason"),
    [
        (run(50, (50, insert(1))), "never began"),
        (run(50, (50, orders()), is_first=True) * 2, "began twice"),
        (end(w.stream_commit(50, 0x200, 0x230)), "not sent before"),
        (end(w.commit_prepared(0x200, 0x230, 50, "g")), "not sent before"),
        (end(w.stream_prepare(0x80, 0xA0, 50, "g")), "not sent before"),
        (prepared("g", 70, orders()) + end(w.commit_prepared(0x200, 0x230, 70, "h")), "another name"),
        (prepared("g", 70, orders()) * 2, "prepared twice"),
        ([*prepared()[:1], w.xlog(w.prepare(0x80, 0xA0, 71, "g"), 1)], "another transaction is prepared"),
        ([*run(50, is_first=True)[:1], *plain(0x100)], "Begin message came where"),
        ([*run(50, is_first=True)[:1], w.xlog(w.prepare(0x80, 0xA0, 50, "g"), 1)], "Prepare message came where"),
        ([*prepared()[:1], w.xlog(w.stream_stop(), 1)], "Stream Stop message came where"),
        ([w.xlog(w.stream_stop(), 1)], "Stream Stop message came where"),
        ([*plain(0x100, commit=False), *run(50, is_first=True)], "Stream Start message came where"),
        ([*run(50, is_first=True)[:1], w.xlog(b"I\0\0", 1)], "shorter or longer"),
        (end(b"S\0\0\0"), "Stream Start message is malformed"),
        (end(b"c" + bytes(29)), "ends before it starts"),
        (end(b"A" + bytes(9)), "Stream Abort message is malformed"),
        (end(w.begin_prepare(0x80, 0xA0, 1, "g")[:-1]), "Begin Prepare message is malformed"),
        (end(w.begin_prepare(0x80, 0xA0, 1, "g") + b"x\0"), "Begin Prepare message is malformed"),
        (run(50, (50, insert(1)), is_first=True) + end(w.stream_commit(50, 0x200, 0x230)), "not described"),
        (plain(0x100, b"h" + orders()[1:]), "tag 0x68"),
    ],
)
def test_what_no_server_sends_is_named(payloads: list[bytes], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(payloads)
    assert "lsn" in caught.value.where


def test_ends_of_transactions_we_do_not_hold_are_passed_over_where_nothing_can_be_lost() -> None:
    payloads = [*end(w.stream_abort(9, 9)), *end(w.stream_abort(9, 10)), *end(w.rollback_prepared(1, 2, 9, "g"))]
    assert decode(payloads) == [RolledBack(9, "g")]


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_gives_what_the_same_transactions_give_unstreamed(seed: int, make_spool: MakeSpool) -> None:
    """Random transactions, streamed in random runs, with sub-transactions and prepares, fed in random cuts."""
    rng = random.Random(seed)
    streamed, ordinary = mixture(rng)
    data = w.frames(streamed)
    decoder = Decoder(resolve, spool=make_spool(memory_bytes=rng.choice([0, 300, 1 << 20])))
    events: list[Event] = []
    at, stop = 0, 0
    while at < len(data) or decoder.has_backlog:
        stop = min(len(data), max(stop, at) + rng.randrange(1, 400))
        consumed, more = decoder.feed(data, at, stop)
        events += more
        at += consumed
    found = [event for event in events if not isinstance(event, Prepared | Committed | RolledBack)]
    assert merged(found) == merged(decode(ordinary))
    assert waiting(decoder) == (0, 0)
    for batch in batches(found, "orders"):
        batch.validate(full=True)
        assert (np.diff(batch.column("commit_lsn").to_numpy().astype(np.int64)) >= 0).all()
