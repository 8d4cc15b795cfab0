"""``wallaby flow …`` against a real API: outputs for people and machines, and errors that end in the right way."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.wallaby.api.running import Running
from tests.wallaby.cli.command import Wallaby, parsed
from wallaby import cli
from wallaby.care import Condition, TableCare
from wallaby.errors import AlreadyExists, ConfigError, IllegalMove, NotFound, StoreUnavailable
from wallaby.lifecycle import Command
from wallaby.lsn import Lsn, Position
from wallaby.status import FlowStatus, LaneStatus, TableStatus

SECRET = "hunter2"
FLOW = {
    "name": "Shop",
    "source": {"type": "postgres", "options": {"dsn": "env:SHOP_DSN", "publication_tables": ["a.b", "c.*"]}},
    "destinations": [{"type": "duckdb", "options": {"dsn": "shop.duckdb"}}],
}


@pytest.fixture
def flow_file(tmp_path: Path) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_text(yaml.safe_dump(FLOW))
    return path


@pytest.fixture
def wallaby(running: Running) -> Callable[..., str]:
    command = Wallaby(running.address)
    return lambda *words: command("flow", *words)


def run_parsed(*words: str) -> int:
    return cli.run(parsed("flow", *words))


def test_a_flow_is_steered_from_creation_to_deletion(
    wallaby: Callable[..., str], running: Running, flow_file: Path
) -> None:
    assert wallaby("list") == "No flows found.\n"
    assert wallaby("create", "-file", str(flow_file)) == "Created flow shop (state=FLOW_STATE_CREATED)\n"
    assert wallaby("start", "-flow-id", "shop") == "Started flow shop (state=FLOW_STATE_RUNNING)\n"
    assert wallaby("stop", "shop") == "Stopped flow shop (state=FLOW_STATE_STOPPING)\n"
    running.store.move_flow("shop", Command.FINISH)
    assert wallaby("stop", "-wait", "shop") == "Stopped flow shop (state=FLOW_STATE_PAUSED)\n"
    assert wallaby("resume", "--flow-id=shop") == "Resumed flow shop (state=FLOW_STATE_RUNNING)\n"
    listing = wallaby("list").splitlines()
    assert [line.split() for line in listing] == [
        ["ID", "STATE", "NAME", "DESTINATIONS", "RUN"],
        ["shop", "FLOW_STATE_RUNNING", "Shop", "duckdb"],
    ]
    wallaby("stop", "shop")
    running.store.move_flow("shop", Command.FINISH)
    assert wallaby("run-once", "shop") == "Dispatched flow shop\n"
    running.store.move_flow("shop", Command.FINISH)
    assert wallaby("delete", "shop") == "Deleted flow shop\n"


def test_json_is_one_line_and_pretty_json_is_indented_by_two(wallaby: Callable[..., str], flow_file: Path) -> None:
    created = wallaby("create", "-file", str(flow_file), "-start", "-json")
    assert created == (
        '{"id":"shop","name":"Shop","state":"FLOW_STATE_RUNNING","wire_format":"WIRE_FORMAT_UNSPECIFIED"}\n'
    )
    assert wallaby("start", "-json=true", "-flow-id", "shop") == '{"id":"shop","state":"FLOW_STATE_RUNNING"}\n'
    assert wallaby("start", "-pretty", "shop").splitlines()[1] == '  "id": "shop",'
    assert wallaby("start", "-json=false", "shop").startswith("Started flow")
    listing = json.loads(wallaby("list", "-json", "-page-size", "1"))
    assert (listing["count"], listing["flows"][0]["id"]) == (1, "shop")


def test_run_once_and_delete_have_their_json(wallaby: Callable[..., str], running: Running, flow_file: Path) -> None:
    wallaby("create", "-file", str(flow_file))
    assert json.loads(wallaby("run-once", "-json", "shop")) == {"flow_id": "shop", "dispatched": True}
    running.store.move_flow("shop", Command.FINISH)
    assert json.loads(wallaby("delete", "-json", "shop")) == {"flow_id": "shop", "deleted": True}


def test_get_prints_a_definition_that_can_be_given_back(
    wallaby: Callable[..., str], flow_file: Path, tmp_path: Path
) -> None:
    wallaby("create", "-file", str(flow_file))
    shown = yaml.safe_load(wallaby("get", "shop"))
    assert (shown.pop("state"), shown.pop("revision"), shown.pop("reason")) == ("FLOW_STATE_CREATED", 1, "created")
    assert json.loads(wallaby("get", "-json", "shop"))["source"] == shown["source"]
    again = tmp_path / "again.json"
    again.write_text(json.dumps(shown))
    wallaby("update", "-file", str(again))
    assert yaml.safe_load(wallaby("get", "shop"))["source"] == shown["source"]


def test_update_may_pause_first_and_resume_afterwards(
    wallaby: Callable[..., str], running: Running, tmp_path: Path, flow_file: Path
) -> None:
    wallaby("create", "-file", str(flow_file), "-start")
    wallaby("stop", "shop")
    running.store.move_flow("shop", Command.FINISH)
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(FLOW | {"name": "Renamed", "parallelism": 2}))
    shown = wallaby("update", "-file", str(changed), "-flow-id", "shop", "-pause", "-resume")
    assert shown == "Updated flow shop (state=FLOW_STATE_RUNNING)\n"
    record = running.store.get_flow("shop")
    assert (record.spec.name, record.spec.parallelism, record.revision) == ("Renamed", 2, 2)


def test_status_shows_lanes_tables_and_the_reason(
    wallaby: Callable[..., str], running: Running, flow_file: Path
) -> None:
    wallaby("create", "-file", str(flow_file))
    running.control.statuses["shop"] = FlowStatus(
        flow="shop",
        state="running",
        phase="streaming",
        epoch=3,
        confirmed=Lsn.parse("16/B374D848"),
        lanes=(LaneStatus(destination="duckdb", state="streaming", position=Position(Lsn(16)), rows=12345),),
        tables=(TableStatus(table="public.orders", rows=99, copied=7),),
        care=(
            TableCare(
                destination="lake",
                table="public.items",
                condition=Condition(files=41, small_files=3, delete_files=2, versions=500),
                done=("compact",),
            ),
            TableCare(destination="lake", table="public.away", failure="the store does not answer"),
        ),
        error="the network was away",
    )
    shown = wallaby("status", "shop")
    [care] = [line.split() for line in shown.splitlines() if "public.items" in line]
    assert care == ["lake", "public.items", "41", "3", "2", "500", "-", "compact"]
    assert "care for public.away: the store does not answer" in shown
    for word in ("created, streaming, epoch 3", "16/B374D848", "12345", "public.orders", "the network was away"):
        assert word in shown
    assert json.loads(wallaby("status", "-json", "shop"))["lanes"][0]["rows"] == 12345


def test_a_watch_prints_what_is_and_what_becomes_of_it_until_ctrl_c(
    wallaby: Callable[..., str], running: Running, flow_file: Path
) -> None:
    class Reader(io.StringIO):
        def flush(self) -> None:
            lines = self.getvalue().count("\n")
            if lines == 1:
                running.store.move_flow("shop", Command.START, "because")
            elif lines == 2:
                raise KeyboardInterrupt

    wallaby("create", "-file", str(flow_file))
    for words in ((), ("shop",), ("-flow-id", "shop", "-json")):
        output = Reader()
        with pytest.raises(KeyboardInterrupt):
            cli.run(parsed("flow", "watch", *words, "-endpoint", running.address), output)
        first, second = output.getvalue().splitlines()
        if "-json" in words:
            assert json.loads(first).items() >= {"flow_id": "shop", "command": "", "after": "created"}.items()
            moved = json.loads(second)
            assert (moved["before"], moved["after"], moved["reason"]) == ("created", "running", "because")
            assert moved["cursor"] > json.loads(first)["cursor"]
        else:
            assert first.split()[1:3] == ["shop", "created"]
            assert second.split()[1:] == ["shop", "start", "created", "->", "running", "because"]
        running.store.move_flow("shop", Command.STOP)
        running.store.move_flow("shop", Command.FINISH)
        running.store.delete_flow("shop")
        wallaby("create", "-file", str(flow_file))


def test_pause_is_stop_and_there_is_no_staging(wallaby: Callable[..., str], running: Running, flow_file: Path) -> None:
    wallaby("create", "-file", str(flow_file), "-start")
    assert wallaby("pause", "shop") == "Paused flow shop (state=FLOW_STATE_STOPPING)\n"
    assert wallaby("resolve-staging", "-flow-id", "shop", "-tables", "a.b") == "Resolved staging for 0 destinations\n"


def test_validate_needs_no_server_and_tells_what_has_no_effect(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(FLOW | {"config": {"ack_policy": "primary"}, "wire_format": "json"}))
    output = io.StringIO()
    assert cli.run(parsed("flow", "validate", "-file", str(path)), output) == 0
    assert output.getvalue().startswith("Flow shop is valid\n  duckdb: exactly once\n")


def test_validate_by_the_server_says_the_same(wallaby: Callable[..., str], flow_file: Path) -> None:
    assert wallaby("validate", "-file", str(flow_file)) == "Flow shop is valid\n  duckdb: exactly once\n"


def test_a_wrong_file_ends_before_any_connection(tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(FLOW | {"sorce": {}}))
    with pytest.raises(ConfigError, match="Did you mean 'source'"):
        run_parsed("create", "-file", str(path), "-endpoint", "127.0.0.1:1")


def test_a_wrong_option_is_the_servers_to_name(wallaby: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(FLOW | {"destinations": [{"type": "duckdb", "options": {"dns": "x"}}]}))
    for command in ("create", "validate"):
        with pytest.raises(ConfigError, match=r"destinations\[0\].options.dns: .*Did you mean 'dsn'"):
            wallaby(command, "-file", str(path))


@pytest.mark.must_not_fail(24)
def test_a_password_in_the_file_is_refused_and_not_repeated(
    wallaby: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "flow.json"
    path.write_text(json.dumps(FLOW).replace("env:SHOP_DSN", f"postgresql://me:{SECRET}@db/x"))
    for command in ("create", "update", "validate"):
        with pytest.raises(ConfigError, match="env:NAME, file:PATH or secret:NAME") as refused:
            wallaby(command, "-file", str(path), *(("-flow-id", "shop") if command == "update" else ()))
        assert SECRET not in f"{refused.value!r}{refused.value}"
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err


def test_statuses_come_back_as_our_errors(wallaby: Callable[..., str], flow_file: Path) -> None:
    with pytest.raises(NotFound):
        wallaby("get", "nope")
    wallaby("create", "-file", str(flow_file))
    with pytest.raises(AlreadyExists):
        wallaby("create", "-file", str(flow_file))
    with pytest.raises(IllegalMove, match="Start it first"):
        wallaby("resume", "shop")


def test_no_server_is_said_with_advice() -> None:
    with pytest.raises(StoreUnavailable, match="wallaby up"):
        run_parsed("list", "-endpoint", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("get",), "flow-id is required"),
        (("get", "a", "-flow-id", "b"), "two different flows"),
        (("list", "-insecure", "-ca-file", "x"), "contradicts"),
        (("list", "-cert-file", "x"), "needs both"),
    ],
)
def test_wrong_usage_is_a_config_error(words: tuple[str, ...], rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        run_parsed(*words)


@pytest.mark.parametrize("words", [("nonsense",), ("get", "-nonsense"), ("create",), ("list", "-page-size", "many")])
def test_unknown_words_are_usage_errors(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((argparse.ArgumentError, SystemExit)):
        parsed("flow", *words)


def test_one_dash_and_two_dashes_mean_the_same() -> None:
    assert cli.long_flags(["-endpoint", "x", "--json", "-h", "-", "-1", "--", "-raw"]) == [
        *("--endpoint", "x", "--json", "-h", "-", "-1", "--", "-raw"),
    ]
    assert cli.long_flags(["-file=a=b", "-start=TRUE", "--pause=0"]) == ["--file=a=b", "--start", "--no-pause"]


def test_a_flow_in_back_off_is_shown_with_its_reason_and_its_next_attempt(
    wallaby: Callable[..., str], running: Running, flow_file: Path
) -> None:
    wallaby("create", "-file", str(flow_file), "-start")
    next_try = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    running.control.statuses["shop"] = FlowStatus(
        flow="shop",
        state="running",
        phase="backoff",
        epoch=8,
        restarts=7,
        error="the source is away",
        retry_at=next_try,
    )
    running.store.move_flow("shop", Command.RETRY, "the source is away")
    lines = wallaby("list").splitlines()
    assert lines[1].split("  ")[-1] == "backoff until 03:04:05, 7 restarts"
    assert lines[2] == "shop: the source is away"
    run = {
        "phase": "backoff",
        "epoch": 8,
        "restarts": 7,
        "error": "the source is away",
        "retry_at": "2030-01-02T03:04:05.000+00:00",
    }
    [listed] = json.loads(wallaby("list", "-json"))["flows"]
    shown = json.loads(wallaby("get", "shop", "-json"))
    assert listed["run"] == shown["run"] == run
    assert shown["reason"] == "the source is away"
    assert "tried again at 2030-01-02T03:04:05" in wallaby("status", "shop")
    running.store.move_flow("shop", Command.FAIL, "given up")
    assert "run" not in json.loads(wallaby("get", "shop", "-json")), "what was reported of a run that ended is old"
