"""``wallaby checkpoint`` shows what is durable."""

from __future__ import annotations

import json

import pytest

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby
from wallaby.errors import NotFound
from wallaby.lsn import START, Lsn, Position


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
