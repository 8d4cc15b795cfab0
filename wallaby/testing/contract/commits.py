"""Commits: the compare-and-set, crashes around it, and two writers at once."""

from __future__ import annotations

import pyarrow as pa
import pytest

from wallaby.errors import Refused, Superseded
from wallaby.lsn import START, Position
from wallaby.sink import Rehearsing, WriteMode
from wallaby.testing.changes import insert
from wallaby.testing.contract.hooks import (
    FIRST_EPOCH,
    LANE,
    ORDERS,
    PARCELS,
    SinkHooks,
    beyond,
    raised,
    story,
    windows_of,
)
from wallaby.testing.history import row_table
from wallaby.window import LaneId


class CommitContract(SinkHooks):
    """What a commit does to the data and the lane's record, and when it must not."""

    def test_a_lane_nobody_used_stands_at_the_start(self, mode: WriteMode) -> None:
        assert self.start(mode).at == START

    def test_nothing_is_visible_before_the_commit_and_all_is_after(self, mode: WriteMode) -> None:
        process = self.start(mode, [ORDERS, PARCELS])
        windows = windows_of(
            [(ORDERS, insert(1, "a", None, None)), (PARCELS, insert(1, "p", 1))], [(ORDERS, insert(2, "b", None, None))]
        )
        process.write(*windows)
        assert len(self.content(ORDERS, mode)) == 0
        assert len(self.content(PARCELS, mode)) == 0
        process.commit(windows[-1].upto)
        self.assert_content(ORDERS, mode, row_table(ORDERS, [(1, "a", None, None), (2, "b", None, None)]))
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "p", 1)]))

    def test_a_commit_moves_the_record_a_new_process_finds(self, mode: WriteMode) -> None:
        history = story()
        process = self.start(mode, [ORDERS])
        for number, window in enumerate(history.windows(), 1):
            process.apply(window)
            assert self.start(mode, epoch=FIRST_EPOCH).at == window.upto
            self.assert_content(ORDERS, mode, history.expected(ORDERS, number), f"after transaction {number}")

    @pytest.mark.must_not_fail(16)
    def test_a_rehearsal_leaves_nothing_behind_and_spares_nothing(self, mode: WriteMode) -> None:
        """Rehearsed and dropped: nothing. Rehearsed, and rehearsed with more, and committed: everything once."""
        process = self.start(mode, [ORDERS])
        if not isinstance(process.writer, Rehearsing):
            pytest.skip("this sink refuses rows when they are written, or takes them all")
        first, second = windows_of([(ORDERS, insert(1, "a", None, None))], [(ORDERS, insert(2, "b", None, None))])
        process.write(first)
        process.writer.rehearse()
        assert len(self.content(ORDERS, mode)) == 0
        process.writer.abort()
        for window in (first, second):
            process.write(window)
            process.writer.rehearse()
        process.commit(second.upto)
        self.assert_content(ORDERS, mode, row_table(ORDERS, [(1, "a", None, None), (2, "b", None, None)]))

    @pytest.mark.must_not_fail(1)
    def test_a_token_with_nothing_written_moves_only_the_record(self, mode: WriteMode) -> None:
        history = story(1)
        process = self.start(mode, [ORDERS])
        process.apply(history.windows()[0])
        further = beyond(process.at)
        process.commit(further)
        assert self.start(mode, epoch=FIRST_EPOCH + 1).at == further
        self.assert_content(ORDERS, mode, history.expected(ORDERS))

    @pytest.mark.must_not_fail(2)
    def test_a_repeated_token_returns_the_same_receipt_and_changes_nothing(self, mode: WriteMode) -> None:
        history = story(2)
        window, following = history.windows()
        process = self.start(mode, [ORDERS])
        process.write(window)
        token = process.token(window.upto)
        receipt = process.writer.commit(token)
        again = self.start(mode, [ORDERS], epoch=FIRST_EPOCH)
        again.write(window)
        assert again.writer.commit(token) == receipt
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1))
        again.staged_rows = 0
        again.apply(following)
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 2), "after the window that followed the repeat")
        if mode is WriteMode.APPEND:
            self.assert_log_holds_each_change_once(ORDERS)

    @pytest.mark.must_not_fail(2)
    def test_a_gap_in_the_stream_is_superseded(self, mode: WriteMode) -> None:
        history = story(3)
        first, second, third = history.windows()
        process = self.start(mode, [ORDERS])
        process.apply(first)
        process.apply(second)
        process.write(third)
        raised(Superseded, lambda: process.writer.commit(process.token(third.upto, after=first.upto)))
        process.writer.abort()
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 2))
        assert self.start(mode, epoch=FIRST_EPOCH + 1).at == second.upto

    @pytest.mark.must_not_fail(3)
    def test_a_destination_that_went_back_in_time_is_refused(self, mode: WriteMode) -> None:
        history = story(3)
        first, second, third = history.windows()
        process = self.start(mode, [ORDERS])
        process.apply(first)
        process.write(third)
        error = raised(Refused, lambda: process.writer.commit(process.token(third.upto, after=second.upto)))
        assert error.advice
        process.writer.abort()
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1))
        assert self.start(mode, epoch=FIRST_EPOCH + 1).at == first.upto

    def test_abort_forgets_what_was_written_and_the_writer_goes_on(self, mode: WriteMode) -> None:
        one, two, three = windows_of(*[[(PARCELS, insert(n, "a", n))] for n in (1, 2, 3)])
        process = self.start(mode, [PARCELS])
        process.write(one, two)
        process.writer.abort()
        process.writer.abort()
        process.staged_rows = 0
        assert len(self.content(PARCELS, mode)) == 0
        process.write(three)
        process.commit(three.upto)
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(3, "a", 3)]))

    def test_a_table_made_between_a_write_and_its_commit_leaves_the_write_alone(self, mode: WriteMode) -> None:
        process = self.start(mode, [ORDERS])
        first, second = windows_of([(ORDERS, insert(1, "a", None, None))], [(PARCELS, insert(1, "p", 1))])
        process.write(first)
        process.sink.ensure_table(PARCELS)
        assert len(self.content(ORDERS, mode)) == 0
        process.write(second)
        process.commit(second.upto)
        self.assert_content(ORDERS, mode, row_table(ORDERS, [(1, "a", None, None)]))
        self.assert_content(PARCELS, mode, row_table(PARCELS, [(1, "p", 1)]))

    def test_lanes_have_records_of_their_own(self, mode: WriteMode) -> None:
        history = story(1)
        window = history.windows()[0]
        self.start(mode, [ORDERS]).apply(window)
        for lane in (LaneId("contract", "target", 1, 2), LaneId("contract", "else"), LaneId("other", "target")):
            assert self.start(mode, lane=lane).at == START, lane
        assert self.start(mode, epoch=FIRST_EPOCH + 1).at == window.upto

    def test_positions_inside_transactions_and_snapshots_are_kept_exactly(self, mode: WriteMode) -> None:
        process = self.start(mode, [ORDERS])
        for position in (
            Position.parse("0" * 16 + ".0000000000000007"),
            Position.parse("FFFFFFFFFFFFFFF0.8000000000000000"),
        ):
            process.commit(position)
            assert self.start(mode, epoch=FIRST_EPOCH).at == position


