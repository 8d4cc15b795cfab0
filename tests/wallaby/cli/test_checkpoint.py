"""``wallaby checkpoint`` shows what is durable, and moves it by hand."""

from __future__ import annotations

import json

import pytest

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby
from wallaby.errors import IllegalMove, NotFound
from wallaby.lsn import START, Lsn, Position
from wallaby.testing.store_contract import a_flow


def test_checkpoints_are_listed_and_shown(running: Running) -> None:
    wallaby = Wallaby(running.address)
    assert wallaby("checkpoint", "list") == "No checkpoints found.\n"
    with pytest.raises(NotFound):
        wallaby("checkpoint", "get", "shop")
    position = Position(Lsn.parse("16/B374D848"))
    running.store.begin_epoch("shop")
    running.store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/lake/0": position})
    header, line = wallaby("checkpoint", "list").splitlines()
    assert header.split() == ["FLOW", "LSN", "EPOCH", "AT"]
    assert line.split()[:3] == ["shop", "16/B374D848", "1"]
    shown = wallaby("checkpoint", "get", "shop")
    assert shown.startswith("Flow shop is durable up to 16/B374D848, since ")
    assert f"lane.shop/lake/0: {position}" in shown
    value = json.loads(wallaby("checkpoint", "get", "shop", "-json"))
    assert (value["lsn"], value["metadata"]["position"]) == ("16/B374D848", str(position))
    assert json.loads(wallaby("checkpoint", "list", "-json")) == {"count": 1, "checkpoints": [value]}


def test_a_checkpoint_is_put_back_only_by_force(running: Running) -> None:
    wallaby = Wallaby(running.address)
    position = Position(Lsn.parse("16/B374D848"))
    running.store.create_flow(a_flow())
    running.store.begin_epoch("shop")
    running.store.commit_checkpoint("shop", epoch=1, after=START, upto=position, lanes={"shop/copy/0": position})
    with pytest.raises(IllegalMove, match="an admin may force it"):
        wallaby("checkpoint", "put", "shop", "16/0")
    with pytest.raises(IllegalMove, match="would be lost"):
        wallaby("checkpoint", "put", "shop", "17/0", "-force")
    said = wallaby("checkpoint", "put", "shop", "16/0", "-force")
    assert said == "The checkpoint of flow shop stands at 16/0\n"
    assert json.loads(wallaby("checkpoint", "put", "shop", "16/0", "-json"))["metadata"]["epoch"] == "2"
    calls = json.loads(wallaby("audit", "-flow-id", "shop", "-json"))["calls"]
    assert [call["code"] for call in calls] == ["OK", "OK", "FAILED_PRECONDITION", "FAILED_PRECONDITION"]
