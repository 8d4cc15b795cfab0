"""The control-store contract, executable: subclass `StoreContract` and provide the fixture ``opened``.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def opened(self, tmp_path):
            return lambda: open_my_store(tmp_path)

``opened()`` returns a store on the test's own place; called again, another one on the same place, as a second process
would have it. Stores are closed by the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from wallaby.ddl.approval import DECISIONS, DdlStatus, Decision, next_status
from wallaby.errors import AlreadyExists, ConfigError, Fenced, IllegalMove, NotFound, Refused, Superseded
from wallaby.flow import EndpointSpec, FlowSpec, InvalidFlow
from wallaby.lifecycle import MOVES, Command, FlowState, next_state
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import KnownNames, TableName
from wallaby.store.letters import LetterDecision, LetterFilter
from wallaby.store.port import DDL_CHARACTERS_MAX, DdlEvent, SnapshotState, SnapshotStatus, Store
from wallaby.testing.access_contract import AccessContract
from wallaby.testing.letter_contract import LetterContract, a_letter, put
from wallaby.testing.snapshot_contract import SnapshotContract
from wallaby.testing.store_case import StoreCase

LANE = "shop/copy/0"


def a_flow(flow_id: str = "shop", *, dsn: str = "env:SHOP_DSN", **changes: Any) -> FlowSpec:
    """A small valid definition."""
    return FlowSpec(
        id=flow_id,
        name=changes.pop("name", "Shop"),
        source=EndpointSpec(type="postgres", options={"dsn": dsn, "snapshot": "never"}),
        destinations=(EndpointSpec(name="copy", type="duckdb", options={"dsn": "copy.duckdb"}),),
        **changes,
    )


def at(lsn: int, ordinal: int = 0) -> Position:
    return Position(Lsn(lsn), ordinal)


def _create_ten(store: Store, name: str) -> None:
    for number in range(10):
        store.create_flow(a_flow(f"{name}x{number}"))


class FlowContract(StoreCase):
    """Definitions and states."""

    def test_a_flow_comes_back_as_it_was_stored(self, store: Store, make_store: Callable[[], Store]) -> None:
        before = datetime.now(UTC) - timedelta(seconds=5)
        record = store.create_flow(a_flow(name="Ünïcode 'quoted' \"shop\" %s"), reason="made")
        assert record == make_store().get_flow("shop")
        assert (record.state, record.revision, record.reason, record.run_once) == (FlowState.CREATED, 1, "made", False)
        assert before < record.created_at == record.updated_at < datetime.now(UTC) + timedelta(seconds=5)

    def test_a_known_id_is_refused_and_changes_nothing(self, store: Store) -> None:
        record = store.create_flow(a_flow())
        with pytest.raises(AlreadyExists):
            store.create_flow(a_flow(name="Other"))
        assert store.get_flow("shop") == record

    @pytest.mark.must_not_fail(24)
    @pytest.mark.parametrize(
        "dsn", ["postgresql://me:hunter2@db/shop", "host=db password=hunter2", "postgresql://db/x?password=hunter2"]
    )
    def test_a_password_in_clear_is_never_stored(self, store: Store, dsn: str) -> None:
        with pytest.raises(InvalidFlow) as refused:
            store.create_flow(a_flow(dsn=dsn))
        assert refused.value.where["field"] == "source.options.dsn"
        assert "hunter2" not in f"{refused.value}{refused.value!r}"
        store.create_flow(a_flow())
        with pytest.raises(InvalidFlow):
            store.update_flow("shop", a_flow(dsn=dsn))
        assert store.get_flow("shop").spec == a_flow()

    def test_an_unknown_flow_is_not_found_by_any_method(self, store: Store) -> None:
        for call in (
            lambda: store.get_flow("nope"),
            lambda: store.update_flow("nope", a_flow("nope")),
            lambda: store.delete_flow("nope"),
            lambda: store.move_flow("nope", Command.START),
        ):
            with pytest.raises(NotFound):
                call()

    def test_pages_hold_every_flow_once_in_order_of_ids(self, store: Store) -> None:
        ids = ["a", "a-b", "a_b", "b1", "b10", "b2", "z"]
        for flow_id in reversed(ids):
            store.create_flow(a_flow(flow_id))
        seen: list[str] = []
        token = ""
        while True:
            page = store.list_flows(2, token)
            assert len(page.flows) <= 2
            seen += [flow.id for flow in page.flows]
            token = page.next_page_token
            if not token:
                break
        assert seen == sorted(ids)
        assert [flow.id for flow in store.list_flows().flows] == seen

    @pytest.mark.parametrize("token", ["x", "%%%", "é", "a\0b"])
    def test_a_foreign_page_token_is_a_config_error(self, store: Store, token: str) -> None:
        with pytest.raises(ConfigError) as refused:
            store.list_flows(0, token)
        assert refused.value.where["field"] == "page_token"

    def test_a_negative_page_size_is_a_config_error(self, store: Store) -> None:
        with pytest.raises(ConfigError):
            store.list_flows(-1)

    def test_an_update_raises_the_revision_and_an_equal_one_changes_nothing(self, store: Store) -> None:
        store.create_flow(a_flow())
        changed = store.update_flow("shop", a_flow(parallelism=2))
        assert (changed.revision, changed.spec.parallelism) == (2, 2)
        version = store.version()
        assert store.update_flow("shop", a_flow(parallelism=2)) == changed
        assert store.version() == version

    def test_of_two_updates_from_the_same_revision_one_is_refused(self, store: Store) -> None:
        store.create_flow(a_flow())
        store.update_flow("shop", a_flow(parallelism=2), expected_revision=1)
        with pytest.raises(Superseded):
            store.update_flow("shop", a_flow(parallelism=3), expected_revision=1)
        assert store.get_flow("shop").spec.parallelism == 2

    @pytest.mark.parametrize("state", list(FlowState))
    def test_moves_follow_the_lifecycle_and_forbidden_ones_change_nothing(self, store: Store, state: FlowState) -> None:
        for command in Command:
            if command in (Command.UPDATE, Command.DELETE):
                continue
            flow_id = f"flow-{command}"
            store.create_flow(a_flow(flow_id), state=state)
            if state in MOVES[command]:
                moved = store.move_flow(flow_id, command, "why")
                assert moved.state is next_state(state, command)
                assert moved == store.get_flow(flow_id)
                if moved.state is not state:
                    newest = store.state_events(flow_id)[0]
                    assert (newest.before, newest.after, newest.reason) == (state, moved.state, "why")
            else:
                version = store.version()
                with pytest.raises(IllegalMove):
                    store.move_flow(flow_id, command)
                assert (store.get_flow(flow_id).state, store.version()) == (state, version)
                assert len(store.state_events(flow_id)) == 1

    def test_a_repeated_move_is_not_logged_again(self, store: Store) -> None:
        store.create_flow(a_flow())
        first = store.move_flow("shop", Command.START)
        assert store.move_flow("shop", Command.START) == first
        assert [event.command for event in store.state_events("shop")] == [Command.START, None]

    def test_how_a_run_goes_is_noted_once_and_moves_nothing(self, store: Store) -> None:
        store.create_flow(a_flow())
        started = store.move_flow("shop", Command.START, "go")
        assert store.move_flow("shop", Command.RECOVER, "well") == started, "nothing was wrong"
        noted = [store.move_flow("shop", Command.RETRY, "the source is away") for _ in range(3)]
        assert [(record.state, record.reason) for record in noted] == [(FlowState.RUNNING, "the source is away")] * 3
        assert {record.updated_at for record in noted} == {started.updated_at}
        store.move_flow("shop", Command.RETRY, "the target is full")
        for _ in range(2):
            assert store.move_flow("shop", Command.RECOVER, "well").reason == "well"
        events = store.state_events("shop")[:4]
        assert [(event.command, event.reason) for event in events] == [
            (Command.RECOVER, "well"),
            (Command.RETRY, "the target is full"),
            (Command.RETRY, "the source is away"),
            (Command.START, "go"),
        ]

    def test_active_flows_are_those_somebody_should_run_or_drain(self, store: Store) -> None:
        for state in FlowState:
            store.create_flow(a_flow(f"is_{state}", dsn=f"env:{state.upper()}"), state=state)
        active = store.active_flows()
        assert [(flow.id, flow.state) for flow in active] == [
            ("is_running", FlowState.RUNNING),
            ("is_stopping", FlowState.STOPPING),
        ]
        assert [flow.updated_at for flow in active] == [store.get_flow(flow.id).updated_at for flow in active]

    def test_active_flows_tell_of_a_copy_and_a_decision_that_somebody_waits_for(self, store: Store) -> None:
        store.create_flow(a_flow(), state=FlowState.RUNNING)
        [quiet] = store.active_flows()
        assert (quiet.copy_due, quiet.letter_decision) == (0, 0)
        put(store, a_letter(1, keys=(1,)))
        [letter] = store.list_letters(LetterFilter()).letters
        store.decide_letters(LetterDecision.REPLAY, ids=[letter.id])
        store.move_flow("shop", Command.RESNAPSHOT)
        [wanted] = store.active_flows()
        assert (wanted.copy_due, wanted.letter_decision) == (
            store.copy_due("shop"),
            store.newest_letter_decision("shop"),
        )
        assert wanted.copy_due
        assert wanted.letter_decision

    def test_run_once_is_remembered_until_the_flow_is_told_to_run_on(self, store: Store) -> None:
        store.create_flow(a_flow())
        assert store.move_flow("shop", Command.RUN_ONCE).run_once
        assert not store.move_flow("shop", Command.START).run_once

    def test_a_reason_may_hold_any_text(self, store: Store) -> None:
        store.create_flow(a_flow(), state=FlowState.RUNNING)
        assert "it broke" in store.move_flow("shop", Command.FAIL, "it broke\0 \ud800" + "x" * 10_000).reason

    @pytest.mark.parametrize("state", list(FlowState))
    def test_only_a_flow_that_is_not_running_can_be_changed_or_deleted(self, store: Store, state: FlowState) -> None:
        store.create_flow(a_flow(), state=state)
        if state in (FlowState.RUNNING, FlowState.STOPPING):
            with pytest.raises(IllegalMove):
                store.update_flow("shop", a_flow(parallelism=3))
            with pytest.raises(IllegalMove):
                store.delete_flow("shop")
            assert store.get_flow("shop").revision == 1
        else:
            assert store.update_flow("shop", a_flow(parallelism=3)).state is state
            store.delete_flow("shop")
            with pytest.raises(NotFound):
                store.get_flow("shop")
            assert store.state_events("shop")[0].command is Command.DELETE

    def test_every_change_of_a_flow_raises_the_version_and_reading_does_not(self, store: Store) -> None:
        versions = [store.version()]
        for change in (
            lambda: store.create_flow(a_flow()),
            lambda: store.update_flow("shop", a_flow(parallelism=2)),
            lambda: store.move_flow("shop", Command.START),
            lambda: store.move_flow("shop", Command.STOP),
            lambda: store.move_flow("shop", Command.FINISH),
            lambda: store.delete_flow("shop"),
        ):
            change()
            versions.append(store.version())
        assert all(earlier < later for earlier, later in pairwise(versions))
        store.list_flows()
        store.begin_epoch("shop")
        assert store.version() == versions[-1]


class EventContract(StoreCase):
    """What happened to flows, in order, for those who follow it."""

    def test_events_of_all_flows_follow_a_cursor_in_order(self, store: Store, make_store: Callable[[], Store]) -> None:
        assert (store.newest_cursor(), store.events_after(0)) == (0, ())
        store.create_flow(a_flow(), reason="made")
        store.create_flow(a_flow("other"))
        store.move_flow("shop", Command.START, "go")
        store.move_flow("shop", Command.START)
        store.move_flow("shop", Command.STOP)
        store.move_flow("shop", Command.FINISH)
        store.update_flow("shop", a_flow(parallelism=2))
        store.update_flow("shop", a_flow(parallelism=2))
        store.delete_flow("shop")
        events = make_store().events_after(0)
        assert [(event.flow_id, event.command, event.after) for event in events] == [
            ("shop", None, FlowState.CREATED),
            ("other", None, FlowState.CREATED),
            ("shop", Command.START, FlowState.RUNNING),
            ("shop", Command.STOP, FlowState.STOPPING),
            ("shop", Command.FINISH, FlowState.PAUSED),
            ("shop", Command.UPDATE, FlowState.PAUSED),
            ("shop", Command.DELETE, FlowState.PAUSED),
        ]
        cursors = [event.cursor for event in events]
        assert cursors == sorted(set(cursors))
        assert cursors[-1] == store.newest_cursor()
        assert store.events_after(cursors[1]) == events[2:]
        assert store.events_after(cursors[0], limit=2) == events[1:3]
        assert store.events_after(0, "other") == (events[1],)
        assert store.events_after(cursors[-1]) == ()
        assert store.state_events("shop")[0] == events[-1]

    def test_the_number_of_events_is_bounded_and_a_cursor_before_them_is_refused(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("wallaby.store.sql.EVENTS_MAX", 5)
        store.create_flow(a_flow())
        first = store.newest_cursor()
        for _ in range(4):
            store.move_flow("shop", Command.START)
            store.move_flow("shop", Command.FINISH)
        kept = store.events_after(0)
        assert len(kept) == 5
        assert store.state_events("shop") == kept[::-1]
        assert kept[-1].cursor == store.newest_cursor()
        assert store.events_after(kept[0].cursor - 1) == kept, "the last forgotten event: nothing is missing behind it"
        for name in ("", "shop", "other"):
            with pytest.raises(ConfigError, match="oldest event") as refused:
                store.events_after(first, name)
            assert refused.value.where["field"] == "cursor"

    def test_who_follows_the_cursor_misses_no_event_of_concurrent_writers(
        self, make_store: Callable[[], Store]
    ) -> None:
        """An event must not become visible after one with a higher cursor was seen."""
        writers, reader = [make_store() for _ in range(4)], make_store()
        seen: list[int] = []
        with ThreadPoolExecutor(len(writers)) as threads:
            work = [threads.submit(_create_ten, store, f"f{i}") for i, store in enumerate(writers)]
            while not all(future.done() for future in work):
                seen += [event.cursor for event in reader.events_after(seen[-1] if seen else 0)]
            for future in work:
                future.result()
        seen += [event.cursor for event in reader.events_after(seen[-1] if seen else 0)]
        assert seen == [event.cursor for event in reader.events_after(0, limit=1000)]
        assert len(seen) == 40


class DdlContract(StoreCase):
    """Schema changes that were captured, and what was decided about them."""

    def test_a_recorded_change_comes_back_undecided(self, store: Store, make_store: Callable[[], Store]) -> None:
        ddl, plan = "ALTER TABLE \"Größe\" ADD c text DEFAULT '%s ?'", '{"steps":[]}'
        event = store.record_ddl("shop", position=at(2**63, 7), ddl=ddl, plan_json=plan)
        assert make_store().get_ddl(event.id) == event
        assert event == DdlEvent(
            id=event.id, flow_id="shop", position=at(2**63, 7), ddl=ddl, plan_json=plan, created_at=event.created_at
        )
        assert event.created_at.tzinfo is UTC

    def test_a_change_recorded_again_is_the_same_one_and_keeps_its_decision(self, store: Store) -> None:
        event = store.record_ddl("shop", position=at(1), ddl="ALTER TABLE a ADD b int")
        store.decide_ddl(event.id, Decision.APPROVE)
        again = store.record_ddl("shop", position=at(1), ddl="ALTER TABLE a ADD b int")
        assert (again.id, again.status) == (event.id, DdlStatus.APPROVED)
        assert store.record_ddl("other", position=at(1), ddl="x").id != event.id

    @pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * (DDL_CHARACTERS_MAX + 1)], ids=["nul", "half", "long"])
    def test_text_that_cannot_be_kept_as_it_is_is_refused(self, store: Store, text: str) -> None:
        for given in ({"ddl": text}, {"ddl": "x", "plan_json": text}):
            with pytest.raises(ConfigError):
                store.record_ddl("shop", position=at(1), **given)
        assert store.list_ddl().events == ()

    @pytest.mark.parametrize("decision", list(Decision))
    @pytest.mark.parametrize("status", list(DdlStatus))
    def test_decisions_follow_the_table_and_forbidden_ones_change_nothing(
        self, store: Store, status: DdlStatus, decision: Decision
    ) -> None:
        event = store.record_ddl("shop", position=at(1), ddl="x")
        way = {
            DdlStatus.PENDING: (),
            DdlStatus.APPROVED: (Decision.APPROVE,),
            DdlStatus.REJECTED: (Decision.REJECT,),
            DdlStatus.APPLIED: (Decision.APPROVE, Decision.MARK_APPLIED),
        }
        for step in way[status]:
            event = store.decide_ddl(event.id, step)
        assert event.status is status
        version = store.version()
        if status in DECISIONS[decision]:
            decided = store.decide_ddl(event.id, decision)
            assert decided.status is next_status(status, decision)
            assert decided == store.get_ddl(event.id)
            assert (decided == event) == (decided.status is status) == (store.version() == version)
        else:
            with pytest.raises(IllegalMove):
                store.decide_ddl(event.id, decision)
            assert (store.get_ddl(event.id), store.version()) == (event, version)

    def test_an_unknown_change_is_not_found(self, store: Store) -> None:
        for event_id in (0, 1, -1, 2**63 - 1):
            with pytest.raises(NotFound):
                store.get_ddl(event_id)
            with pytest.raises(NotFound):
                store.decide_ddl(event_id, Decision.APPROVE)

    def test_pages_hold_every_change_of_a_status_and_flow_once(self, store: Store) -> None:
        ids = [store.record_ddl(f"f{n % 2}", position=at(n + 1), ddl="x").id for n in range(7)]
        for event_id in ids[:3]:
            store.decide_ddl(event_id, Decision.REJECT)
        seen: list[int] = []
        token = ""
        while True:
            page = store.list_ddl(page_size=2, page_token=token)
            seen += [event.id for event in page.events]
            token = page.next_page_token
            if not token:
                break
        assert seen == ids
        assert [event.id for event in store.list_ddl(status=DdlStatus.REJECTED).events] == ids[:3]
        assert [event.id for event in store.list_ddl(flow_id="f1").events] == ids[1::2]
        assert [event.id for event in store.list_ddl(status=DdlStatus.PENDING, flow_id="f0").events] == ids[4::2]

    @pytest.mark.parametrize("token", ["x", "%%%", "é", "YQ==", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="])
    def test_a_foreign_token_or_a_negative_size_is_a_config_error(self, store: Store, token: str) -> None:
        with pytest.raises(ConfigError):
            store.list_ddl(page_token=token)
        with pytest.raises(ConfigError):
            store.list_ddl(page_size=-1)

    def test_changes_go_with_their_flow(self, store: Store) -> None:
        """A later flow of the same id must not find an approval that was not given to it."""
        store.create_flow(a_flow())
        event = store.record_ddl("shop", position=at(1), ddl="x")
        kept = store.record_ddl("other", position=at(1), ddl="x")
        store.delete_flow("shop")
        assert store.list_ddl().events == (kept,)
        with pytest.raises(NotFound):
            store.get_ddl(event.id)


class CheckpointContract(StoreCase):
    """Epochs, positions, identities and snapshots."""

    def test_a_flow_nobody_ran_has_no_checkpoint(self, store: Store) -> None:
        store.create_flow(a_flow())
        assert store.get_checkpoint("shop") is None
        assert store.list_checkpoints() == ()
        epoch = store.begin_epoch("shop")
        assert (epoch.epoch, epoch.checkpoint) == (1, None)
        assert store.get_checkpoint("shop") is None

    def test_a_committed_checkpoint_is_there_for_the_next_epoch(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(10, 3)})
        store.commit_checkpoint("shop", epoch=1, after=at(10), upto=at(2**63), lanes={LANE: at(2**64 - 1, 2**63)})
        second = make_store().begin_epoch("shop")
        assert second.epoch == 2
        assert second.checkpoint is not None
        assert (second.checkpoint.epoch, second.checkpoint.position) == (1, at(2**63))
        assert second.checkpoint.lanes == {LANE: at(2**64 - 1, 2**63)}
        assert store.get_checkpoint("shop") == second.checkpoint
        assert store.list_checkpoints() == (second.checkpoint,)

    def test_a_repeated_commit_of_the_same_epoch_is_accepted(self, store: Store) -> None:
        store.begin_epoch("shop")
        for _ in range(2):
            store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(10)})
        checkpoint = store.get_checkpoint("shop")
        assert checkpoint is not None
        assert checkpoint.position == at(10)

    def test_an_epoch_can_be_taken_above_one_a_destination_remembers(self, store: Store) -> None:
        """A lost control store counts from 1 again; the destinations do not."""
        assert store.begin_epoch("lost", above=7).epoch == 8
        assert store.begin_epoch("lost", above=3).epoch == 9
        assert store.begin_epoch("lost").epoch == 10

    @pytest.mark.must_not_fail(20)
    def test_an_older_epoch_can_never_commit_again(self, store: Store, make_store: Callable[[], Store]) -> None:
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={})
        make_store().begin_epoch("shop")
        for after, upto in ((at(10), at(20)), (START, at(10)), (at(10), at(10))):
            with pytest.raises(Fenced):
                store.commit_checkpoint("shop", epoch=1, after=after, upto=upto, lanes={})
        with pytest.raises(Fenced):
            store.set_snapshot_state("shop", 1, SnapshotStatus.DONE)
        with pytest.raises(Fenced):
            store.put_source_identity("shop", {"system": "1"}, epoch=1)
        checkpoint = store.get_checkpoint("shop")
        assert checkpoint is not None
        assert checkpoint.position == at(10)

    @pytest.mark.must_not_fail(2)
    def test_a_commit_from_another_position_is_refused(self, store: Store) -> None:
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={})
        with pytest.raises(Superseded):
            store.commit_checkpoint("shop", epoch=1, after=at(5), upto=at(20), lanes={})
        with pytest.raises(Refused):
            store.commit_checkpoint("shop", epoch=1, after=at(15), upto=at(20), lanes={})
        checkpoint = store.get_checkpoint("shop")
        assert checkpoint is not None
        assert checkpoint.position == at(10)

    def test_a_store_that_was_set_back_is_noticed(self, store: Store) -> None:
        store.begin_epoch("shop")
        with pytest.raises(Refused):
            store.commit_checkpoint("shop", epoch=7, after=START, upto=at(10), lanes={})
        with pytest.raises(Refused):
            store.commit_checkpoint("other", epoch=7, after=START, upto=at(10), lanes={})

    def test_flows_do_not_touch_each_other(self, store: Store) -> None:
        for flow_id in ("a", "b"):
            store.begin_epoch(flow_id)
        store.commit_checkpoint("a", epoch=1, after=START, upto=at(10), lanes={})
        assert store.get_checkpoint("b") is None
        store.reset_checkpoint("b")
        assert store.get_checkpoint("a") is not None

    def test_the_source_identity_is_kept_over_epochs(self, store: Store, make_store: Callable[[], Store]) -> None:
        assert store.get_source_identity("shop") is None
        identity: dict[str, str | int] = {"system": "7312345678901234567", "timeline": 1, "slot": "wallaby_shop"}
        store.put_source_identity("shop", identity)
        epoch = store.begin_epoch("shop").epoch
        assert make_store().get_source_identity("shop") == identity
        store.put_source_identity("shop", identity | {"timeline": 2}, epoch=epoch)
        assert store.get_source_identity("shop") == identity | {"timeline": 2}

    @pytest.mark.must_not_fail(24)
    def test_names_of_tables_are_known_until_the_flow_is_deleted(
        self, store: Store, make_store: Callable[[], Store]
    ) -> None:
        """A reset and a new copy bring other rows of the same tables: what may not be seen of them stays the same."""

        def names(oid: int, table: str) -> KnownNames:
            return KnownNames(oid, "1/shop", TableName("Odd.Schema", table), (("id", 1), ("été", 0)), oid % 2 == 0)

        store.create_flow(a_flow())
        epoch = store.begin_epoch("shop").epoch
        assert store.get_source_names("shop") == ()
        many = [names(oid, f"t{oid}") for oid in range(1, 1_200)]
        store.put_source_names("shop", many, epoch=epoch)
        store.put_source_names("shop", [names(7, "renamed")])
        assert make_store().get_source_names("shop") == (*many[:6], names(7, "renamed"), *many[7:])
        store.begin_copy("shop", epoch, slot="s", identity={"system": "1"})
        store.reset_checkpoint("shop")
        with pytest.raises(Fenced):
            store.put_source_names("shop", [names(1, "late")], epoch=epoch)
        assert len(store.get_source_names("shop")) == len(many)
        assert store.get_source_names("other") == ()
        store.delete_flow("shop")
        assert store.get_source_names("shop") == ()

    def test_a_crash_inside_the_copy_is_recognised_in_the_next_epoch(self, store: Store) -> None:
        assert store.get_snapshot_state("shop") is None
        store.begin_epoch("shop")
        store.set_snapshot_state("shop", 1, SnapshotStatus.PENDING)
        store.set_snapshot_state("shop", 1, SnapshotStatus.COPYING, Lsn(0xABC), "wallaby_shop")
        store.begin_epoch("shop")
        assert store.get_snapshot_state("shop") == SnapshotState(
            status=SnapshotStatus.COPYING, epoch=1, slot="wallaby_shop", consistent_point=Lsn(0xABC)
        )

    @pytest.mark.parametrize("forget", ["reset", "delete"])
    def test_a_forgotten_checkpoint_leaves_nothing_but_a_higher_epoch(self, store: Store, forget: str) -> None:
        store.create_flow(a_flow())
        store.begin_epoch("shop")
        store.put_source_identity("shop", {"system": "1"})
        store.set_snapshot_state("shop", 1, SnapshotStatus.DONE, Lsn(5), "slot")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(10)})
        if forget == "reset":
            store.reset_checkpoint("shop")
        else:
            store.delete_flow("shop")
        assert store.get_checkpoint("shop") is None
        assert store.get_source_identity("shop") is None
        assert store.get_snapshot_state("shop") is None
        with pytest.raises(Fenced):
            store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={})
        epoch = store.begin_epoch("shop")
        assert epoch.epoch > 1
        assert epoch.checkpoint is None
        store.commit_checkpoint("shop", epoch=epoch.epoch, after=START, upto=at(3), lanes={})

    def test_a_checkpoint_is_put_only_where_the_destinations_have_been(self, store: Store) -> None:
        store.create_flow(a_flow())
        with pytest.raises(NotFound):
            store.put_checkpoint("shop", at(5), force=True)
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(12), "shop/b/0": at(11)})
        before = store.get_checkpoint("shop")
        assert store.put_checkpoint("shop", at(10)) == before
        for force in (False, True):
            with pytest.raises(Refused, match="would be lost"):
                store.put_checkpoint("shop", at(12), force=force)
        assert store.get_checkpoint("shop") == before
        moved = store.put_checkpoint("shop", at(11))
        assert (moved.position, moved.lanes) == (at(11), {LANE: at(12), "shop/b/0": at(11)})

    @pytest.mark.must_not_fail(2)
    def test_a_checkpoint_goes_back_only_by_force_and_fences_whoever_ran(self, store: Store) -> None:
        store.create_flow(a_flow())
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(12), "shop/b/0": at(3)})
        with pytest.raises(Refused, match="would go back"):
            store.put_checkpoint("shop", at(5))
        moved = store.put_checkpoint("shop", at(5), force=True)
        assert (moved.position, moved.lanes, moved.epoch) == (at(5), {LANE: at(5), "shop/b/0": at(3)}, 2)
        assert store.get_checkpoint("shop") == moved
        with pytest.raises(Fenced):
            store.commit_checkpoint("shop", epoch=1, after=at(5), upto=at(20), lanes={})

    @pytest.mark.parametrize("state", [FlowState.RUNNING, FlowState.STOPPING])
    def test_a_checkpoint_is_not_put_while_the_flow_runs(self, store: Store, state: FlowState) -> None:
        store.create_flow(a_flow(), state=state)
        store.begin_epoch("shop")
        store.commit_checkpoint("shop", epoch=1, after=START, upto=at(10), lanes={LANE: at(10)})
        with pytest.raises(IllegalMove):
            store.put_checkpoint("shop", at(5), force=True)
        with pytest.raises(NotFound):
            store.put_checkpoint("nope", at(5), force=True)


class ConcurrencyContract(StoreCase):
    """Several holders of one place."""

    def test_epochs_are_given_once_only(self, make_store: Callable[[], Store]) -> None:
        stores = [make_store() for _ in range(4)]
        with ThreadPoolExecutor(len(stores)) as threads:
            given = threads.map(lambda store: [store.begin_epoch("shop").epoch for _ in range(10)], stores)
            epochs = [epoch for batch in given for epoch in batch]
        assert sorted(epochs) == list(range(1, 41))

    def test_one_store_may_be_used_from_several_threads(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as threads:
            epochs = list(threads.map(lambda _: store.begin_epoch("shop").epoch, range(20)))
        assert sorted(epochs) == list(range(1, 21))

    def test_of_many_committers_from_one_position_one_wins(self, make_store: Callable[[], Store]) -> None:
        stores = [make_store() for _ in range(4)]
        stores[0].begin_epoch("shop")

        def commit(number: int) -> bool:
            try:
                stores[number].commit_checkpoint("shop", epoch=1, after=START, upto=at(10 + number), lanes={})
            except Superseded:
                return False
            return True

        with ThreadPoolExecutor(len(stores)) as threads:
            won = list(threads.map(commit, range(len(stores))))
        assert won.count(True) == 1
        checkpoint = stores[0].get_checkpoint("shop")
        assert checkpoint is not None
        assert checkpoint.position == at(10 + won.index(True))

    def test_of_many_creators_one_wins(self, make_store: Callable[[], Store]) -> None:
        stores = [make_store() for _ in range(4)]

        def create(store: Store) -> bool:
            try:
                store.create_flow(a_flow())
            except AlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(len(stores)) as threads:
            assert list(threads.map(create, stores)).count(True) == 1

    def test_changes_counted_by_several_holders_are_all_counted(self, make_store: Callable[[], Store]) -> None:
        stores = [make_store() for _ in range(3)]
        with ThreadPoolExecutor(len(stores)) as threads:
            list(threads.map(lambda i: [stores[i].create_flow(a_flow(f"f{i}x{n}")) for n in range(5)], range(3)))
        assert stores[0].version() == 15

    def test_a_closed_store_opens_again_by_itself(self, store: Store) -> None:
        store.begin_epoch("shop")
        store.close()
        store.close()
        assert store.begin_epoch("shop").epoch == 2


class StoreContract(
    FlowContract,
    EventContract,
    DdlContract,
    CheckpointContract,
    ConcurrencyContract,
    AccessContract,
    LetterContract,
    SnapshotContract,
):
    """Everything a place must do to be a control store of wallaby."""
