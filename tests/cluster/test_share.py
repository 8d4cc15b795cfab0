"""What flows of one driver share."""

from __future__ import annotations

import asyncio

from cluster.share import Share
from wallaby.settings import Limits


def test_the_more_flows_the_less_often_each_is_asked() -> None:
    share = Share(Limits(status_poll_ms=250, status_polls_per_s_max=40))
    assert share.poll_interval_s == 0.25
    for _ in range(200):
        share.enter()
    assert share.poll_interval_s == 5
    for _ in range(190):
        share.leave()
    assert share.poll_interval_s == 0.25


async def test_no_more_flows_start_at_once_than_allowed_and_all_get_their_turn() -> None:
    share = Share(Limits(flows_starting_max=3))
    at_once, most, order = 0, 0, []

    async def start(number: int) -> None:
        nonlocal at_once, most
        async with share.starting:
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)  # the others get the loop while this one holds its place
            order.append(number)
            at_once -= 1

    await asyncio.gather(*map(start, range(20)))
    assert (most, order) == (3, list(range(20)))
