"""``wallaby ddl`` prints what the Go tool prints, and decides along the table."""

from __future__ import annotations

import argparse
import json

import pytest

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby, parsed
from wallaby.errors import IllegalMove, NotFound
from wallaby.lsn import Lsn, Position


@pytest.fixture
def wallaby(running: Running) -> Wallaby:
    return Wallaby(running.address)


def record(running: Running, lsn: int, ddl: str = "", plan: str = "") -> int:
    return running.store.record_ddl("shop", position=Position(Lsn(lsn)), ddl=ddl, plan_json=plan).id


def test_an_empty_list_says_so(wallaby: Wallaby) -> None:
    assert wallaby("ddl", "list") == "No DDL events found.\n"
    assert wallaby("ddl", "list", "-json") == '{"status":"pending","count":0,"events":[]}\n'


def test_changes_are_listed_decided_and_listed_by_status(wallaby: Wallaby, running: Running) -> None:
    first = record(running, 0xA, "ALTER TABLE t\n  ADD c int")
    second = record(running, 0xB, plan="{" + "x" * 200)
    third = record(running, 0xC)
    listed = [line.split(maxsplit=4) for line in wallaby("ddl", "list").splitlines()]
    assert listed == [
        ["ID", "STATUS", "LSN", "FLOW", "DDL/PLAN"],
        [str(first), "pending", "0/A", "shop", "ALTER TABLE t ADD c int"],
        [str(second), "pending", "0/B", "shop", "plan:{" + "x" * 119],
        [str(third), "pending", "0/C", "shop", "(no ddl)"],
    ]
    assert wallaby("ddl", "approve", "-id", str(first)) == f"Approved DDL {first} (status=approved)\n"
    assert wallaby("ddl", "apply", f"-id={first}") == f"Marked DDL {first} applied (status=applied)\n"
    assert wallaby("ddl", "reject", "--id", str(third)) == f"Rejected DDL {third} (status=rejected)\n"
    assert wallaby("ddl", "list", "-status", "rejected").splitlines()[1].endswith("(no ddl) [FAILED]")
    every = json.loads(wallaby("ddl", "list", "-status=all", "-flow-id", "shop", "-json"))
    assert (every["status"], every["count"]) == ("all", 3)
    assert [event["status"] for event in every["events"]] == ["applied", "pending", "rejected"]
    assert set(every["events"][0]) == {"id", "flow_id", "status", "lsn", "ddl", "created_at"}
    assert every["events"][0]["created_at"].endswith("Z")
    assert wallaby("ddl", "list", "-status", "all", "-flow-id", "other") == "No DDL events found.\n"


def test_illegal_decisions_end_with_our_errors(wallaby: Wallaby, running: Running) -> None:
    event_id = record(running, 1)
    with pytest.raises(IllegalMove, match="Approve it first"):
        wallaby("ddl", "apply", "-id", str(event_id))
    with pytest.raises(NotFound):
        wallaby("ddl", "approve", "-id", "999")


@pytest.mark.parametrize("words", [("approve",), ("approve", "-id", "x"), ("list", "-status", "nonsense")])
def test_wrong_words_are_usage_errors(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parsed("ddl", *words)