class CrashContract(SinkHooks):
    """SIGKILL at every place around a commit: afterwards everything is there once."""

    @pytest.mark.must_not_fail(2)
    def test_a_crash_after_write_leaves_nothing_and_the_replay_everything_once(self, mode: WriteMode) -> None:
        history = story(3)
        first, second, third = history.windows()
        process = self.start(mode, [ORDERS])
        process.apply(first)
        process.write(second)
        self.crash(process.sink)
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1), "after the crash")
        process = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 1)
        assert process.at == first.upto
        process.apply(second)
        process.apply(third)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))
        if mode is WriteMode.APPEND:
            self.assert_log_holds_each_change_once(ORDERS)

    @pytest.mark.must_not_fail(2)
    def test_a_crash_after_commit_leaves_everything_and_a_replay_changes_nothing(self, mode: WriteMode) -> None:
        history = story(3)
        first, second, third = history.windows()
        process = self.start(mode, [ORDERS])
        process.apply(first)
        process.write(second)
        receipt = process.commit(second.upto)
        self.crash(process.sink)
        again = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 1)
        assert again.at == second.upto
        again.write(second)
        assert again.writer.commit(again.token(second.upto, after=first.upto)) == receipt
        again.staged_rows = 0
        again.apply(third)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))
        if mode is WriteMode.APPEND:
            self.assert_log_holds_each_change_once(ORDERS)

    @pytest.mark.must_not_fail(25)
    @pytest.mark.parametrize("seed_of_crashes", [0, 3, 6])
    def test_a_crash_after_each_window_in_turn_converges(self, mode: WriteMode, seed_of_crashes: int) -> None:
        seed = seed_of_crashes
        history = story(5, seed=seed)
        windows = history.windows(seed)
        for epoch, window in enumerate(windows, FIRST_EPOCH):
            process = self.start(mode, [ORDERS], epoch=epoch)
            assert process.at == window.after
            process.write(window)
            if epoch % 2:
                self.crash(process.sink)
                process = self.start(mode, [ORDERS], epoch=epoch)
                process.write(window)
            process.commit(window.upto)
            self.crash(process.sink)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))


