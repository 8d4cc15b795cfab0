"""The contract notices: each sink here is the reference sink with one mistake somebody made, and fails for it."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.wallaby.testing.memory_hooks import MemoryHooks
from wallaby.schema import TableSchema
from wallaby.sink import WriteMode
from wallaby.testing import memory_sink
from wallaby.testing.memory_sink import LaneRecord, MemorySink, MemoryWriter, apply_plan
from wallaby.testing.sink_contract import SinkContract
from wallaby.transform.append import append_rows
from wallaby.transform.mirror import MirrorPlan, MultisetPlan, Patch, plan
from wallaby.window import Barrier, CommitToken, LaneId, Receipt, Window


class IgnoresAfter(MemoryWriter):
    """Applies whatever it has, wherever the record stands."""

    def _is_applied(self, token: CommitToken) -> bool:
        return False


class AppliesRepeats(MemoryWriter):
    """Checks for gaps, but not for a commit that was applied before."""

    def _is_applied(self, token: CommitToken) -> bool:
        super()._is_applied(token)
        return False


class IgnoresEpochs(MemorySink):
    """Lets every epoch do everything."""

    def record(self, lane: LaneId) -> LaneRecord:
        return replace(super().record(lane), epoch=0)


class WritesAtOnce(MemoryWriter):
    """Makes rows visible when they are written, the position later."""

    def write(self, window: Window) -> None:
        super().write(window)
        targets = dict(self._sink.destination.targets)
        for name, (schema, tables) in self._staged.items():
            targets[name] = replace(targets[name], rows=self._applied(targets[name], schema, pa.concat_tables(tables)))
        self._sink.destination.targets = targets
        self._staged = {}


class KeepsWhatWasAborted(MemoryWriter):
    """Abort does nothing."""

    def abort(self) -> None:
        if self._is_committing:
            super().abort()

    _is_committing = False

    def commit(self, token: CommitToken) -> Receipt:
        self._is_committing = True
        try:
            return super().commit(token)
        finally:
            self._is_committing = False


class PositionFirst(MemoryWriter):
    """Forgets the data of a window when only the position is stored."""

    def _finish(self, token: CommitToken, targets: Any) -> None:
        super()._finish(token, self._sink.destination.targets)


class TruncatesTwice(MemoryWriter):
    """Applies a barrier without looking at the record."""

    def apply_barrier(self, barrier: Barrier, token: CommitToken) -> Receipt:
        return IgnoresAfter.apply_barrier(self, barrier, token)

    def _is_applied(self, token: CommitToken) -> bool:
        return token.rows > 0 and super()._is_applied(token)


class PlanChanged(MemoryWriter):
    """Applies a plan that lost something."""

    def _applied(self, target: Any, schema: TableSchema, changes: pa.Table) -> pa.Table:
        if self._sink.mode is WriteMode.APPEND:
            return super()._applied(target, schema, changes)
        return self.applied(target.rows, plan(schema, changes))

    def applied(self, rows: pa.Table, net: Any) -> pa.Table:
        return apply_plan(rows, net)


class NullsUnchangedColumns(PlanChanged):
    """Writes the null of an unchanged TOAST column as if it were data."""

    def applied(self, rows: pa.Table, net: Any) -> pa.Table:
        if isinstance(net, MirrorPlan):
            everything = [net.upserts, *(patch.rows for patch in net.patches)]
            net = replace(net, upserts=pa.concat_tables(everything), patches=())
        return apply_plan(rows, net)


class DeletesAfterUpserts(PlanChanged):
    """Deletes the old key of every move last, in the order of the stream of deletes."""

    def _applied(self, target: Any, schema: TableSchema, changes: pa.Table) -> pa.Table:
        if self._sink.mode is WriteMode.APPEND or not schema.has_key:
            return super()._applied(target, schema, changes)
        rows = apply_plan(target.rows, plan(schema, changes))
        old = [schema.columns[i].name for i in schema.key]
        sent = changes.filter(changes["before"].is_valid())["before"].combine_chunks()
        keys = pa.table([sent.field(i) for i in range(len(old))], names=old)
        return memory_sink._without(rows, keys, schema.key)


class ForgetsOldKeys(PlanChanged):
    """Upserts a moved row without deleting where it was."""

    def applied(self, rows: pa.Table, net: Any) -> pa.Table:
        return apply_plan(rows, replace(net, deletes=net.deletes.slice(0, 0)) if isinstance(net, MirrorPlan) else net)


class ReadsMovedRowsTooLate(PlanChanged):
    """Fills the missing columns of moved rows from the row that stands at the new key."""

    def applied(self, rows: pa.Table, net: Any) -> pa.Table:
        if not isinstance(net, MirrorPlan):
            return apply_plan(rows, net)
        key = list(net.schema.key)
        patches = [replace(patch, origin=_known(patch, rows, key)) for patch in net.patches]
        return apply_plan(rows, replace(net, patches=tuple(patches)))


def _known(patch: Patch, rows: pa.Table, key: list[int]) -> pa.Table:
    new = patch.rows.select(key)
    gone = memory_sink._without(new, rows.select(key), tuple(range(len(key))))
    return patch.origin if len(gone) else new


class TreatsEqualRowsAsOne(PlanChanged):
    """Deletes every copy of a deleted row of a table without a key."""

    def applied(self, rows: pa.Table, net: Any) -> pa.Table:
        if isinstance(net, MultisetPlan):
            width = len(net.schema.columns)
            rows = memory_sink._without(rows, net.deletes, tuple(range(width)))
            net = replace(net, deletes=net.deletes.slice(0, 0))
        return apply_plan(rows, net)


class DropsOutliers(MemoryWriter):
    """Stores null for what the Arrow type cannot hold, and says nothing."""

    def write(self, window: Window) -> None:
        super().write(window)
        for schema, tables in self._staged.values():
            last = tables[-1]
            at = last.schema.get_field_index("outliers")
            empty = pa.nulls(len(last), last.schema.field(at).type)
            tables[-1] = last.set_column(at, last.schema.field(at), empty)
            assert schema.columns


class SwapsTheLog(MemoryWriter):
    """Logs a moved row as one update and forgets the row at the old key."""

    def _applied(self, target: Any, schema: TableSchema, changes: pa.Table) -> pa.Table:
        if self._sink.mode is WriteMode.MIRROR:
            return super()._applied(target, schema, changes)
        at = changes.schema.get_field_index("before")
        kept = changes.filter(pc.not_equal(changes["op"], ord("d")))
        empty = pa.nulls(len(kept), kept.schema.field(at).type)
        deletes = changes.filter(pc.equal(changes["op"], ord("d")))
        whole = pa.concat_tables([deletes, kept.set_column(at, changes.schema.field(at), empty)])
        return pa.concat_tables([target.rows, append_rows(schema, whole, keep_outliers=True)])


class ResetsAnything(MemorySink):
    """Empties targets it did not make."""

    def reset_table(self, table: Any, lane: LaneId, epoch: int) -> None:
        target = self.destination.targets[table]
        self.destination.targets = {**self.destination.targets, table: replace(target, is_ours=True)}
        super().reset_table(table, lane, epoch)


class TakesAnyShape(MemorySink):
    """Never compares the target's shape."""

    def check(self, tables: tuple[TableSchema, ...] = ()) -> list[Any]:
        return []


