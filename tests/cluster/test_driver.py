"""How a driver follows the wanted states, without Ray: a coordinator that only forwards to a real store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cluster.driver import Driver, is_finished
from wallaby.errors import StoreUnavailable
from wallaby.lifecycle import Command, FlowState
from wallaby.lsn import Lsn
from wallaby.settings import Limits, Settings
from wallaby.status import FlowStatus
from wallaby.store import SnapshotStatus, Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.postgres import ScratchDatabase
from wallaby.testing.store_contract import a_flow

WAIT_S = 30
LIMITS = Limits(restart_delay_min_ms=1, restart_delay_max_ms=4)


class Method:
    """An actor's method as a driver calls it."""

    def __init__(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self._function = function

    def remote(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._function(*args, **kwargs))


class Coordinator:
    """Counts what is asked of the store; reading a definition fails as the test says."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changed = asyncio.Condition()
        self._changes = 0
        self.asked: Counter[str] = Counter()
        self.failure: Exception | None = None
        self.reported: dict[str, list[FlowStatus]] = {}
        self.call = Method(self._call)
        self.report = Method(self._report)
        self.wait_changed = Method(self._wait)

    async def wake(self) -> None:
        async with self._changed:
            self._changes += 1
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is reported or asked."""
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(condition)

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.asked[method] += 1
        try:
            if method == "get_flow" and self.failure is not None:
                raise self.failure
            return getattr(self._store, method)(*args, **kwargs)
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _report(self, status: FlowStatus) -> None:
        self.reported.setdefault(status.flow, []).append(status)
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, seen: int, timeout_s: float) -> int:
        async with self._changed:
            await self._changed.wait_for(lambda: self._changes != seen)
            return self._changes


@pytest.fixture
def store(tmp_path: Path) -> Any:
    store = open_sqlite(tmp_path)
    yield store
    store.close()


@asynccontextmanager
async def serving(coordinator: Coordinator) -> AsyncIterator[Driver]:
    driver = Driver(Settings(), limits=LIMITS, observe=lambda status: None, coordinator=coordinator)
    served = asyncio.create_task(driver.serve())
    yield driver
    driver.request_stop()
    await asyncio.wait_for(served, WAIT_S)


def create(store: Store, running: int, others: int) -> list[str]:
    for number in range(others):
        store.create_flow(a_flow(f"other{number}", dsn=f"env:OTHER{number}"))
    names = [f"flow{number}" for number in range(running)]
    for name in names:
        store.create_flow(a_flow(name, dsn=f"env:{name.upper()}"), state=FlowState.RUNNING)
    return names


