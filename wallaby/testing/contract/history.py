"""History: every version of a row once, with the interval in which it held, however the stream is cut and replayed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from wallaby.errors import ConfigError, Refused
from wallaby.lsn import START
from wallaby.schema import ReplicaIdentity, TableSchema
from wallaby.sink import Guarding, Severity, WriteMode
from wallaby.testing.changes import NewShape, Stream, Truncate, delete, insert, table, update
from wallaby.testing.contract.hooks import FIRST_EPOCH, LANE, PARCELS, VERSIONS, SinkHooks, raised, story, tables_for
from wallaby.testing.history import RandomHistory, row_table
from wallaby.testing.versions import Version, version_table

BIG = "x" * 3000
MODE = WriteMode.HISTORY


class HistoryContract(SinkHooks):
    """What a sink that claims `WriteMode.HISTORY` holds of the past. Others skip it."""

    @pytest.fixture
    def history_mode(self) -> None:
        """Skips the test for a sink without histories."""
        if MODE not in self.modes:
            pytest.skip("the sink does not claim history")

    @pytest.mark.must_not_fail(25)
    @pytest.mark.usefixtures("history_mode")
    def test_a_history_holds_every_version_wherever_the_stream_was_cut(self, seed: int) -> None:
        history = RandomHistory(seed + 100, tables_for(MODE), transactions=20, keys=5)
        choice = random.Random(seed)
        process = self.start(MODE, history.tables)
        process.replay(history.windows(seed), lambda: choice.random() < 0.3)
        for schema in history.tables:
            self.assert_versions(schema, history.stream)

    @pytest.mark.must_not_fail(2, 25)
    @pytest.mark.usefixtures("history_mode")
    def test_a_history_holds_every_version_once_after_crashes(self) -> None:
        """Each window is written by a process that dies after writing or after committing it, and sent again."""
        history = RandomHistory(7, tables_for(MODE), transactions=6, keys=4)
        for epoch, window in enumerate(history.windows(7), FIRST_EPOCH):
            process = self.start(MODE, history.tables, epoch=epoch)
            assert process.at == window.after
            if window.barrier is None:
                process.write(window)
                self.crash(process.sink)
                process = self.start(MODE, history.tables, epoch=epoch)
            process.apply(window)
            self.crash(process.sink)
            again = self.start(MODE, history.tables, epoch=epoch)
            if window.barrier is None:
                again.write(window)
                again.writer.commit(again.token(window.upto, after=window.after))
            else:
                again.writer.apply_barrier(window.barrier, again.token(window.upto, after=window.after))
            self.crash(again.sink)
        for schema in history.tables:
            self.assert_versions(schema, history.stream)

    @pytest.mark.usefixtures("history_mode")
    def test_versions_of_one_transaction_are_kept_with_empty_intervals(self) -> None:
        stream = Stream()
        stream.transaction(
            [
                (PARCELS, insert(1, "a", 1)),
                (PARCELS, update(1, "b", 2)),
                (PARCELS, delete(1)),
                (PARCELS, insert(1, "c", 3)),
            ]
        )
        process = self.start(MODE, [PARCELS])
        for window in stream.windows():
            process.apply(window)
        self.assert_versions(PARCELS, stream)
        found = self.read_history(PARCELS)
        assert sorted(found["size"].to_pylist()) == [1, 2, 3]
        assert found["valid_from"].to_pylist().count(found["valid_from"][0].as_py()) == 3

    @pytest.mark.must_not_fail(8)
    @pytest.mark.usefixtures("history_mode")
    def test_a_changed_key_closes_the_old_one_and_opens_the_new(self) -> None:
        stream = Stream()
        stream.transaction([(PARCELS, insert(1, BIG, 1)), (PARCELS, insert(2, "two", 2))])
        stream.transaction(
            [
                (PARCELS, update(9, None, 1, old=[1], unchanged=["note"])),
                (PARCELS, update(1, "two", 2, old=[2])),
                (PARCELS, update(2, None, 1, old=[9], unchanged=["note"])),
            ]
        )
        stream.transaction([(PARCELS, update(3, None, 5, old=[2], unchanged=["note"]))])
        process = self.start(MODE, [PARCELS])
        for window in stream.windows():
            process.apply(window)
        self.assert_versions(PARCELS, stream)
        self.assert_content(PARCELS, MODE, row_table(PARCELS, [(1, "two", 2), (3, BIG, 5)]))

    @pytest.mark.must_not_fail(7)
    @pytest.mark.usefixtures("history_mode")
    def test_every_version_has_the_toasted_value_it_had(self) -> None:
        stream = Stream()
        stream.transaction([(PARCELS, insert(1, BIG, 1))])
        stream.transaction([(PARCELS, update(1, None, n, unchanged=["note"])) for n in (2, 3)])
        stream.transaction([(PARCELS, update(1, "short", 4)), (PARCELS, update(1, None, 5, unchanged=["note"]))])
        stream.transaction([(PARCELS, update(1, None, 6, unchanged=["note"]))])
        process = self.start(MODE, [PARCELS])
        windows = stream.windows()
        process.apply(windows[0])
        process.write(*windows[1:3])
        process.commit(windows[2].upto)
        process.apply(windows[3])
        self.assert_versions(PARCELS, stream)

    @pytest.mark.must_not_fail(7)
    @pytest.mark.usefixtures("history_mode")
    def test_a_toasted_value_nobody_has_is_refused(self) -> None:
        stream = Stream()
        stream.transaction([(PARCELS, update(1, None, 2, unchanged=["note"]))])
        process = self.start(MODE, [PARCELS])
        [window] = stream.windows()
        with pytest.raises(Refused):
            process.apply(window)
        process.writer.abort()
        assert self.read_history(PARCELS).num_rows == 0

    @pytest.mark.must_not_fail(10)
    @pytest.mark.usefixtures("history_mode")
    def test_truncate_closes_what_is_open_and_keeps_what_was(self) -> None:
        stream = Stream()
        stream.transaction([(PARCELS, insert(1, "a", 1)), (PARCELS, insert(2, "b", 2))])
        stream.transaction([(PARCELS, update(1, "c", 3)), (PARCELS, delete(2)), (PARCELS, insert(3, "d", 4))])
        stream.transaction([Truncate((PARCELS.name,)), (PARCELS, insert(1, "again", 5))])
        process = self.start(MODE, [PARCELS])
        for window in stream.windows():
            process.apply(window)
        self.assert_versions(PARCELS, stream)

    @pytest.mark.must_not_fail(11)
    @pytest.mark.usefixtures("history_mode")
    def test_a_dropped_column_keeps_its_past_and_a_renamed_one_its_values(self) -> None:
        renamed = table("public.parcels", {"id": "int4", "label": "text"}, key=["id"], version=2)
        assert [column.attnum for column in renamed.columns] == [1, 2]
        stream = Stream()
        first = stream.transaction([(PARCELS, insert(1, BIG, 1)), (PARCELS, insert(2, "b", 2))])
        second = stream.transaction([NewShape(renamed), (renamed, update(1, None, unchanged=["label"]))])
        process = self.start(MODE, [PARCELS])
        for window in stream.windows():
            process.apply(window)
        ends = ("u", second.committed_at_us, int(second.commit_lsn), 1)
        began = [("i", first.committed_at_us, int(first.commit_lsn), number) for number in range(2)]
        expected = [Version((1, BIG), began[0], ends), Version((2, "b"), began[1]), Version((1, BIG), ends)]
        self.assert_same_versions(renamed, version_table(renamed, expected, VERSIONS))
        both = self.read_history(
            table("public.parcels", {"id": "int4", "label": "text", "size": "int4"}, key=["id"], version=2)
        )
        sizes = zip(both["valid_from_lsn"].to_pylist(), both["id"].to_pylist(), both["size"].to_pylist(), strict=True)
        assert sorted(sizes) == [
            (int(first.commit_lsn), 1, 1),
            (int(first.commit_lsn), 2, 2),
            (int(second.commit_lsn), 1, None),
        ]

    @pytest.mark.must_not_fail(7, 11)
    @pytest.mark.usefixtures("history_mode")
    def test_a_column_made_again_is_a_new_one_and_may_be_renamed(self) -> None:
        """What was under its name stays the past's. A later rename is known as one, and values not sent are found."""
        name = "public.parcels"
        first = table(name, {"id": "int4", "note": "text"}, key=["id"])
        dropped = table(name, {"id": "int4"}, key=["id"], version=2)
        again = _numbered(table(name, {"id": "int4", "note": "text"}, key=["id"], version=3), note=3)
        renamed = _numbered(table(name, {"id": "int4", "label": "text"}, key=["id"], version=4), label=3)
        stream = Stream()
        stream.transaction([(first, insert(1, "old"))])
        stream.transaction([NewShape(dropped), (dropped, update(1))])
        stream.transaction([NewShape(again), (again, update(1, BIG))])
        last = stream.transaction([NewShape(renamed), (renamed, update(1, None, unchanged=["label"]))])
        process = self.start(MODE, [first])
        for window in stream.windows():
            process.apply(window)
        past = {"id": "int4", "label": "text", "note_dropped": "text"}
        found = self.read_history(table(name, past, key=["id"]))
        begun, labels, notes = (found[column].to_pylist() for column in ("valid_from_lsn", "label", "note_dropped"))
        versions = sorted(zip(begun, labels, notes, strict=True))
        assert [version[1:] for version in versions] == [(None, "old"), (None, None), (BIG, None), (BIG, None)]
        assert int(last.commit_lsn) in begun

    @pytest.mark.must_not_fail(11)
    @pytest.mark.usefixtures("history_mode")
    def test_a_version_open_while_its_column_is_made_again_loses_what_it_had_there(self) -> None:
        """As in the source; and once more, with the name the past's column has been given."""
        name = "public.parcels"
        first = table(name, {"id": "int4", "note": "text", "size": "text"}, key=["id"])
        words = {"id": "int4", "size": "text", "note": "text"}
        again, thrice = (
            _numbered(table(name, words, key=["id"], version=version), size=3, note=version + 2) for version in (2, 3)
        )
        stream = Stream()
        stream.transaction([(first, insert(1, "a", "b")), (first, insert(2, "c", "d"))])
        stream.transaction([NewShape(again), (again, update(2, "d", "e"))])
        stream.transaction([NewShape(thrice)])
        process = self.start(MODE, [first])
        windows = stream.windows()
        for window in windows[:-1]:
            process.apply(window)
        self.assert_content(again, MODE, row_table(again, [(1, "b", None), (2, "d", "e")]))
        process.apply(windows[-1])
        self.assert_content(thrice, MODE, row_table(thrice, [(1, "b", None), (2, "d", None)]))
        past = {"id": "int4", "note": "text", "note_dropped": "text", "note_dropped_2": "text"}
        found = self.read_history(table(name, past, key=["id"]))
        rows = sorted(zip(*(found[column].to_pylist() for column in past), strict=True), key=str)
        assert rows == [(1, None, "a", None), (2, None, "c", None), (2, None, None, "e")]

    @pytest.mark.must_not_fail(11)
    @pytest.mark.usefixtures("history_mode")
    def test_a_column_renamed_to_the_name_of_a_dropped_one_takes_its_values_along(self) -> None:
        name = "public.parcels"
        first = table(name, {"id": "int4", "note": "text", "size": "text"}, key=["id"])
        moved = _numbered(table(name, {"id": "int4", "note": "text"}, key=["id"], version=2), note=3)
        stream = Stream()
        stream.transaction([(first, insert(1, "a", "b")), (first, insert(2, "c", "d"))])
        stream.transaction([NewShape(moved), (moved, update(2, "e"))])
        process = self.start(MODE, [first])
        for window in stream.windows():
            process.apply(window)
        self.assert_content(moved, MODE, row_table(moved, [(1, "b"), (2, "e")]))
        past = {"id": "int4", "note": "text", "note_dropped": "text"}
        found = self.read_history(table(name, past, key=["id"]))
        rows = sorted(zip(*(found[column].to_pylist() for column in past), strict=True), key=str)
        assert rows == [(1, "b", "a"), (2, "d", "c"), (2, "e", None)]

    @pytest.mark.usefixtures("history_mode")
    def test_a_table_without_a_key_is_refused(self) -> None:
        for identity in (ReplicaIdentity.FULL, ReplicaIdentity.NOTHING):
            schema = table("public.keyless", {"n": "int4", "note": "text"}, identity=identity)
            sink = self.make_sink(mode=MODE)
            sink.open()
            with pytest.raises(Refused, match="key"):
                sink.ensure_table(schema)
            assert [f for f in sink.check((schema,)) if f.severity is Severity.ERROR]

    @pytest.mark.must_not_fail(19)
    @pytest.mark.usefixtures("history_mode")
    def test_a_history_is_no_target_of_another_mode(self) -> None:
        """Whoever takes ``write_mode`` out of a flow has a mirror, to which versions are rows to replace and delete."""
        stream = Stream()
        stream.transaction([(PARCELS, insert(1, "a", 1))])
        process = self.start(MODE, [PARCELS])
        [window] = stream.windows()
        process.apply(window)
        self.crash(process.sink)
        for mode in self.modes:
            if mode is not MODE:
                sink = self.make_sink(mode=mode)
                sink.open()
                error = raised(Refused, lambda sink=sink: sink.ensure_table(PARCELS))  # type: ignore[misc]
                assert error.advice
                assert "history" in error.message
                assert [f for f in sink.check((PARCELS,)) if f.severity is Severity.ERROR]
                self.crash(sink)
        self.assert_versions(PARCELS, stream)

    @pytest.mark.usefixtures("history_mode")
    def test_a_column_named_as_one_of_the_history_is_refused(self) -> None:
        schema = table("public.taken", {"id": "int4", "valid_to": "text"}, key=["id"])
        sink = self.make_sink(mode=MODE)
        sink.open()
        assert "history_columns" in raised(ConfigError, lambda: sink.ensure_table(schema)).advice
        assert [f for f in sink.check((schema,)) if f.severity is Severity.ERROR]

    @pytest.mark.must_not_fail(6)
    @pytest.mark.usefixtures("history_mode")
    def test_a_copy_made_again_begins_anew_and_holds_each_row_once(self) -> None:
        stream = Stream()
        stream.copy(PARCELS, [(1, "a", 1), (2, "b", 2)])
        stream.copy(PARCELS, [(3, "c", 3)])
        stream.transaction([(PARCELS, update(1, "d", 4))])
        windows = stream.windows()
        self.start(MODE, [PARCELS]).apply(windows[0])
        again = self.make_sink(mode=MODE)
        again.open()
        again.recover(LANE, FIRST_EPOCH + 1)
        again.reset_table(PARCELS.name, LANE, FIRST_EPOCH + 1)
        again.reset_lane(LANE, FIRST_EPOCH + 1)
        again.close()
        process = self.start(MODE, [PARCELS], epoch=FIRST_EPOCH + 2)
        assert process.at == START
        assert self.read_history(PARCELS).num_rows == 0
        for window in windows:
            process.apply(window)
        self.assert_versions(PARCELS, stream)

    @pytest.mark.must_not_fail(19)
    @pytest.mark.usefixtures("history_mode")
    def test_a_history_no_copy_brings_back_is_not_emptied(self) -> None:
        history = story(3)
        [schema] = history.tables
        process = self.start(MODE, [schema])
        for window in history.windows():
            process.apply(window)
        error = raised(Refused, lambda: process.sink.reset_table(schema.name, LANE, FIRST_EPOCH))
        assert error.advice
        assert isinstance(process.sink, Guarding)
        with pytest.raises(Refused):
            process.sink.require_resettable(schema.name)
        self.assert_versions(schema, history.stream)


def _numbered(schema: TableSchema, **numbers: int) -> TableSchema:
    """``schema`` with other attribute numbers for some columns."""
    columns = tuple(replace(column, attnum=numbers.get(column.name, column.attnum)) for column in schema.columns)
    return replace(schema, columns=columns)
