"""LSNs and positions: order, text forms, limits."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wallaby.lsn import START, Lsn, Position

lsns = st.integers(0, 2**64 - 1).map(Lsn)
positions = st.builds(Position, lsns, st.integers(0, 2**64 - 1))


@given(lsns)
def test_an_lsn_survives_its_text_form_and_pickling(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn
    assert pickle.loads(pickle.dumps(lsn)) == lsn


@given(positions, positions)
def test_text_order_of_positions_is_stream_order(one: Position, other: Position) -> None:
    assert (str(one) < str(other)) == (one < other)
    assert Position.parse(str(one)) == one


@pytest.mark.parametrize("text", ["", "16", "16/", "/1", "G/1", "123456789/0", "0/123456789", "1/2/3", "-1/0"])
def test_what_is_not_an_lsn_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an LSN"):
        Lsn.parse(text)


def test_positions_inside_a_transaction_lie_between_its_neighbours() -> None:
    end_of_previous, commit_record, end = Lsn(100), Lsn(100), Lsn(160)
    assert Position(end_of_previous) < Position(commit_record, 1) < Position(commit_record, 2) < Position(end)


def test_snapshot_positions_come_before_every_stream_position() -> None:
    assert START < Position(Lsn(0), 1) < Position(Lsn(0), 9) < Position(Lsn(1))
    assert Position(Lsn(0), 1).is_snapshot
    assert not START.is_snapshot
