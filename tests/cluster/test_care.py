"""When tables get their turn of care, and that none of it reaches the flow: without Ray, by jobs of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.care import Place
from cluster.care import Caretaker, Round, rounds_of
from cluster.share import Share
from wallaby.care import Chore, Condition, Turn
from wallaby.errors import Transient
from wallaby.flow import FlowSpec
from wallaby.schema import TableName
from wallaby.settings import Limits

LIMITS = Limits(care_poll_ms=1)
PLACE = Place(kind="delta", options={}, directory=".", flow="shop", destination="lake")
ORDERS, ITEMS = TableName("shop", "orders"), TableName("shop", "items")
AFTER = Condition(files=1)
WAIT_S = 30


def turn(table: TableName, failure: str = "") -> Turn:
    return Turn(
        table=str(table),
        before=Condition(files=9, small_files=9),
        after=AFTER,
        due=(Chore.COMPACT,),
        done=() if failure else (Chore.COMPACT,),
        failure=failure,
        ended_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@dataclass
class Jobs:
    """Tables and what becomes of their turns; a turn ends at once, or when the test says so."""

    there: tuple[TableName, ...] = (ORDERS, ITEMS)
    failure: Exception | None = None
    blocks: bool = False
    begun: list[TableName] = field(default_factory=list)
    ended: int = 0
    at_once: int = 0
    most_at_once: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def tables(self, place: Place) -> tuple[TableName, ...]:
        return self.there

    async def turn(self, place: Place, table: TableName) -> Turn | None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.begun.append(table)
            async with self.changed:
                self.changed.notify_all()
            if self.blocks:
                await asyncio.Event().wait()
            if self.failure is not None:
                raise self.failure
            return turn(table)
        finally:
            self.at_once -= 1
            self.ended += 1

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self.changed:
            await self.changed.wait_for(condition)


def caretaker(jobs: Jobs, *, limits: Limits = LIMITS, streams: Callable[[], bool] = lambda: True) -> Caretaker:
    return Caretaker([Round(PLACE, 1)], jobs, share=Share(limits), limits=limits, is_streaming=streams)


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


def test_every_table_has_its_turn_again_and_again_one_at_a_time() -> None:
    async def scene() -> None:
        jobs = Jobs()
        keeper = caretaker(jobs)
        task = asyncio.create_task(keeper.run())
        await jobs.until(lambda: len(jobs.begun) >= 6)
        await stopped(task)
        assert jobs.begun[:6] == [ORDERS, ITEMS] * 3
        assert jobs.most_at_once == 1
        assert [(care.destination, care.table, care.condition, care.done) for care in keeper.seen] == [
            ("lake", "shop.orders", AFTER, ("compact",)),
            ("lake", "shop.items", AFTER, ("compact",)),
        ]

    asyncio.run(scene())


@pytest.mark.must_not_fail(15)
@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (
            Transient("the store does not answer", advice="Look at endpoint"),
            "the store does not answer. Look at endpoint",
        ),
        (ValueError("id = 'anna@example.org'"), "an unexpected ValueError"),
    ],
    ids=["known", "unknown"],
)
def test_what_fails_is_shown_without_content_and_the_next_table_has_its_turn(failure: Exception, words: str) -> None:
    async def scene() -> None:
        jobs = Jobs(failure=failure)
        keeper = caretaker(jobs)
        await keeper.round(PLACE)
        assert jobs.begun == [ORDERS, ITEMS]
        assert all(care.failure.startswith(words) for care in keeper.seen)
        assert "anna" not in str(keeper.seen)
        jobs.failure = None
        await keeper.round(PLACE)
        assert [care.failure for care in keeper.seen] == ["", ""]

    asyncio.run(scene())


def test_tables_that_cannot_be_listed_are_told_of_until_they_can() -> None:
    class Away(Jobs):
        async def tables(self, place: Place) -> tuple[TableName, ...]:
            if self.there:
                return self.there
            raise Transient("the catalog does not answer", advice="Look there")

    async def scene() -> None:
        jobs = Away(there=())
        keeper = caretaker(jobs)
        await keeper.round(PLACE)
        [care] = keeper.seen
        assert (care.table, care.failure) == ("", "the catalog does not answer. Look there")
        jobs.there = (ORDERS,)
        await keeper.round(PLACE)
        assert [care.table for care in keeper.seen] == ["shop.orders"]
        jobs.there = (ITEMS,)
        await keeper.round(PLACE)
        assert [care.table for care in keeper.seen] == ["shop.items"], "a table that is gone is forgotten"

    asyncio.run(scene())


def test_a_stop_ends_the_job_under_way() -> None:
    async def scene() -> None:
        jobs = Jobs(blocks=True)
        task = asyncio.create_task(caretaker(jobs).run())
        await jobs.until(lambda: jobs.begun == [ORDERS])
        await stopped(task)
        assert (jobs.begun, jobs.ended) == ([ORDERS], 1)

    asyncio.run(scene())


def test_a_job_that_takes_too_long_is_ended_and_told_of() -> None:
    async def scene() -> None:
        jobs = Jobs(blocks=True)
        keeper = caretaker(jobs, limits=Limits(care_job_ms_max=1))
        await keeper.round(PLACE)
        assert jobs.ended == 2
        assert all("and was ended" in care.failure for care in keeper.seen)

    asyncio.run(scene())


def test_the_flows_of_a_driver_share_the_jobs_there_may_be() -> None:
    async def scene() -> None:
        jobs = Jobs()
        share = Share(LIMITS)
        keepers = [
            Caretaker([Round(PLACE, 1)], jobs, share=share, limits=LIMITS, is_streaming=lambda: True) for _ in range(5)
        ]
        await asyncio.gather(*(keeper.round(PLACE) for keeper in keepers))
        assert (len(jobs.begun), jobs.most_at_once) == (10, LIMITS.care_jobs_max)

    asyncio.run(scene())


def test_nothing_is_begun_while_the_flow_does_not_stream() -> None:
    async def scene() -> None:
        jobs = Jobs()
        looks = 0
        has_looked = asyncio.Event()

        def streams() -> bool:
            nonlocal looks
            looks += 1
            if looks == 5:
                has_looked.set()
            return False

        task = asyncio.create_task(caretaker(jobs, streams=streams).run())
        async with asyncio.timeout(WAIT_S):
            await has_looked.wait()
        await stopped(task)
        assert jobs.begun == []

    asyncio.run(scene())


def test_a_round_goes_on_where_the_end_of_an_epoch_left_it() -> None:
    async def scene() -> None:
        jobs = Jobs()
        answers = iter([True, False, False, True])  # before the first table, then a pause, then again
        await caretaker(jobs, streams=lambda: next(answers)).round(PLACE)
        assert jobs.begun == [ORDERS, ITEMS]

    asyncio.run(scene())


def test_a_flow_without_tables_to_look_after_has_nothing_to_wait_for() -> None:
    async def scene() -> None:
        await Caretaker([], Jobs(), share=Share(LIMITS), limits=LIMITS, is_streaming=lambda: True).run()

    asyncio.run(scene())


def test_lakes_are_looked_after_unless_somebody_else_does() -> None:
    def flow(**options: object) -> FlowSpec:
        source = {"type": "postgres", "options": {"dsn": "postgresql://127.0.0.1/shop"}}
        lake = {"name": "lake", "type": "delta", "options": {"path": "lake", "maintenance_interval": "7s", **options}}
        ware = {"name": "ware", "type": "duckdb", "options": {"dsn": "ware.duckdb"}}
        return FlowSpec.from_mapping({"name": "shop", "source": source, "destinations": [lake, ware]})

    [one] = rounds_of(flow())
    assert (one.place.flow, one.place.destination, one.interval_ms) == ("shop", "lake", 7_000)
    assert Path(one.place.directory) == Path.cwd()
    assert rounds_of(flow(maintenance="off")) == ()


def test_a_place_does_not_show_its_options() -> None:
    assert "hunter2" not in repr(
        Place(kind="delta", options={"secret_key": "hunter2"}, directory="", flow="f", destination="d")
    )
