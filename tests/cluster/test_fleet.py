"""Hundreds of flows in one control store, some of them running, one of them never well: each is steered alone.

``make fleet`` runs the long form, with more than twenty flows running; the short form is one of the ordinary tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.cluster.conftest import STEP_S, RayHost
from tests.cluster.test_run import drop_slots
from tests.cluster.test_up import Service
from wallaby.client import Client, Flow
from wallaby.lifecycle import Command, FlowState
from wallaby.store import Store
from wallaby.store.opening import open_sqlite
from wallaby.testing.postgres import ScratchDatabase, scratch_database

STORED: Final = 200
LOOK_S: Final = 0.2


@dataclass(slots=True)
class Fleet:
    """Flows of one table each, from one database into one other; ``ill`` has a destination that lets nobody in."""

    service: Service
    source: ScratchDatabase
    target: ScratchDatabase
    ill_target: ScratchDatabase
    client: Client
    store: Store
    patience_s: float
    running: list[int] = field(default_factory=list)
    rows: int = 1

    ill: int = 0

    def id(self, number: int) -> str:
        return f"{self.source.name}_{number:03}"

    def flow(self, number: int, **changes: Any) -> dict[str, Any]:
        target = "env:ILL_DSN" if number == self.ill else "env:TO_DSN"
        source = {"dsn": "env:FROM_DSN", "publication_tables": [f"public.t{number:03}"]}
        return {
            "id": self.id(number),
            "name": f"table {number}",
            "source": {"type": "postgres", "options": source},
            "destinations": [{"name": "copy", "type": "postgres", "options": {"dsn": target}}],
            **changes,
        }

    def flows(self) -> dict[str, Flow]:
        return {flow.id: flow for flow in self.client.list_flows(page_size=1_000)}

    def until(self, what: str, is_so: Any, patience_s: float | None = None) -> Any:
        """The first true answer; there is no signal to wait for across processes, so it is asked again and again."""
        deadline = time.monotonic() + (patience_s or self.patience_s)
        while not (answer := is_so()):
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self._described()}"
            time.sleep(LOOK_S)  # between two questions: another process gives no sign
        return answer

    def until_streaming(self, numbers: list[int]) -> None:
        def is_so() -> bool:
            flows = self.flows()
            runs = [flows[self.id(number)].run for number in numbers]
            return all(run is not None and run.phase == "streaming" for run in runs)

        self.until(f"{len(numbers)} flows to stream", is_so)

    def until_state(self, number: int, state: FlowState) -> Flow:
        def is_so() -> Flow | None:
            flow = self.client.get_flow(self.id(number))
            return flow if flow.state is state else None

        found: Flow = self.until(f"flow {number} to be {state}", is_so)
        return found

    def write(self) -> None:
        """One more row in every table."""
        self.rows += 1
        with self.source.connect(autocommit=False) as connection:
            for number in range(len(self.running) + 3):
                connection.execute(f"INSERT INTO t{number:03} VALUES ({self.rows})".encode())

    def until_written(self, numbers: list[int], target: ScratchDatabase | None = None) -> None:
        """Each of these flows has carried every row."""

        def is_so() -> bool:
            with (target or self.target).connect() as connection:
                exists = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = ANY (%s)"
                names = [f"t{number:03}" for number in numbers]
                if connection.execute(exists, [names]).fetchone() != (len(names),):
                    return False
                sums = " UNION ALL ".join(f"SELECT count(*), max(id) FROM {name}" for name in names)
                return set(connection.execute(sums.encode()).fetchall()) == {(self.rows, self.rows)}

        self.until(f"rows of {len(numbers)} flows", is_so)

    def stop(self, number: int) -> None:
        self.client.stop_flow(self.id(number))
        self.until_state(number, FlowState.PAUSED)

    def epochs(self, numbers: list[int]) -> Mapping[int, tuple[int, int]]:
        """Epoch and restarts of each of these flows."""
        flows = self.flows()
        runs = {number: flows[self.id(number)].run for number in numbers}
        return {number: (run.epoch, run.restarts) for number, run in runs.items() if run is not None}

    def _described(self) -> str:
        seen = [f"{f.id} {f.state} {f.run and f.run.phase} {f.reason}" for f in self.flows().values() if f.run]
        return "\n".join([*seen, self.service.command.tail() if self.service.command else ""])


@contextmanager
def a_fleet(
    ray_host: RayHost,
    source: ScratchDatabase,
    target: ScratchDatabase,
    folder: Path,
    *,
    running: int,
    patience_s: float,
) -> Iterator[Fleet]:
    """`STORED` flows, the first ``running`` of them streaming; number ``running`` is the ill one, and was started."""
    with scratch_database(source.server) as ill_target:
        source.execute(*(f"CREATE TABLE t{number:03} (id int PRIMARY KEY)" for number in range(running + 3)))
        source.execute(*(f"INSERT INTO t{number:03} VALUES (1)" for number in range(running + 3)))
        dsns = {"FROM_DSN": source.dsn, "TO_DSN": target.dsn, "ILL_DSN": ill_target.dsn}
        service = Service({**ray_host.environment, **dsns}, folder)
        store = open_sqlite(folder / ".wallaby")
        try:
            service.up()
            with Client.connect(service.address, timeout_s=STEP_S) as client:
                fleet = Fleet(service, source, target, ill_target, client, store, patience_s, ill=running)
                fleet.running = list(range(running))
                _lock(ill_target, is_locked=True)
                for number in range(STORED):
                    client.create_flow(fleet.flow(number), start=number <= running)
                fleet.until_streaming(fleet.running)
                yield fleet
                service.down()
        finally:
            store.close()
            for command in service.started:
                command.end()
            drop_slots(source)


def _lock(database: ScratchDatabase, *, is_locked: bool) -> None:
    with psycopg.connect(database.server.dsn(), autocommit=True) as admin:
        allowed = str(not is_locked).lower()
        admin.execute(f'ALTER DATABASE "{database.name}" WITH ALLOW_CONNECTIONS {allowed}'.encode())


def require_ill_one_to_be_seen(fleet: Fleet) -> None:
    """It says why and when it is tried next, wherever one looks, and its pauses grow."""

    def is_backing_off() -> Flow | None:
        flow = fleet.client.get_flow(fleet.id(fleet.ill))
        return flow if flow.run is not None and flow.run.retry_at and flow.run.restarts >= 3 else None

    seen: Flow = fleet.until("the ill flow to back off", is_backing_off)
    assert seen.run is not None
    assert seen.run.retry_at is not None
    assert seen.state is FlowState.RUNNING
    assert seen.run.phase == "backoff"
    assert (seen.run.retry_at - datetime.now(UTC)).total_seconds() < 31
    assert "database" in seen.reason
    assert seen.run.error
    events = fleet.client.watch(fleet.id(fleet.ill), cursor=fleet.store.state_events(seen.id)[-1].cursor)
    assert next(event for event in events if event.command == "retry" and event.reason == seen.reason)

    def is_listed() -> bool:
        """Between two pauses it is tried, and is listed as that."""
        shown = fleet.service.client("flow", "list").stdout
        return '"phase":"backoff"' in shown and '"retry_at":"2' in shown

    fleet.until("the list to show the ill flow's pause", is_listed)


def require_steering_to_disturb_nobody(fleet: Fleet) -> None:
    """Stop, start, reconfigure, rename a destination, delete: the others go on in the epochs they have."""
    stopped, changed, renamed, *others = fleet.running
    added = fleet.ill + 1
    before = fleet.epochs(others)
    assert len(before) == len(others)
    fleet.write()
    fleet.stop(stopped)
    fleet.client.start_flow(fleet.id(added))
    fleet.stop(changed)
    fleet.client.update_flow(fleet.flow(changed, name="changed"))
    fleet.client.resume_flow(fleet.id(changed))
    fleet.stop(renamed)
    elsewhere = [{"name": "elsewhere", "type": "postgres", "options": {"dsn": "env:TO_DSN"}}]
    fleet.client.update_flow(fleet.flow(renamed, destinations=elsewhere))
    fleet.client.start_flow(fleet.id(renamed))
    fleet.write()
    assert "is new in a flow that already streams" in fleet.until_state(renamed, FlowState.FAILED).reason
    fleet.client.update_flow(fleet.flow(renamed))
    fleet.client.start_flow(fleet.id(renamed))
    fleet.until_written([added, changed, renamed, *others])
    fleet.client.delete_flow(fleet.id(stopped))
    fleet.write()
    fleet.until_written([added, changed, renamed, *others])
    assert fleet.id(stopped) not in fleet.flows()
    assert fleet.epochs(others) == before
    assert {command for n in others for command in _commands(fleet, n)} <= {None}, "nothing happened to the others"
    fleet.running = [added, changed, renamed, *others]


def _commands(fleet: Fleet, number: int) -> set[Command | None]:
    return {event.command for event in fleet.store.state_events(fleet.id(number))}


def require_ill_one_to_recover(fleet: Fleet) -> None:
    _lock(fleet.ill_target, is_locked=False)
    fleet.until_written([fleet.ill], fleet.ill_target)


@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.must_not_fail(15)
def test_of_200_flows_three_run_one_is_ill_and_each_is_steered_alone(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    with a_fleet(ray_host, database, target_database, tmp_path, running=4, patience_s=STEP_S) as fleet:
        require_ill_one_to_be_seen(fleet)
        require_steering_to_disturb_nobody(fleet)
        require_ill_one_to_recover(fleet)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.must_not_fail(15)
def test_more_than_twenty_flows_run_beside_180_others_and_each_is_steered_alone(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    """Also a driver that is replaced: all flows go on, and none is started twice."""
    with a_fleet(ray_host, database, target_database, tmp_path, running=24, patience_s=900) as fleet:
        require_ill_one_to_be_seen(fleet)
        require_steering_to_disturb_nobody(fleet)
        require_ill_one_to_recover(fleet)

        def is_well() -> bool:
            return Command.RECOVER in _commands(fleet, fleet.ill)

        fleet.until("the ill flow to be called well", is_well)
        before = fleet.store.newest_cursor()
        fleet.service.down()
        fleet.write()
        fleet.service.up()
        with Client.connect(fleet.service.address, timeout_s=STEP_S) as fleet.client:
            fleet.until_written(fleet.running)
            fleet.until_written([fleet.ill], fleet.ill_target)
        assert fleet.store.events_after(before) == (), "a drained driver leaves the wanted states alone"
