"""Hashes of keys are the same wherever the key stands, and spread."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from wallaby.transform.key_hash import key_hashes

COLUMNS = {
    "int8": pa.array([5, -1, 2**62], pa.int64()),
    "int4": pa.array([5, -1, 7], pa.int32()),
    "bool": pa.array([True, False, True]),
    "text": pa.array(["", "a", "ünïcode 表"]),
    "bytea": pa.array([b"", b"\0", b"\xff"], pa.binary()),
    "uuid": pa.array([bytes(16), bytes(15) + b"\1", b"\1" * 16], pa.binary(16)),
    "date": pa.array([datetime.date(2024, 2, 29), datetime.date(1, 1, 1), datetime.date(9999, 1, 1)]),
    "float8": pa.array([0.5, -0.25, 1e300]),
    "numeric": pa.array(["1.5", "2", "3"]).cast(pa.decimal128(10, 2)),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_key_has_one_hash_in_any_batch(kind: str) -> None:
    column = COLUMNS[kind]
    everything = key_hashes([column, COLUMNS["text"]], 3)
    assert (key_hashes([column.slice(1), COLUMNS["text"].slice(1)], 2) == everything[1:]).all()
    turned = pa.array([2, 0, 1])
    assert (key_hashes([column.take(turned), COLUMNS["text"].take(turned)], 3) == everything[[2, 0, 1]]).all()
    assert len(np.unique(everything)) == 3


def test_the_order_of_columns_and_of_bytes_counts() -> None:
    a, b = pa.array(["ab", "ba", "a"]), pa.array(["x", "x", "bx"])
    assert len(np.unique(np.concatenate([key_hashes([a, b], 3), key_hashes([b, a], 3)]))) == 6


def test_a_hundred_thousand_keys_do_not_collide() -> None:
    numbers = pa.array(range(100_000), pa.int64())
    assert len(np.unique(key_hashes([numbers], 100_000))) == 100_000
    assert len(np.unique(key_hashes([numbers.cast(pa.string())], 100_000))) == 100_000


def test_no_rows_have_no_hashes() -> None:
    assert len(key_hashes([pa.array([], pa.string())], 0)) == 0