class ForgetsOtherLanes(MemorySink):
    """One record for all lanes."""

    def record(self, lane: LaneId) -> LaneRecord:
        return next(iter(self.destination.lanes.values()), LaneRecord(0, super().record(lane).position))


Broken = type[MemoryWriter] | type[MemorySink]

BROKEN: dict[Broken, str] = {
    IgnoresAfter: "a_gap_in_the_stream_is_superseded",
    AppliesRepeats: "a_repeated_token_returns_the_same_receipt",
    IgnoresEpochs: "a_writer_of_an_older_epoch_cannot_commit",
    WritesAtOnce: "nothing_is_visible_before_the_commit",
    KeepsWhatWasAborted: "abort_forgets_what_was_written",
    PositionFirst: "a_commit_moves_the_record",
    TruncatesTwice: "a_repeated_truncate_changes_nothing",
    NullsUnchangedColumns: "unchanged_toast_is_never_null",
    DeletesAfterUpserts: "keys_swapped_in_one_transaction",
    ForgetsOldKeys: "a_key_change_removes_the_old_row",
    ReadsMovedRowsTooLate: "keys_swapped_in_one_transaction",
    TreatsEqualRowsAsOne: "a_table_without_a_key_keeps_equal_rows_apart",
    DropsOutliers: "values_no_arrow_type_holds",
    SwapsTheLog: "a_key_change_removes_the_old_row",
    ResetsAnything: "rows_that_were_there_before_us",
    TakesAnyShape: "a_target_of_another_shape_is_refused",
    ForgetsOtherLanes: "lanes_have_records_of_their_own",
}
"""Each mistake, and the test made for it."""


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize("broken", list(BROKEN), ids=lambda broken: broken.__name__)
def test_a_broken_sink_fails_the_test_made_for_its_mistake(broken: Broken) -> None:
    assert _fails(broken, BROKEN[broken]), f"the contract did not notice a sink that {broken.__doc__}"


