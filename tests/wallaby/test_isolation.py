"""Finding what is refused: in few trials, in the stream's order, with what belongs together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from wallaby.errors import RowRefused
from wallaby.isolation import Refusal, Suspects, first_refused
from wallaby.schema import ReplicaIdentity
from wallaby.testing.changes import Change, Stream, delete, insert, table, update
from wallaby.window import TablePart

ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
ITEMS = table("public.items", {"id": "int8"}, key=["id"])
EVENTS = table("public.events", {"kind": "text", "size": "int4"}, identity=ReplicaIdentity.FULL)
AUDIT = table("public.audit", {"id": "int4"}, identity=ReplicaIdentity.NOTHING)


def suspects(*steps: Any) -> Suspects:
    stream = Stream()
    stream.transaction(list(steps))
    return Suspects(stream.windows()[0].parts)


def refusing(*ids: int) -> tuple[Callable[[tuple[TablePart, ...]], None], list[int]]:
    """A destination that refuses rows of these ids, and how many rows each trial wrote."""
    trials: list[int] = []

    def attempt(parts: tuple[TablePart, ...]) -> None:
        trials.append(sum(part.rows for part in parts))
        for part in parts:
            found = pc.struct_field(part.table()["after"], "id").to_pylist()
            if set(found) & set(ids):
                raise RowRefused("refused")

    return attempt, trials


@pytest.mark.must_not_fail(16)
@pytest.mark.parametrize("poison", [0, 1, 511, 998, 999])
def test_one_of_a_thousand_rows_is_found_in_eleven_trials(poison: int) -> None:
    found_among = suspects(*((ORDERS, insert(number, "n")) for number in range(1000)))
    attempt, trials = refusing(poison)
    found = first_refused(found_among, np.arange(1000), 0, attempt, attempts=1)
    assert isinstance(found, Refusal)
    assert (found.position.ordinal, found.table) == (poison, ORDERS.name)
    assert len(trials) <= 11


def test_a_row_is_tried_as_often_as_asked_and_taken_if_it_is_then() -> None:
    among = suspects((ORDERS, insert(1, "a")), (ORDERS, insert(2, "b")))
    attempt, trials = refusing(2)
    found = first_refused(among, np.arange(2), 0, attempt, attempts=4)
    assert isinstance(found, Refusal)
    assert (found.attempts, len(trials)) == (4, 5)

    def once(parts: tuple[TablePart, ...]) -> None:
        if len(trials) < 7:
            attempt(parts)

    trials.clear()
    assert first_refused(among, np.arange(2), 0, once, attempts=100) == 2


def test_units_come_in_the_order_of_their_first_changes_over_all_tables() -> None:
    found = suspects(
        (ITEMS, insert(9)), (ORDERS, insert(5, "a")), (ITEMS, insert(1)), (ORDERS, update(5, "b")), (ORDERS, delete(2))
    )
    assert [table.name for table in found.tables] == ["items", "orders", "items", "orders"]
    assert [position.ordinal for position in found.positions] == [0, 1, 2, 4]
    [(part, keys)] = found.pieces(1)
    assert (part.rows, len(keys)) == (2, 1)


@pytest.mark.must_not_fail(8, 16)
def test_keys_a_row_moves_between_are_one_unit() -> None:
    swap = [update(9, "a", old=[1]), update(1, "b", old=[2]), update(2, "a", old=[9]), insert(7, "c")]
    found = suspects(*((ORDERS, change) for change in swap))
    assert len(found) == 2
    [(part, keys)] = found.pieces(0)
    assert (part.rows, len(keys)) == (3, 3)


@pytest.mark.must_not_fail(9)
def test_without_a_key_equal_rows_belong_together_and_without_identity_none_do() -> None:
    changes: list[Change] = [insert("a", 1), insert("a", 1), insert("a", None), update("b", 2, old=["a", 1])]
    assert len(suspects(*((EVENTS, change) for change in changes))) == 2
    assert len(suspects((AUDIT, insert(1)), (AUDIT, insert(1)))) == 2