class RaceContract(SinkHooks):
    """Two writers never both win."""

    @pytest.mark.must_not_fail(20)
    def test_a_writer_of_an_older_epoch_cannot_commit(self, mode: WriteMode) -> None:
        history = story(2)
        first, second = history.windows()
        zombie = self.start(mode, [ORDERS], epoch=FIRST_EPOCH)
        zombie.write(first)
        owner = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 1)
        raised(Superseded, lambda: zombie.writer.commit(zombie.token(first.upto)))
        assert len(self.content(ORDERS, mode)) == 0
        self.crash(zombie.sink)
        owner.apply(first)
        owner.apply(second)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))

    @pytest.mark.must_not_fail(20)
    def test_a_zombie_that_wakes_after_the_owner_committed_changes_nothing(self, mode: WriteMode) -> None:
        history = story(3)
        first, second, third = history.windows()
        zombie = self.start(mode, [ORDERS], epoch=FIRST_EPOCH)
        zombie.apply(first)
        zombie.write(second)
        owner = self.start(mode, [ORDERS], epoch=FIRST_EPOCH + 1)
        owner.apply(second)
        raised(Superseded, lambda: zombie.writer.commit(zombie.token(second.upto)))
        zombie.writer.abort()
        self.crash(zombie.sink)
        owner.apply(third)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))
        if mode is WriteMode.APPEND:
            self.assert_log_holds_each_change_once(ORDERS)

    @pytest.mark.must_not_fail(20)
    def test_an_older_epoch_cannot_recover(self, mode: WriteMode) -> None:
        self.start(mode, epoch=FIRST_EPOCH)
        sink = self.make_sink(mode=mode)
        sink.open()
        raised(Superseded, lambda: sink.recover(LANE, FIRST_EPOCH - 1))

    @pytest.mark.must_not_fail(20)
    def test_of_two_writers_of_one_epoch_only_one_wins(self, mode: WriteMode) -> None:
        history = story(2)
        first, second = history.windows()
        one = self.start(mode, [ORDERS])
        two = self.start(mode, [ORDERS])
        one.write(first)
        two.write(first, second)
        one.commit(first.upto)
        raised(Superseded, lambda: two.writer.commit(two.token(second.upto)))
        two.writer.abort()
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 1))
        self.crash(two.sink)
        one.apply(second)
        self.assert_content(ORDERS, mode, history.expected(ORDERS, 2))

    @pytest.mark.must_not_fail(20)
    def test_two_writers_of_one_epoch_with_the_same_window_apply_it_once(self, mode: WriteMode) -> None:
        [window] = windows_of([(ORDERS, insert(n, "a", None, None)) for n in range(50)])
        one = self.start(mode, [ORDERS])
        two = self.start(mode, [ORDERS])
        one.write(window)
        two.write(window)
        assert one.commit(window.upto) == two.commit(window.upto)
        expected: pa.Table = row_table(ORDERS, [(n, "a", None, None) for n in range(50)])
        self.assert_content(ORDERS, mode, expected)
        if mode is WriteMode.APPEND:
            self.assert_log_holds_each_change_once(ORDERS)
