"""COPY BINARY frames, cut and damaged in every way."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from tests.wallaby.pgoutput.streams import int4
from wallaby.errors import DecodeError
from wallaby.lsn import Lsn
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import Column, PgType, TableName, TableSchema
from wallaby.testing import pgoutput_writer as w


def _type(oid: int) -> PgType:
    found = builtin_type(oid)
    assert found is not None
    return found


TABLE = TableSchema(1, TableName("public", "t"), (Column("id", _type(23), is_key=True), Column("note", _type(25))))
ROWS = [w.copy_row([int4(n), f"row {n}".encode() if n % 3 else None]) for n in range(50)]


def _decoder() -> CopyDecoder:
    return CopyDecoder(TABLE, snapshot_lsn=Lsn(0x10), taken_at_us=1)


def _feed_all(payloads: list[bytes]) -> tuple[CopyDecoder, pa.RecordBatch | None]:
    data = w.frames(payloads)
    decoder = _decoder()
    consumed, batch = decoder.feed(data, 0, len(data))
    assert consumed == len(data)
    return decoder, batch


@pytest.mark.parametrize("is_alone", [True, False])
def test_the_header_may_stand_alone_or_before_the_first_row(is_alone: bool) -> None:
    header = w.copy_header(b"ext")
    payloads = [header, *ROWS] if is_alone else [header + ROWS[0], *ROWS[1:]]
    decoder, batch = _feed_all([*payloads, w.COPY_TRAILER])
    assert batch is not None
    batch.validate(full=True)
    assert batch.column("after").field("id").to_pylist() == list(range(50))
    assert batch.column("ordinal").to_pylist() == list(range(50))
    assert decoder.is_finished
    assert decoder.rows == 50


def test_an_empty_table_is_a_header_with_the_trailer() -> None:
    decoder, batch = _feed_all([w.copy_header() + w.COPY_TRAILER])
    assert batch is None
    assert decoder.is_finished


def test_any_cut_gives_the_same_rows() -> None:
    data = w.frames([w.copy_header() + ROWS[0], *ROWS[1:], w.COPY_TRAILER])
    for step in (1, 5, 33, 400):
        decoder, at = _decoder(), 0
        found: list[int] = []
        for cut in range(step, len(data) + step, step):
            consumed, batch = decoder.feed(data, at, min(max(cut, at), len(data)))
            at += consumed
            found += batch.column("ordinal").to_pylist() if batch is not None else []
        assert found == list(range(50))
        assert decoder.is_finished


def test_more_rows_than_the_index_holds_arrive_in_one_batch() -> None:
    _, batch = _feed_all([w.copy_header(), *ROWS * 1500])
    assert batch is not None
    assert batch.column("ordinal").to_pylist() == list(range(75_000))


@pytest.mark.parametrize(
    "payloads",
    [
        [b"PGCOPX\n\xff\r\n\0" + bytes(8)],
        [b"PG"],
        [w.copy_header()[:11] + b"\0\1\0\0" + bytes(4)],
        [w.copy_header(), ROWS[1] + ROWS[2]],
        [w.copy_header(), ROWS[1][:-1]],
        [w.copy_header(), b"\0"],
        [w.copy_header(), w.copy_row([int4(1)])],
        [w.copy_header(), w.copy_row([b"\0", None])],
        [w.copy_header(), w.COPY_TRAILER, ROWS[0]],
        [w.copy_header(), w.COPY_TRAILER + b"\0"],
    ],
)
def test_malformed_copies_are_refused(payloads: list[bytes]) -> None:
    with pytest.raises(DecodeError):
        _feed_all(payloads)


def test_random_damage_never_does_worse_than_an_error() -> None:
    original = w.frames([w.copy_header(), *ROWS, w.COPY_TRAILER])
    rng = np.random.default_rng(8)
    for _ in range(500):
        data = original.copy()
        data[rng.integers(len(data))] = rng.integers(256)
        decoder = _decoder()
        try:
            _, batch = decoder.feed(data, 0, len(data))
        except DecodeError:
            continue
        if batch is not None:
            batch.validate(full=True)
            assert batch.num_rows <= 50


@pytest.mark.must_not_fail(22)
def test_columns_are_selected_quoted_and_as_text_where_there_is_no_gather() -> None:
    assert copy_select_expression(Column('we"ird', _type(23))) == '"we""ird"'
    assert copy_select_expression(Column("Place", _type(600))).count('"Place"') == 2
