"""Tables: making targets, names of every kind, shapes that do not fit, and resets."""

from __future__ import annotations

import pytest

from wallaby.errors import Refused, Superseded
from wallaby.lsn import START
from wallaby.schema import TableName
from wallaby.sink import Severity, WriteMode
from wallaby.testing.changes import insert, table, update
from wallaby.testing.contract.hooks import FIRST_EPOCH, LANE, ORDERS, SinkHooks, raised, story, windows_of
from wallaby.testing.history import row_table

AWKWARD_NAMES = (
    "MixedCase",
    "select",
    'quo"ted',
    "it's",
    "dotted.name",
    "with space",
    "naïve_表",
    "x" * 63,
    "%percent%s",
    "back\\slash",
    "semi;colon--",
)
"""Names PostgreSQL allows and somebody has."""


class TablesContract(SinkHooks):
    """``ensure_table``, ``check`` and ``reset_table``."""

    def test_ensuring_a_table_twice_changes_nothing(self, mode: WriteMode) -> None:
        history = story(2)
        process = self.start(mode, [ORDERS])
        process.apply(history.windows()[0])
        process.sink.ensure_table(ORDERS)
        self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 1)
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1))

    def test_a_new_target_is_empty(self, mode: WriteMode) -> None:
        process = self.start(mode, [ORDERS])
        assert len(self.content(ORDERS, mode)) == 0
        assert not [f for f in process.sink.check((ORDERS,)) if f.severity is Severity.ERROR]

    @pytest.mark.must_not_fail(22)
    def test_names_of_every_kind_arrive_as_they_are(self, mode: WriteMode) -> None:
        schemas = [table(TableName("public", name), {"id": "int8", name: "text"}, key=["id"]) for name in AWKWARD_NAMES]
        schemas.append(table(TableName('Other "schema"', "orders"), {"ID": "int8", "id": "text"}, key=["ID"]))
        schemas.append(table(TableName("public", "orders"), {"order": "int8", "group": "text"}, key=["order"]))
        steps = [(schema, insert(number, schema.name.name)) for number, schema in enumerate(schemas)]
        steps += [(schema, update(number, "new")) for number, schema in enumerate(schemas) if number % 2]
        [window] = windows_of(steps)
        self.start(mode, schemas).apply(window)
        for number, schema in enumerate(schemas):
            row = (number, "new" if number % 2 else schema.name.name)
            self.assert_content(schema, mode, row_table(schema, [row]))

    @pytest.mark.must_not_fail(22)
    def test_key_columns_need_not_come_first(self, mode: WriteMode) -> None:
        schema = table("public.t", {"note": "text", "b": "text", "n": "int4", "a": "int8"}, key=["a", "b"])
        [window] = windows_of(
            [(schema, insert("one", "x", 1, 7)), (schema, insert("two", "y", 2, 7)), (schema, update("1", "x", 1, 7))]
        )
        self.start(mode, [schema]).apply(window)
        self.assert_content(schema, mode, row_table(schema, [("1", "x", 1, 7), ("two", "y", 2, 7)]))

    def test_a_target_of_another_shape_is_refused_with_a_list_and_left_alone(self, mode: WriteMode) -> None:
        if not self.make_misfit(ORDERS):
            pytest.skip("this destination has no targets but its own")
        sink = self.make_sink(mode=mode)
        sink.open()
        errors = [f for f in sink.check((ORDERS,)) if f.severity is Severity.ERROR]
        assert errors, "check() did not find the misfit"
        assert all(f.advice for f in errors), errors
        error = raised(Refused, lambda: sink.ensure_table(ORDERS))
        column = next(c.name for c in ORDERS.columns if not c.is_key)
        assert column in str(error), str(error)
        assert error.advice
        again = self.make_sink(mode=mode)
        again.open()
        assert [f for f in again.check((ORDERS,)) if f.severity is Severity.ERROR], "the target was changed"

    @pytest.mark.must_not_fail(19)
    def test_reset_empties_our_target_and_forgets_the_position(self, mode: WriteMode) -> None:
        if mode is WriteMode.HISTORY:
            return  # what no copy brings back is not emptied: see `HistoryContract`
        history = story(4)
        windows = history.windows()
        process = self.start(mode, [ORDERS])
        for window in windows:
            process.apply(window)
        again = self.make_sink(mode=mode)
        again.open()
        again.recover(LANE, FIRST_EPOCH + 1)
        again.reset_table(ORDERS.name, LANE, FIRST_EPOCH + 1)
        again.reset_lane(LANE, FIRST_EPOCH + 1)
        again.close()
        process = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 2)
        assert process.at == START
        assert len(self.content(ORDERS, mode)) == 0
        for number, window in enumerate(windows, 1):
            process.apply(window)
            self.assert_content(ORDERS, mode, history.expected(ORDERS, number), f"after transaction {number}")

    @pytest.mark.must_not_fail(16, 19)
    def test_reset_empties_our_target_of_rows_that_were_replayed(self, mode: WriteMode) -> None:
        """Dead letters return by a lane of their own (`LaneId.beside`); a new copy brings their rows once more."""
        if mode is WriteMode.HISTORY:
            return  # what no copy brings back is not emptied: see `HistoryContract`
        history = story(2)
        first, second = history.windows()
        self.start(mode, [ORDERS]).apply(first)
        self.start(mode, [ORDERS], lane=LANE.beside).apply(second)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))
        again = self.make_sink(mode=mode)
        again.open()
        for lane in (LANE, LANE.beside):
            again.recover(lane, FIRST_EPOCH + 1)
        again.reset_table(ORDERS.name, LANE, FIRST_EPOCH + 1)
        for lane in (LANE, LANE.beside):
            again.reset_lane(lane, FIRST_EPOCH + 1)
        again.close()
        process = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 2)
        assert len(self.content(ORDERS, mode)) == 0
        process.apply(first)
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1), "after the copy")
        beside = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 2, lane=LANE.beside)
        assert beside.at == START
        beside.apply(second)
        self.assert_content(ORDERS, mode, history.expected(ORDERS), "after a replay")

    def test_reset_of_one_table_leaves_the_others(self, mode: WriteMode) -> None:
        if mode is WriteMode.HISTORY:
            return  # what no copy brings back is not emptied: see `HistoryContract`
        other = table("public.other", {"id": "int8", "note": "text"}, key=["id"])
        process = self.start(mode, [ORDERS, other])
        [window] = windows_of([(ORDERS, insert(1, "a", None, None)), (other, insert(1, "kept"))])
        process.apply(window)
        process.sink.reset_table(ORDERS.name, LANE, FIRST_EPOCH)
        assert len(self.content(ORDERS, mode)) == 0
        self.assert_content(other, mode, row_table(other, [(1, "kept")]))

    @pytest.mark.must_not_fail(20)
    def test_an_older_epoch_cannot_reset(self, mode: WriteMode) -> None:
        history = story(1)
        self.start(mode, [ORDERS], epoch=FIRST_EPOCH).apply(history.windows()[0])
        old = self.make_sink(mode=mode)
        old.open()
        raised(Superseded, lambda: old.reset_table(ORDERS.name, LANE, FIRST_EPOCH - 1))
        raised(Superseded, lambda: old.reset_lane(LANE, FIRST_EPOCH - 1))
        self.assert_content(ORDERS, mode, history.expected(ORDERS))

    def test_rows_that_were_there_before_us_are_never_reset(self, mode: WriteMode) -> None:
        schema = table("public.theirs", {"id": "int8", "note": "text"}, key=["id"])
        rows = row_table(schema, [(1, "theirs")]).select([0, 1])
        if mode is not WriteMode.MIRROR:
            return  # a log of somebody else's is not a log
        if not self.make_foreign(schema, rows):
            pytest.skip("this destination has no targets but its own")
        process = self.start(mode, [schema])
        raised(Refused, lambda: process.sink.reset_table(schema.name, LANE, FIRST_EPOCH))
        self.assert_content(schema, mode, rows)

    @pytest.mark.must_not_fail(6)
    def test_a_copy_begins_in_an_empty_target_somebody_else_made(self, mode: WriteMode) -> None:
        """A flow resets its tables before it ensures them: the first reset meets a target wallaby never saw."""
        schema = table("public.theirs", {"id": "int8", "note": "text"}, key=["id"])
        rows = row_table(schema, [(1, "theirs")]).select([0, 1]).slice(0, 0)
        if mode is not WriteMode.MIRROR:
            return  # a log of somebody else's is not a log
        if not self.make_foreign(schema, rows):
            pytest.skip("this destination has no targets but its own")
        process = self.start(mode, [])
        process.sink.reset_table(schema.name, LANE, FIRST_EPOCH)
        process.sink.ensure_table(schema)
        process.sink.reset_table(schema.name, LANE, FIRST_EPOCH)
        self.assert_content(schema, mode, rows)
