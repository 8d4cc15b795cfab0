"""Bytes that are not pgoutput: our error, or fewer rows; never a crash, never rows made of other bytes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.wallaby.pgoutput.streams import ORDERS, decode, int4, orders, resolve, rows, transaction, varied_stream
from wallaby.errors import DecodeError, SourceUnavailable
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.schema import TableSchema
from wallaby.testing import pgoutput_writer as w

INSERT = w.insert(ORDERS, [int4(1), b"one", "1.50"])
COMMIT = w.commit(0x100, 0x130)


def _open(*messages: bytes) -> list[bytes]:
    return transaction(0x100, orders(), *messages, commit=False)


@pytest.mark.parametrize(
    ("payloads", "reason"),
    [
        ([b""], "shorter or longer"),
        ([b"x123"], "neither XLogData nor a keepalive"),
        ([b"k" + bytes(16)], "shorter or longer"),
        ([b"w" + bytes(24)], "shorter or longer"),
        ([w.xlog(b"Z", 1)], "tag 0x5a"),
        ([w.xlog(INSERT, 1)], "outside a transaction"),
        ([w.xlog(COMMIT, 1)], "outside a transaction"),
        ([w.xlog(w.truncate([ORDERS]), 1)], "outside a transaction"),
        (transaction(0x100, INSERT), "not described"),
        (transaction(0x100, w.truncate([ORDERS])), "not described"),
        (_open(w.begin(0x200, 1)), "began inside another"),
        (_open(w.commit(0x101, 0x130)), "another transaction"),
        (_open(w.commit(0x100, 0x100)), "another transaction"),
        (_open(COMMIT + b"\0"), "shorter or longer"),
        (_open(w.insert(ORDERS, [int4(1)])), "number of columns"),
        (_open(INSERT + b"\0"), "does not fit"),
        (_open(INSERT[:-1]), "does not fit"),
        (_open(INSERT.replace(b"N\0\3b", b"N\0\3z")), "does not fit"),
        (_open(w.delete(ORDERS)), "shorter or longer|does not fit"),
        (_open(w.insert(ORDERS, [b"\0\0\0", None, None])), "wrong width"),
        (_open(w.insert(ORDERS, [int4(1), None, b"\0\1\0\0"])), "numeric is malformed"),
        (_open(b"R\0\0"), "Relation message is malformed"),
        (_open(b"M\0"), "Message is malformed"),
        (_open(b"T\0"), "Truncate message is malformed"),
    ],
)
def test_each_kind_of_malformed_message_is_named(payloads: list[bytes], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(payloads)
    assert "lsn" in caught.value.where


def test_an_error_in_a_value_names_any_lsn() -> None:
    """LSNs are held as signed integers of the same bits."""
    begun = [w.begin(0xFFFFFFFF00000000, 7), orders(), w.insert(ORDERS, [b"\0\0\0", None, None])]
    with pytest.raises(DecodeError, match="wrong width") as caught:
        decode([w.xlog(message, 1) for message in begun])
    assert caught.value.where["lsn"] == "FFFFFFFF/0"


def test_a_decoder_repeats_its_error() -> None:
    decoder = Decoder(resolve)
    for _ in range(2):
        with pytest.raises(DecodeError, match="neither"):
            decode([b"x"], decoder)


def test_a_resolver_that_fails_ends_the_decoder_before_rows_can_double() -> None:
    def unreachable(relation: object) -> TableSchema:
        raise SourceUnavailable("the catalog is gone")

    decoder = Decoder(unreachable)
    with pytest.raises(SourceUnavailable):
        decode(_open(INSERT), decoder)
    with pytest.raises(AssertionError, match="interrupted"):
        decode(_open(INSERT), decoder)


def test_a_stream_cut_anywhere_gives_the_whole_frames_before_the_cut() -> None:
    data = w.frames(_open(INSERT, INSERT, w.truncate([ORDERS]), INSERT))
    counts = []
    for end in range(len(data) + 1):
        consumed, events = Decoder(resolve).feed(data, 0, end)
        assert consumed <= end
        counts.append(sum(event.rows for event in events if isinstance(event, Segment)))
    assert counts == sorted(counts)
    assert counts[-1] == 3


def test_a_message_cut_anywhere_inside_its_frame_is_an_error_or_fewer_rows() -> None:
    for message in (INSERT, orders(), w.update(ORDERS, [int4(1), w.UNCHANGED, None], key=[int4(2), None, None])):
        for length in range(len(message)):
            with pytest.raises(DecodeError):
                decode(transaction(0x100, *([orders()] if message[:1] != b"R" else []), message[:length]))


def test_random_damage_never_does_worse_than_an_error() -> None:
    """Bytes are changed at random; what still decodes must be valid Arrow of no more rows than were there."""
    original = w.frames(varied_stream(seed=5, transactions=12))
    total = _rows(original.copy())
    rng = np.random.default_rng(6)
    failed = 0
    for _ in range(1500):
        data = original.copy()
        for _ in range(rng.integers(1, 4)):
            data[rng.integers(len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
        try:
            assert _rows(data) <= total
        except DecodeError:
            failed += 1
    assert 0 < failed < 1500


def _rows(data: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> int:
    _, events = Decoder(resolve).feed(data, 0, len(data))
    for event in events:
        if isinstance(event, Segment):
            for _, batch in event.parts:
                batch.validate(full=True)
    return sum(event.rows for event in events if isinstance(event, Segment))


def test_the_sample_row_is_fine_as_such() -> None:
    assert len(rows(decode(_open(INSERT)))) == 1
