"""Modes: the target equals the source after every commit, over random histories cut at random places."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from wallaby.schema import ReplicaIdentity
from wallaby.sink import WriteMode
from wallaby.testing.changes import Step, Stream, bulk, copied, delete, insert, part, table, update
from wallaby.testing.contract.hooks import ORDERS, PARCELS, SinkHooks, beyond, tables_for, windows_of
from wallaby.testing.history import RandomHistory, row_table
from wallaby.window import OP_UPDATE, Window

BIG = "x" * 3000


class ModesContract(SinkHooks):
    """Mirrors equal their source; logs add up to it."""

    @pytest.mark.must_not_fail(25)
    def test_a_random_history_ends_at_the_content_of_the_source(self, mode: WriteMode, seed: int) -> None:
        truncates = self.make_sink(mode=mode).capabilities.truncate
        history = RandomHistory(seed, tables_for(mode), truncates=truncates, transactions=30)
        process = self.start(mode, history.tables)
        choice = random.Random(seed)
        process.replay(history.windows(seed), lambda: choice.random() < 0.3)
        for schema in history.tables:
            self.assert_content(schema, mode, history.expected(schema))
            if mode is WriteMode.APPEND:
                self.assert_log_holds_each_change_once(schema)

    @pytest.mark.must_not_fail(25)
    def test_every_transaction_of_a_history_is_visible_as_a_whole(self, mode: WriteMode) -> None:
        history = RandomHistory(77, tables_for(mode), truncates=False, transactions=12)
        process = self.start(mode, history.tables)
        windows = history.windows()
        copies = len(history.stream.copies)
        process.replay(windows[:copies], lambda: True)
        for number, window in enumerate(windows[copies:], 1):
            process.apply(window)
            for schema in history.tables:
                self.assert_content(schema, mode, history.expected(schema, number), f"after transaction {number}")

    def test_a_transaction_over_several_windows_is_not_visible_until_it_ends(self, mode: WriteMode) -> None:
        process = self.start(mode, [ORDERS, PARCELS])
        if not process.sink.capabilities.whole_transactions:
            pytest.skip("the sink does not claim whole transactions")
        steps: list[Step] = [(ORDERS, insert(1, "a", None, None)), (PARCELS, insert(1, "p", 1)), (ORDERS, delete(1))]
        whole = windows_of(steps)[0]
        pieces = _split(steps)
        for piece in pieces:
            process.write(piece)
            assert len(self.content(ORDERS, mode)) == 0
            assert len(self.content(PARCELS, mode)) == 0
        process.commit(whole.upto)
        assert len(self.content(ORDERS, mode)) == 0
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "p", 1)]))

    @pytest.mark.must_not_fail(7)
    def test_unchanged_toast_is_never_null(self, mode: WriteMode) -> None:
        schema = table(
            "public.documents",
            {
                "id": "int8",
                "body": "text",
                "data": "jsonb",
                "raw": "bytea",
                "tags": "text[]",
                "attributes": "hstore",
                "embedding": "vector",
                "n": "int4",
            },
            key=["id"],
        )
        attributes, embedding = [("a", BIG), ("b", None)], [n / 8 for n in range(1000)]
        big = ("y" * 3000, '{"k": "' + BIG + '"}', b"\x00\xff" * 2000, [BIG, None, "z"], attributes, embedding)
        others = ["body", "data", "raw", "tags", "attributes", "embedding"]
        process = self.start(mode, [schema])
        none = (None,) * 6
        for window in windows_of(
            [(schema, insert(n, *big, n)) for n in range(6)],
            # In a window of their own; then two updates of one row; moved; moved twice; filled inside the window.
            [(schema, update(0, *none, 10, unchanged=others))],
            [
                (schema, update(1, "new", *none[1:], 11, unchanged=others[1:])),
                (schema, update(1, *none, 12, unchanged=others)),
            ],
            [(schema, update(20, *none, 13, old=[2], unchanged=others))],
            [
                (schema, update(30, *none, 14, old=[3], unchanged=others)),
                (schema, update(31, *none, 15, old=[30], unchanged=others)),
            ],
            [(schema, insert(7, *big, 7)), (schema, update(7, *none, 16, unchanged=others)), (schema, delete(5))],
            [(schema, update(4, *none, None))],
        ):
            process.apply(window)
        expected = [
            (0, *big, 10),
            (1, "new", *big[1:], 12),
            (20, *big, 13),
            (31, *big, 15),
            (7, *big, 16),
            (4, *none, None),
        ]
        self.assert_content(schema, mode, row_table(schema, expected))

    @pytest.mark.must_not_fail(8)
    def test_keys_swapped_in_one_transaction_end_right(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        rows, swap = windows_of(
            [(PARCELS, insert(1, BIG + "one", 1)), (PARCELS, insert(2, BIG + "two", 2))],
            [
                (PARCELS, update(9, None, 1, old=[1], unchanged=["note"])),
                (PARCELS, update(1, None, 2, old=[2], unchanged=["note"])),
                (PARCELS, update(2, None, 1, old=[9], unchanged=["note"])),
            ],
        )
        process.apply(rows)
        process.apply(swap)
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(2, BIG + "one", 1), (1, BIG + "two", 2)]))

    @pytest.mark.must_not_fail(8)
    def test_a_key_change_removes_the_old_row(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        for window in windows_of(
            [(PARCELS, insert(1, "a", 1)), (PARCELS, insert(2, "b", 2)), (PARCELS, insert(3, "c", 3))],
            [(PARCELS, update(4, "a", 1, old=[1]))],
            # The vacated key is taken again; a row moves onto a key deleted before; a chain shifts by one.
            [(PARCELS, insert(1, "new", 0)), (PARCELS, delete(2)), (PARCELS, update(2, "c", 3, old=[3]))],
            [
                (PARCELS, update(5, "a", 1, old=[4])),
                (PARCELS, update(4, "c", 3, old=[2])),
                (PARCELS, update(2, "new", 0, old=[1])),
            ],
        ):
            process.apply(window)
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(5, "a", 1), (4, "c", 3), (2, "new", 0)]))

    def test_insert_and_delete_of_one_key_in_one_window(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        for window in windows_of(
            [(PARCELS, insert(1, "old", 1)), (PARCELS, insert(2, "gone", 1)), (PARCELS, delete(2))],
            [(PARCELS, delete(1)), (PARCELS, insert(1, "again", 2))],
            [(PARCELS, insert(3, "x", 1)), (PARCELS, delete(3)), (PARCELS, insert(3, "y", 1)), (PARCELS, delete(3))],
        ):
            process.apply(window)
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "again", 2)]))

    @pytest.mark.must_not_fail(9)
    def test_a_table_without_a_key_keeps_equal_rows_apart(self, mode: WriteMode) -> None:
        if mode is WriteMode.HISTORY:
            return  # refused: see `HistoryContract`
        schema = table("public.readings", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.FULL)
        process = self.start(mode, [schema])
        for window in windows_of(
            [(schema, insert(1, "a"))] * 3 + [(schema, insert(None, None))] * 2 + [(schema, insert(2, BIG))],
            [(schema, delete(1, "a")), (schema, delete(None, None))],
            [(schema, update(1, "b", old=[1, "a"])), (schema, update(3, None, old=[2, BIG], unchanged=["note"]))],
            [(schema, insert(1, "b")), (schema, insert(7, "x")), (schema, delete(7, "x"))],
        ):
            process.apply(window)
        expected = [(1, "a"), (1, "b"), (1, "b"), (None, None), (3, BIG)]
        self.assert_content(schema, mode, row_table(schema, expected))

    @pytest.mark.must_not_fail(9)
    def test_a_table_without_any_identity_takes_inserts(self, mode: WriteMode) -> None:
        if mode is WriteMode.HISTORY:
            return  # refused: see `HistoryContract`
        schema = table("public.lines", {"n": "int4", "note": "text"}, identity=ReplicaIdentity.NOTHING)
        process = self.start(mode, [schema])
        for window in windows_of([(schema, copied(1, "a")), (schema, insert(1, "a"))], [(schema, insert(1, "a"))]):
            process.apply(window)
        assert len(self.content(schema, mode)) == 3
        self.assert_content(schema, mode, row_table(schema, [(1, "a")] * 3))

    def test_a_window_of_many_rows_arrives_whole(self, mode: WriteMode) -> None:
        rows = self.bulk_rows
        numbers = pa.array(range(rows), pa.int32())
        notes = pa.array([f"note {n % 997}" for n in range(rows)])
        process = self.start(mode, [PARCELS])
        [first, second, _] = windows_of(*[[(PARCELS, insert(n, "", 0))] for n in range(3)])
        written = bulk(PARCELS, [numbers, notes, numbers])
        process.apply(Window(first.after, first.upto, (part(PARCELS, written),)))
        self.assert_content(PARCELS, mode, pa.table([numbers, notes, numbers], names=["id", "note", "size"]))
        zeros = pa.array([0] * rows, pa.int32())
        updated = bulk(
            PARCELS, [numbers, pa.nulls(rows, pa.string()), zeros], op=OP_UPDATE, unchanged=[1], commit_lsn=0x9999999
        )
        process.apply(Window(second.after, second.upto, (part(PARCELS, updated),)))
        self.assert_content(PARCELS, mode, pa.table([numbers, notes, zeros], names=["id", "note", "size"]))
        process.commit(beyond(process.at))


def _split(steps: list[Step]) -> list[Window]:
    stream = Stream()
    stream.transaction(steps)
    return stream.windows([(0, done) for done in range(1, len(steps) + 1)])