@pytest.mark.parametrize("failure", [RuntimeError("secret row"), StoreUnavailable("away")], ids=["defect", "store"])
async def test_what_fails_around_a_flow_backs_off_and_says_when_it_is_tried_next(
    store: Store, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    create(store, 2, 0)
    coordinator = Coordinator(store)
    coordinator.failure = failure
    async with serving(coordinator):
        await coordinator.until(lambda: all(len(coordinator.reported.get(f"flow{n}", [])) >= 5 for n in range(2)))
    for statuses in coordinator.reported.values():
        assert [status.restarts for status in statuses[:5]] == [1, 2, 3, 4, 5]
        assert {status.phase for status in statuses} == {"backoff"}
        assert all(status.retry_at is not None and status.error for status in statuses)
        assert "secret row" not in f"{statuses}{caplog.text}"
    assert {(flow.state, flow.reason) for flow in store.list_flows().flows} == {
        (FlowState.RUNNING, statuses[0].error) for statuses in coordinator.reported.values()
    }


async def test_a_look_at_the_wanted_states_is_one_question_however_many_flows_there_are(store: Store) -> None:
    create(store, 3, 200)
    coordinator = Coordinator(store)
    coordinator.failure = StoreUnavailable("away")
    async with serving(coordinator):
        await coordinator.until(lambda: len(coordinator.reported) == 3)
        looks = coordinator.asked["active_flows"]
        for _ in range(5):
            looks = coordinator.asked["active_flows"]
            await coordinator.wake()
            await coordinator.until(lambda before=looks: coordinator.asked["active_flows"] > before)  # type: ignore[misc]
    assert set(coordinator.asked) == {"active_flows", "get_flow", "move_flow"}
    assert coordinator.asked["move_flow"] == 3, "the trouble of each flow is noted once"
    assert coordinator.asked["get_flow"] == sum(map(len, coordinator.reported.values()))


async def test_a_flow_in_back_off_stops_at_once_and_the_others_are_left_alone(store: Store) -> None:
    create(store, 2, 0)
    coordinator = Coordinator(store)
    coordinator.failure = StoreUnavailable("away")
    async with serving(coordinator):
        await coordinator.until(lambda: len(coordinator.reported) == 2)
        store.move_flow("flow0", Command.STOP)
        await coordinator.wake()
        await coordinator.until(lambda: store.get_flow("flow0").state is FlowState.PAUSED)
        told = len(coordinator.reported["flow0"])
        more = len(coordinator.reported["flow1"]) + 3
        await coordinator.until(lambda: len(coordinator.reported["flow1"]) >= more)
        assert len(coordinator.reported["flow0"]) == told
    assert store.get_flow("flow1").state is FlowState.RUNNING


async def test_a_flow_that_cannot_work_fails_with_the_reason_and_is_not_tried_again(store: Store) -> None:
    """Its source's DSN names a variable that is not set."""
    create(store, 1, 0)
    coordinator = Coordinator(store)
    async with serving(coordinator):
        await coordinator.until(lambda: store.get_flow("flow0").state is FlowState.FAILED)
        asked = coordinator.asked["get_flow"]
        await coordinator.wake()
        await coordinator.until(lambda: coordinator.asked["active_flows"] >= 3)
        assert coordinator.asked["get_flow"] == asked == 1
    assert "FLOW0" in store.get_flow("flow0").reason


@pytest.mark.must_not_fail(22)
async def test_a_flow_does_not_go_on_where_a_new_table_would_be_written_into_an_old_ones_target(
    store: Store, database: ScratchDatabase
) -> None:
    """The lane that met the new table stopped; a new one does not know any more whose the target is."""
    database.execute(
        "CREATE SCHEMA crm",
        "CREATE TABLE orders (id int PRIMARY KEY)",
        "CREATE TABLE crm.orders (id int PRIMARY KEY)",
        "CREATE PUBLICATION wallaby_shop FOR ALL TABLES",
    )
    flow = a_flow("shop", dsn=database.dsn)
    [copy] = flow.destinations
    merged = copy.model_copy(update={"options": {**copy.options, "rename_schema": "lake"}})
    store.create_flow(flow.model_copy(update={"destinations": (merged,)}))
    epoch = store.begin_epoch("shop").epoch
    store.set_snapshot_state("shop", epoch, SnapshotStatus.DONE, Lsn(1), "wallaby_shop")
    store.move_flow("shop", Command.START)
    coordinator = Coordinator(store)
    async with serving(coordinator):
        await coordinator.until(lambda: store.get_flow("shop").state is FlowState.FAILED)
    assert "two tables would be written into one" in store.get_flow("shop").reason


@pytest.mark.parametrize("is_followed", [True, False])
@pytest.mark.parametrize("is_driver_ending", [True, False])
def test_a_copy_asked_for_in_the_last_moments_of_a_run_is_not_lost_with_it(
    store: Store, is_followed: bool, is_driver_ending: bool
) -> None:
    """Else it would empty the targets at some later start."""
    [name] = create(store, 1, 0)
    ends = {"is_followed": is_followed, "is_driver_ending": is_driver_ending}
    assert is_finished(store.get_flow(name), **ends) is not is_driver_ending
    store.move_flow(name, Command.RESNAPSHOT)
    assert is_finished(store.get_flow(name), **ends) is not (is_driver_ending or is_followed)
    assert is_finished(store.move_flow(name, Command.STOP), **ends)
    assert not is_finished(store.move_flow(name, Command.FINISH), **ends)
