"""Barriers: TRUNCATE and new shapes, applied alone and once."""

from __future__ import annotations

import pytest

from wallaby.errors import Refused, Superseded
from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.testing.changes import NewShape, Truncate, insert, table, update
from wallaby.testing.contract.hooks import FIRST_EPOCH, PARCELS, SinkHooks, raised, windows_of
from wallaby.testing.history import row_table


class BarriersContract(SinkHooks):
    """``apply_barrier`` obeys the rules of a commit."""

    def test_truncate_empties_the_named_tables_only(self, mode: WriteMode) -> None:
        other = table("public.other", {"id": "int8", "note": "text"}, key=["id"])
        process = self.start(mode, [PARCELS, other])
        windows = windows_of(
            [(PARCELS, insert(1, "a", 1)), (other, insert(1, "kept"))],
            [Truncate((PARCELS.name,))],
            [(PARCELS, insert(2, "b", 2))],
        )
        process.apply(windows[0])
        if not process.sink.capabilities.truncate:
            raised(Refused, lambda: process.apply(windows[1]))
            process.writer.abort()
            self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "a", 1)]))
            return
        process.apply(windows[1])
        assert len(self.content(PARCELS, mode)) == 0
        self.assert_content(other, mode, row_table(other, [(1, "kept")]))
        process.apply(windows[2])
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(2, "b", 2)]))

    @pytest.mark.must_not_fail(10)
    def test_truncate_inside_a_transaction_keeps_what_came_after_it(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        if not process.sink.capabilities.truncate:
            pytest.skip("the sink does not truncate")
        steps = [(PARCELS, insert(1, "before", 1)), Truncate((PARCELS.name,)), (PARCELS, insert(2, "after", 2))]
        for window in windows_of(steps):
            process.apply(window)
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(2, "after", 2)]))

    def test_a_repeated_truncate_changes_nothing(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        if not process.sink.capabilities.truncate:
            pytest.skip("the sink does not truncate")
        first, truncate, last = windows_of(
            [(PARCELS, insert(1, "a", 1))], [Truncate((PARCELS.name,))], [(PARCELS, insert(2, "b", 2))]
        )
        assert truncate.barrier is not None
        process.apply(first)
        token = process.token(truncate.upto)
        receipt = process.writer.apply_barrier(truncate.barrier, token)
        self.crash(process.sink)
        again = self.start(mode, [PARCELS], epoch=FIRST_EPOCH)
        assert again.at == truncate.upto
        assert again.writer.apply_barrier(truncate.barrier, token) == receipt
        again.apply(last)
        barrier = truncate.barrier
        raised(Superseded, lambda: again.writer.apply_barrier(barrier, token))
        again.writer.abort()
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(2, "b", 2)]))

    @pytest.mark.must_not_fail(20)
    def test_a_zombie_cannot_truncate(self, mode: WriteMode) -> None:
        zombie = self.start(mode, [PARCELS])
        if not zombie.sink.capabilities.truncate:
            pytest.skip("the sink does not truncate")
        first, truncate = windows_of([(PARCELS, insert(1, "a", 1))], [Truncate((PARCELS.name,))])
        zombie.apply(first)
        self.start(mode, [PARCELS], epoch=FIRST_EPOCH + 1)
        raised(Superseded, lambda: zombie.apply(truncate))
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "a", 1)]))

    def test_truncate_of_a_table_the_sink_never_saw_moves_the_record(self, mode: WriteMode) -> None:
        process = self.start(mode, [PARCELS])
        if not process.sink.capabilities.truncate:
            pytest.skip("the sink does not truncate")
        unknown = table("public.unknown", {"id": "int8"}, key=["id"])
        [truncate] = windows_of([Truncate((unknown.name,))])
        process.apply(truncate)
        assert self.start(mode, epoch=FIRST_EPOCH + 1).at == truncate.upto

    @pytest.mark.must_not_fail(11)
    def test_an_added_column_is_null_for_the_rows_before_it(self, mode: WriteMode) -> None:
        wider = _wider()
        process = self.start(mode, [PARCELS])
        windows = windows_of(
            [(PARCELS, insert(1, "old", 1)), (PARCELS, insert(2, "old", 2))],
            [NewShape(wider), (wider, insert(3, "new", 3, "extra"))],
            [(wider, update(1, None, 10, "added", unchanged=["note"]))],
        )
        for window in windows:
            process.apply(window)
        expected = [(2, "old", 2, None), (3, "new", 3, "extra"), (1, "old", 10, "added")]
        self.assert_content(wider, mode, row_table(wider, expected))

    @pytest.mark.must_not_fail(11)
    def test_a_new_shape_applied_twice_is_applied_once(self, mode: WriteMode) -> None:
        wider = _wider()
        first, change, last = windows_of(
            [(PARCELS, insert(1, "old", 1))], [NewShape(wider)], [(wider, insert(3, "new", 3, "extra"))]
        )
        assert change.barrier is not None
        process = self.start(mode, [PARCELS])
        process.apply(first)
        token = process.token(change.upto)
        receipt = process.writer.apply_barrier(change.barrier, token)
        self.crash(process.sink)
        again = self.start(mode, [wider], epoch=FIRST_EPOCH)
        assert again.at == change.upto
        assert again.writer.apply_barrier(change.barrier, token) == receipt
        again.sink.ensure_table(wider)
        again.apply(last)
        self.assert_content(wider, mode, row_table(wider, [(1, "old", 1, None), (3, "new", 3, "extra")]))

    @pytest.mark.must_not_fail(11)
    def test_a_new_shape_the_sink_refuses_changes_nothing(self, mode: WriteMode) -> None:
        refused = self.refused_shape(PARCELS)
        if refused is None:
            pytest.skip("the sink takes any shape")
        first, change = windows_of([(PARCELS, insert(1, "old", 1))], [NewShape(refused)])
        process = self.start(mode, [PARCELS])
        process.apply(first)
        error = raised(Refused, lambda: process.apply(change))
        changed = [
            column.name
            for column in (*PARCELS.columns, *refused.columns)
            if column not in PARCELS.columns or column not in refused.columns
        ]
        assert any(name in str(error) for name in changed), str(error)
        assert error.advice
        self.crash(process.sink)
        assert self.start(mode, [PARCELS], epoch=FIRST_EPOCH + 1).at == first.upto
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "old", 1)]))


def _wider() -> TableSchema:
    return table(
        "public.parcels", {"id": "int4", "note": "text", "size": "int4", "extra": "text"}, key=["id"], version=2
    )
