"""``wallaby snapshot`` shows how far copies are, follows one to its end, and asks before it empties targets."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from tests.wallaby.api.running import Running
from tests.wallaby.api.test_snapshots import NOON, begun, finished, tables
from tests.wallaby.cli.command import Wallaby, parsed
from wallaby.cli import run
from wallaby.cli.snapshot import bars
from wallaby.client import Client
from wallaby.errors import ConfigError, IllegalMove, NotFound, WallabyError
from wallaby.lifecycle import Command
from wallaby.schema import TableName
from wallaby.snapshot.progress import CopyState, TableCopy
from wallaby.testing.store_contract import a_flow


@pytest.fixture
def wallaby(running: Running) -> Wallaby:
    return Wallaby(running.address)


def halfway() -> list[TableCopy]:
    """One of three tables is done, one is being copied."""
    first, second, third = tables(3)
    return [
        replace(
            first,
            state=CopyState.COPIED,
            rows=1_000,
            bytes=3 << 20,
            started_at=NOON,
            updated_at=NOON + timedelta(seconds=10),
            finished_at=NOON + timedelta(seconds=10),
        ),
        replace(
            second,
            table=TableName("Shop", "the lines"),
            state=CopyState.COPYING,
            rows=500,
            bytes=1 << 20,
            estimated_rows=1_400,
            estimated_bytes=512,
            started_at=NOON + timedelta(seconds=10),
            updated_at=NOON + timedelta(seconds=15),
        ),
        replace(third, estimated_rows=600),
    ]


def test_nothing_copied_says_so(wallaby: Wallaby, running: Running) -> None:
    assert wallaby("snapshot", "list") == "No copies found.\n"
    assert wallaby("snapshot", "list", "-json") == '{"count":0,"snapshots":[]}\n'
    running.store.create_flow(a_flow())
    for flow in ("shop", "nope"):
        with pytest.raises(NotFound):
            wallaby("snapshot", "show", flow)


def test_a_copy_is_shown_with_pace_and_time_left(wallaby: Wallaby, running: Running) -> None:
    begun(running.store, halfway())
    assert wallaby("snapshot", "show", "shop").splitlines() == [
        "shop: copying, 50%, 1,500 of about 3,000 rows, 4.0 MiB, 1 of 3 tables, 100 rows/s, 15 s left",
        "  of 16/B374D848, epoch 1, begun 2026-01-02 12:00:00Z",
        "TABLE               STATE    ROWS   EXPECTED  BYTES    ON DISK",
        '"Shop".t0           copied   1,000  1,000     3.0 MiB  0 B',
        '"Shop"."the lines"  copying  500    1,400     1.0 MiB  512 B',
        '"Shop".t2           pending  0      600       0 B      0 B',
    ]
    shown = json.loads(wallaby("snapshot", "show", "shop", "-json"))
    assert (shown["state"], shown["share"], shown["rows_per_s"], shown["seconds_left"]) == ("copying", 0.5, 100, 15)
    assert [one["name"] for one in shown["table_snapshots"]] == ["t0", "the lines", "t2"]
    assert wallaby("snapshot", "list").splitlines() == [
        "FLOW  STATE    COPIED  ROWS   TABLES  LSN",
        "shop  copying  50%     1,500  1/3     16/B374D848",
    ]
    [listed] = json.loads(wallaby("snapshot", "list", "-json"))["snapshots"]
    assert listed == {name: value for name, value in shown.items() if name != "table_snapshots"}
    status = wallaby("flow", "status", "shop")
    assert "  copy copying, 1500 rows, 1 of 3 tables" in status.splitlines()
    assert set(json.loads(wallaby("flow", "status", "shop", "-json"))["snapshot"]) < set(listed)


def test_a_finished_copy_and_a_failed_one_promise_no_time(wallaby: Wallaby, running: Running) -> None:
    begun(running.store, halfway())
    running.store.move_flow("shop", Command.FAIL, "it broke")
    assert wallaby("snapshot", "show", "shop").splitlines()[0] == (
        "shop: failed, 50%, 1,500 of about 3,000 rows, 4.0 MiB, 1 of 3 tables, 100 rows/s"
    )
    finished(running.store, halfway())
    assert wallaby("snapshot", "show", "shop").startswith("shop: consistent, 100%, 21 rows, ")


def test_a_watch_shows_every_step_until_the_copy_is_consistent(wallaby: Wallaby, running: Running) -> None:
    begun(running.store, tables(3))
    steps = threading.Thread(target=lambda: finished(running.store, halfway()))
    with Client.connect(running.address) as client:
        watching = client.watch("shop", snapshots=True)
        assert next(watching).snapshot is None
        told = next(watching).snapshot
        assert told is not None
        steps.start()
        code, output = wallaby.code("snapshot", "watch", "shop", "-json")
        watching.close()  # type: ignore[attr-defined]  # a generator
    steps.join()
    assert code == 0
    states = [json.loads(line)["state"] for line in output.splitlines()]
    assert states[-1] == "consistent"
    assert set(states) <= {"copying", "consistent"}


@pytest.mark.parametrize(("command", "state"), [(Command.FAIL, "failed: it broke"), (Command.FINISH, "stopped")])
def test_a_watch_ends_when_the_flow_does(wallaby: Wallaby, running: Running, command: Command, state: str) -> None:
    begun(running.store, halfway())
    running.store.move_flow("shop", command, "it broke" if command is Command.FAIL else "")
    with pytest.raises(WallabyError, match=f"the flow is {state}"):
        wallaby("snapshot", "watch", "shop")
    finished(running.store, halfway())
    assert "consistent" in wallaby("snapshot", "watch", "shop")


def test_a_watch_of_a_flow_that_does_not_exist_ends_at_once(wallaby: Wallaby) -> None:
    with pytest.raises(NotFound):
        wallaby("snapshot", "watch", "nope")


@pytest.mark.must_not_fail(3)
def test_a_new_copy_needs_a_yes(wallaby: Wallaby, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    running.store.create_flow(a_flow())
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    with pytest.raises(ConfigError, match="empties the targets"):
        wallaby("snapshot", "restart", "shop")
    assert running.store.copy_due("shop") == 0
    said = wallaby("snapshot", "restart", "shop", "-yes")
    assert said == "Flow shop copies anew (state=FLOW_STATE_RUNNING); see `wallaby snapshot watch shop`\n"
    assert running.store.copy_due("shop") == 1
    assert json.loads(wallaby("snapshot", "show", "shop", "-json"))["wanted"] is True
    running.store.move_flow("shop", Command.STOP)
    with pytest.raises(IllegalMove):
        wallaby("snapshot", "restart", "shop", "-yes")
    running.store.move_flow("shop", Command.FINISH)
    assert wallaby("snapshot", "cancel", "shop") == "Flow shop keeps the copy it has\n"
    assert running.store.copy_due("shop") == 0
    with pytest.raises(NotFound):
        wallaby("snapshot", "restart", "nope", "-yes")


class Typing(io.StringIO):
    """A terminal somebody types at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("word", ["yes", "y", ""])