@pytest.mark.must_not_fail(25)
@pytest.mark.parametrize(
    "broken",
    [NullsUnchangedColumns, DeletesAfterUpserts, ForgetsOldKeys, ReadsMovedRowsTooLate, SwapsTheLog],
    ids=lambda broken: broken.__name__,
)
def test_random_histories_notice_wrong_mirrors_on_their_own(broken: Broken) -> None:
    assert _fails(broken, "a_random_history_ends_at_the_content_of_the_source")


def test_the_sound_sink_passes_what_the_broken_ones_fail() -> None:
    for name in set(BROKEN.values()):
        assert not _fails(MemorySink, name), name


def _fails(broken: Broken, name: str) -> bool:
    """Whether any case of the contract's test ``name`` fails for the sink."""
    [test] = [member for key, member in inspect.getmembers(SinkContract) if key.startswith(f"test_{name}")]
    return any(_case_fails(broken, test, case) for case in _cases(test))


def _cases(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Every combination of arguments pytest would call ``test`` with."""
    names = set(inspect.signature(test).parameters) - {"self"}
    axes: list[list[dict[str, Any]]] = []
    if "mode" in names:
        axes.append([{"mode": mode} for mode in WriteMode])
    if "seed" in names:
        axes.append([{"seed": seed} for seed in range(SinkContract.seeds)])
    for mark in getattr(test, "pytestmark", []):
        if mark.name == "parametrize":
            keys = mark.args[0] if isinstance(mark.args[0], tuple) else (mark.args[0],)
            rows = [row if isinstance(row, tuple) else (row,) for row in mark.args[1]]
            axes.append([dict(zip(keys, row, strict=True)) for row in rows])
    for parts in itertools.product(*axes):
        yield {key: value for part in parts for key, value in part.items()}


def _case_fails(broken: Broken, test: Callable[..., None], case: dict[str, Any]) -> bool:
    contract = _contract(broken)
    contract.setup_method()
    try:
        test(contract, **case)
    except pytest.skip.Exception:
        return False
    except (Exception, pytest.fail.Exception):  # noqa: BLE001  # any failure is what is asked for
        return True
    return False


def _contract(broken: Broken) -> MemoryHooks:
    class Contract(MemoryHooks, SinkContract):
        def make_sink(self, *, mode: WriteMode) -> MemorySink:
            if issubclass(broken, MemorySink):
                return broken(self.destination, mode=mode)
            writer = broken

            class Sink(MemorySink):
                def writer(self, lane: LaneId, epoch: int) -> MemoryWriter:
                    return writer(self, lane, epoch)

            return Sink(self.destination, mode=mode)

    return Contract()
