"""``wallaby dead-letter`` lists, shows, and passes decisions on; the clients have the same calls."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby
from wallaby.client import AsyncClient, DeadLetter
from wallaby.errors import ConfigError, IllegalMove, NotFound
from wallaby.testing.letter_contract import a_letter, put


@pytest.fixture
def wallaby(running: Running) -> Wallaby:
    return Wallaby(running.address)


def test_an_empty_list_says_so(wallaby: Wallaby) -> None:
    assert wallaby("dead-letter", "list") == "No dead letters found.\n"
    assert wallaby("dead-letter", "replay", "-flow-id", "shop", "-json") == '{"count":0,"letters":[]}\n'


def test_letters_are_listed_shown_replayed_and_discarded(wallaby: Wallaby, running: Running) -> None:
    put(running.store, a_letter(1, keys=(1,)), a_letter(2, keys=(1,), error=""), a_letter(3, keys=(3,)))
    lines = wallaby("dead-letter", "list", "--table", '"Größe"."odd.name"').splitlines()
    assert lines[0].split() == ["ID", "STATE", "FLOW", "DESTINATION", "TABLE", "OPERATION", "ROWS", "LSN", "WHY"]
    assert lines[1].split()[:5] == ["1", "open", "shop", "copy", '"Größe"."odd.name"']
    shown = json.loads(wallaby("dead-letter", "show", "--id", "2", "--json"))
    assert (shown["id"], shown["scope"], shown["has_payload"], shown["state"]) == (2, "key", True, "open")
    assert "state" in wallaby("dead-letter", "show", "--id", "2")
    with pytest.raises(IllegalMove, match="letter 1 comes before it"):
        wallaby("dead-letter", "replay", "--ids", "2")
    asked = json.loads(wallaby("dead-letter", "replay", "--ids", "1, 2", "--json"))
    assert [letter["state"] for letter in asked["letters"]] == ["replaying", "replaying"]
    wallaby("dead-letter", "discard", "--flow-id", "shop", "--destination", "copy")
    every = json.loads(wallaby("dead-letter", "list", "--state", "all", "--json"))
    assert [letter["state"] for letter in every["letters"]] == ["replaying", "replaying", "discarded"]


def test_rows_that_are_not_kept_are_not_written(wallaby: Wallaby, running: Running, tmp_path: Path) -> None:
    put(running.store, a_letter(1, sealed=None))
    with pytest.raises(IllegalMove, match="not kept"):
        wallaby("dead-letter", "show", "--id", "1", "--payload", str(tmp_path / "rows.arrow"))
    assert not list(tmp_path.glob("*.arrow"))


def test_wrong_words_are_refused(wallaby: Wallaby) -> None:
    with pytest.raises(ConfigError, match="separated by commas"):
        wallaby("dead-letter", "replay", "--ids", "1;2")
    with pytest.raises(ConfigError, match="without ids"):
        wallaby("dead-letter", "discard")
    with pytest.raises(NotFound):
        wallaby("dead-letter", "show", "--id", "9")


def test_the_awaited_client_has_the_same_calls(running: Running) -> None:
    put(running.store, a_letter(1, keys=(1,)), a_letter(2, keys=(2,)))

    async def calls() -> list[DeadLetter]:
        async with AsyncClient.connect(running.address) as client:
            [first, _] = [letter async for letter in client.list_dead_letters(flow_id="shop")]
            assert await client.get_dead_letter(first.id) == first
            with pytest.raises(ConfigError):  # the server of this test has no key
                await client.dead_letter_payload(first.id)
            return [
                *await client.replay_dead_letters([first.id]),
                *await client.discard_dead_letters(flow_id="shop"),
            ]

    states = [(letter.table, letter.state) for letter in asyncio.run(calls())]
    assert states == [('"Größe"."odd.name"', "replaying"), ('"Größe"."odd.name"', "discarded")]