def test_who_types_anything_but_yes_changes_nothing(
    wallaby: Wallaby, running: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    running.store.create_flow(a_flow())
    monkeypatch.setattr("sys.stdin", Typing(f"{word}\n"))
    if word == "yes":
        wallaby("snapshot", "restart", "shop")
    else:
        with pytest.raises(WallabyError, match="nothing was changed"):
            wallaby("snapshot", "restart", "shop")
    assert "(copy)" in capsys.readouterr().err
    assert running.store.copy_due("shop") == (word == "yes")


def test_the_bars_show_what_is_copied_now_first_and_fit(running: Running) -> None:
    """Forty tables in a small terminal."""
    many = [*tables(40)]
    many[30] = replace(many[30], state=CopyState.COPYING, rows=25, started_at=NOON, updated_at=NOON)
    many[3] = replace(many[3], state=CopyState.COPIED, rows=7, started_at=NOON, finished_at=NOON)
    begun(running.store, many)
    with Client.connect(running.address) as client:
        drawn = bars(client.get_snapshot("shop"), list(client.list_table_snapshots("shop")))
    output = io.StringIO()
    Console(file=output, width=80, height=24).print(drawn)
    lines = output.getvalue().splitlines()
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert "25 of 100 copying" in lines[1]
    assert '"Shop".t30' in lines[1]
    assert "and 25 more tables" in lines[-1]


def test_a_watch_in_a_terminal_leaves_the_last_bars_on_it(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    begun(running.store, halfway())
    finished(running.store, halfway())
    words = parsed("snapshot", "watch", "shop", "-endpoint", running.address)
    assert run(words, Typing()) == 0
    shown = capsys.readouterr().out
    assert "shop: consistent, 100%, 21 rows" in shown
    assert '"Shop"."the lines"' in shown
