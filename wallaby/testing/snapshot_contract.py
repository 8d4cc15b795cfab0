"""The part of the control-store contract about copies: who asked for one, and how far they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from wallaby.errors import ConfigError, Fenced, IllegalMove, NotFound
from wallaby.flow import EndpointSpec, FlowSpec
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import TableName
from wallaby.snapshot.progress import CopyState, TableCopy
from wallaby.store.port import SnapshotStatus, Store
from wallaby.store.snapshots import Snapshot
from wallaby.testing.store_case import StoreCase

_NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
_LSN = Lsn(0x1000)
_IDENTITY = {"system_identifier": "1"}


def _a_flow(flow_id: str = "shop") -> FlowSpec:
    return FlowSpec(
        id=flow_id,
        name=flow_id,
        source=EndpointSpec(type="postgres", options={"dsn": "env:SHOP_DSN"}),
        destinations=(EndpointSpec(name="copy", type="duckdb", options={"dsn": "copy.duckdb"}),),
    )


def _tables(count: int, *, epoch: int = 1) -> list[TableCopy]:
    """Names that need quotes and dots, in an order that is not that of the alphabet."""
    return [
        TableCopy(
            table=TableName('Sch.ema"', f"t {count - number} é"),
            number=number,
            epoch=epoch,
            snapshot_lsn=_LSN,
            estimated_rows=100,
            estimated_bytes=8192,
        )
        for number in range(count)
    ]


def _begun(store: Store, flow_id: str = "shop", *, epoch: int = 1) -> None:
    assert store.begin_epoch(flow_id).epoch == epoch
    store.begin_copy(flow_id, epoch, slot="slot", identity=_IDENTITY)


def _running(store: Store, flow_id: str = "shop") -> None:
    store.create_flow(_a_flow(flow_id), state=FlowState.RUNNING)


class RequestContract(StoreCase):
    """A new copy that is asked for."""

    @pytest.mark.must_not_fail(3)
    def test_a_copy_asked_for_is_due_until_it_begins_whatever_dies_in_between(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        """A run that ends before its copy begins must not turn the wish into an ordinary resume."""
        store.create_flow(_a_flow())
        assert (store.copy_due("shop"), store.copy_due("nobody")) == (0, 0)
        asked = store.move_flow("shop", Command.RESNAPSHOT, "lost the slot")
        assert (asked.state, asked.is_copy_wanted) == (FlowState.RUNNING, True)
        for _ in range(2):
            store.begin_epoch("shop")
            assert make_store().copy_due("shop") == 1
        store.move_flow("shop", Command.FAIL, "it broke")
        store.move_flow("shop", Command.START)
        epoch = store.begin_epoch("shop").epoch
        store.begin_copy("shop", epoch, slot="slot", identity=_IDENTITY)
        assert store.copy_due("shop") == 0
        assert not make_store().get_flow("shop").is_copy_wanted

    def test_a_copy_asked_of_a_running_flow_is_no_new_run_of_it(self, store: Store) -> None:
        """A driver that gave the flow up to another one would otherwise take it back."""
        store.create_flow(_a_flow())
        running = store.move_flow("shop", Command.START)
        assert store.move_flow("shop", Command.RESNAPSHOT).updated_at == running.updated_at

    def test_a_fenced_run_does_not_take_the_wish_with_it(self, store: Store) -> None:
        store.create_flow(_a_flow())
        store.move_flow("shop", Command.RESNAPSHOT)
        store.begin_epoch("shop")
        store.begin_epoch("shop")
        with pytest.raises(Fenced):
            store.begin_copy("shop", 1, slot="slot", identity=_IDENTITY)
        assert store.copy_due("shop") == 1

    def test_a_wish_given_again_changes_nothing_before_its_copy_begins_and_is_another_one_after(
        self, store: Store
    ) -> None:
        _running(store)
        first = store.move_flow("shop", Command.RESNAPSHOT, "please")
        version = store.version()
        assert store.move_flow("shop", Command.RESNAPSHOT, "please, please") == first
        assert store.version() == version
        _begun(store)
        store.move_flow("shop", Command.RESNAPSHOT, "once more")
        assert store.copy_due("shop") == 2
        commands = [event.command for event in store.state_events("shop")]
        assert commands == [Command.RESNAPSHOT, Command.RESNAPSHOT, None]

    def test_a_flow_that_ran_up_to_some_position_runs_on_after_a_new_copy_unless_it_still_runs(
        self, store: Store
    ) -> None:
        store.create_flow(_a_flow())
        store.move_flow("shop", Command.RUN_ONCE)
        assert store.move_flow("shop", Command.RESNAPSHOT).run_once
        store.move_flow("shop", Command.FINISH)
        _begun(store)
        assert not store.move_flow("shop", Command.RESNAPSHOT).run_once

    @pytest.mark.parametrize("state", list(FlowState))
    def test_a_wish_is_taken_back_only_while_nobody_may_have_been_told_of_it(
        self, store: Store, state: FlowState
    ) -> None:
        store.create_flow(_a_flow())
        asked = store.move_flow("shop", Command.RESNAPSHOT)
        ways = {
            FlowState.STOPPING: (Command.STOP,),
            FlowState.PAUSED: (Command.STOP, Command.FINISH),
            FlowState.STOPPED: (Command.FINISH,),
            FlowState.FAILED: (Command.FAIL,),
        }
        for command in ways.get(state, ()):
            asked = store.move_flow("shop", command)
        if asked.state in (FlowState.RUNNING, FlowState.STOPPING):
            with pytest.raises(IllegalMove):
                store.cancel_copy("shop")
            assert store.copy_due("shop") == 1
            return
        kept = store.cancel_copy("shop")
        assert (kept.state, kept.is_copy_wanted, store.copy_due("shop")) == (asked.state, False, 0)
        assert "cancelled" in store.state_events("shop")[0].reason
        version = store.version()
        assert store.cancel_copy("shop") == kept
        assert store.version() == version
        store.move_flow("shop", Command.RESNAPSHOT)
        assert store.copy_due("shop") == 2, "a later wish has a number of its own"

    def test_there_is_nothing_to_take_back_of_a_flow_that_does_not_exist(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.cancel_copy("nope")

    def test_a_flow_made_again_under_the_same_id_inherits_no_wish(self, store: Store) -> None:
        store.create_flow(_a_flow())
        store.move_flow("shop", Command.RESNAPSHOT)
        store.move_flow("shop", Command.FAIL)
        store.delete_flow("shop")
        store.create_flow(_a_flow())
        assert store.copy_due("shop") == 0


class ProgressContract(StoreCase):
    """How far a copy is."""

    def test_a_flow_that_never_copied_has_no_snapshot(self, store: Store) -> None:
        with pytest.raises(NotFound):
            store.get_snapshot("shop")
        store.create_flow(_a_flow())
        store.begin_epoch("shop")
        with pytest.raises(NotFound):
            store.get_snapshot("shop")
        assert store.list_snapshots().snapshots == ()
        assert store.list_table_copies("shop").tables == ()

    def test_figures_come_back_as_they_were_noted(self, store: Store, make_store: Callable[[], Store]) -> None:
        _running(store)
        _begun(store)
        assert store.get_snapshot("shop") == Snapshot(flow_id="shop", state=CopyState.PENDING, is_wanted=False, epoch=1)
        first, second, third = _tables(3)
        store.note_copy("shop", 1, [first, second, third])
        first = replace(
            first,
            state=CopyState.COPIED,
            rows=120,
            bytes=1 << 40,
            started_at=_NOON,
            updated_at=_NOON + timedelta(seconds=1),
            finished_at=_NOON + timedelta(seconds=1),
        )
        second = replace(
            second,
            state=CopyState.COPYING,
            rows=30,
            bytes=5,
            started_at=_NOON + timedelta(seconds=1),
            updated_at=_NOON + timedelta(seconds=1, microseconds=5),
        )
        store.note_copy("shop", 1, [first, second])
        assert make_store().list_table_copies("shop").tables == (first, second, third)
        assert make_store().get_snapshot("shop") == Snapshot(
            flow_id="shop",
            state=CopyState.COPYING,
            is_wanted=False,
            epoch=1,
            snapshot_lsn=_LSN,
            tables=3,
            tables_done=1,
            expected_rows=120 + 100 + 100,
            rows=150,
            bytes=(1 << 40) + 5,
            started_at=_NOON,
            updated_at=second.updated_at,
        )

    def test_a_copy_is_consistent_only_once_the_stream_has_reached_its_snapshot(self, store: Store) -> None:
        _running(store)
        _begun(store)
        tables = [replace(item, state=CopyState.COPIED, rows=7, finished_at=_NOON) for item in _tables(2)]
        store.note_copy("shop", 1, tables)
        assert _states(store) == (CopyState.COPYING, {CopyState.COPIED})
        store.finish_copy("shop", 1, tables)
        assert _states(store) == (CopyState.COPIED, {CopyState.COPIED})
        store.commit_checkpoint("shop", epoch=1, after=START, upto=Position(_LSN), lanes={})
        assert _states(store) == (CopyState.CONSISTENT, {CopyState.CONSISTENT})
        assert store.get_snapshot("shop").finished_at == _NOON
        assert store.get_snapshot("shop").expected_rows == 14
        store.begin_epoch("shop")
        store.move_flow("shop", Command.FAIL)
        assert _states(store) == (CopyState.CONSISTENT, {CopyState.CONSISTENT}), "it stays so over runs"
        found = store.get_snapshot_state("shop")
        assert found is not None
        assert (found.status, found.slot) == (SnapshotStatus.DONE, "slot")

    @pytest.mark.must_not_fail(6)
    @pytest.mark.parametrize("end", ["another run", "failed", "paused"])
    def test_a_copy_whose_run_is_over_has_failed_and_nobody_had_to_say_so(self, store: Store, end: str) -> None:
        _running(store)
        _begun(store)
        store.note_copy("shop", 1, [replace(_tables(1)[0], state=CopyState.COPYING, rows=5)])
        store.move_flow("shop", Command.STOP)
        assert _states(store) == (CopyState.COPYING, {CopyState.COPYING}), "it still drains"
        match end:
            case "another run":
                store.begin_epoch("shop")
            case "failed":
                store.move_flow("shop", Command.FAIL)
            case _:
                store.move_flow("shop", Command.FINISH)
        assert _states(store) == (CopyState.FAILED, {CopyState.FAILED})

    def test_a_copy_that_begins_anew_forgets_the_figures_of_the_one_before(self, store: Store) -> None:
        _running(store)
        _begun(store)
        store.note_copy("shop", 1, _tables(5))
        store.begin_copy("shop", 1, slot="slot", identity=_IDENTITY)
        assert store.list_table_copies("shop").tables == ()
        store.note_copy("shop", 1, _tables(2))
        assert store.get_snapshot("shop").tables == 2

    @pytest.mark.must_not_fail(20)
    def test_an_older_run_can_note_nothing_and_finish_nothing(self, store: Store) -> None:
        _running(store)
        _begun(store)
        _begun(store, epoch=2)
        for note in (store.note_copy, store.finish_copy):
            with pytest.raises(Fenced):
                note("shop", 1, _tables(1))
        assert store.list_table_copies("shop").tables == ()
        found = store.get_snapshot_state("shop")
        assert found is not None
        assert found.status is SnapshotStatus.COPYING

    def test_a_wanted_copy_shows_beside_the_present_one_and_alone_before_the_first(self, store: Store) -> None:
        store.create_flow(_a_flow())
        store.move_flow("shop", Command.RESNAPSHOT)
        assert store.get_snapshot("shop") == Snapshot(flow_id="shop", state=CopyState.PENDING, is_wanted=True)
        _begun(store)
        store.finish_copy("shop", 1, _tables(1))
        store.commit_checkpoint("shop", epoch=1, after=START, upto=Position(_LSN), lanes={})
        store.move_flow("shop", Command.RESNAPSHOT)
        found = store.get_snapshot("shop")
        assert (found.state, found.is_wanted, found.tables) == (CopyState.CONSISTENT, True, 1)

    @pytest.mark.parametrize("forget", ["reset", "delete"])
    def test_figures_go_with_the_checkpoint(self, store: Store, forget: str) -> None:
        store.create_flow(_a_flow())
        _begun(store)
        store.finish_copy("shop", 1, _tables(3))
        if forget == "reset":
            store.reset_checkpoint("shop")
        else:
            store.delete_flow("shop")
            store.create_flow(_a_flow())
        assert store.list_table_copies("shop").tables == ()
        with pytest.raises(NotFound):
            store.get_snapshot("shop")

    def test_many_tables_are_noted_at_once_and_come_in_pages_in_the_order_of_copying(self, store: Store) -> None:
        _running(store)
        _begun(store)
        tables = _tables(1_201)
        store.note_copy("shop", 1, tables)
        assert store.get_snapshot("shop").tables == 1_201
        seen: list[TableCopy] = []
        token = ""
        while True:
            page = store.list_table_copies("shop", 500, token)
            seen += page.tables
            token = page.next_page_token
            if not token:
                break
        assert seen == tables
        assert len(store.list_table_copies("shop").tables) == 1_000

    def test_pages_hold_every_flow_that_copied_once_in_order_of_ids(self, store: Store) -> None:
        for flow_id in ("d", "a", "c", "b"):
            _running(store, flow_id)
            if flow_id != "b":
                _begun(store, flow_id)
                store.note_copy(flow_id, 1, _tables(3))
        first = store.list_snapshots(2)
        second = store.list_snapshots(2, first.next_page_token)
        assert [[item.flow_id for item in page.snapshots] for page in (first, second)] == [["a", "c"], ["d"]]
        assert second.next_page_token == ""
        assert all(item.tables == 3 for item in store.list_snapshots().snapshots)
        assert first.snapshots[0] == store.get_snapshot("a")

    @pytest.mark.parametrize("token", ["x", "%%%", "é", "a\0b", "eA=="])
    def test_a_foreign_token_or_a_negative_size_of_tables_is_a_config_error(self, store: Store, token: str) -> None:
        with pytest.raises(ConfigError) as refused:
            store.list_table_copies("shop", 0, token)
        assert refused.value.where["field"] == "page_token"
        with pytest.raises(ConfigError):
            store.list_table_copies("shop", -1)
        with pytest.raises(ConfigError):
            store.list_snapshots(-1)

    def test_progress_raises_the_version_so_that_watchers_look(self, store: Store) -> None:
        _running(store)
        store.begin_epoch("shop")
        versions = [store.version()]
        store.begin_copy("shop", 1, slot="slot", identity=_IDENTITY)
        versions.append(store.version())
        store.note_copy("shop", 1, _tables(1))
        versions.append(store.version())
        store.finish_copy("shop", 1, _tables(1))
        versions.append(store.version())
        assert versions == sorted(set(versions))


def _states(store: Store) -> tuple[CopyState, set[CopyState]]:
    return store.get_snapshot("shop").state, {item.state for item in store.list_table_copies("shop").tables}


class SnapshotContract(RequestContract, ProgressContract):
    """Everything about copies."""
