"""``wallaby maintain``: what is due is said or done, table by table, for people and for machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.cli import main
from sinks.delta import FACTORY
from tests.sinks.lane import TestLane
from wallaby.testing.changes import insert, table
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

TABLES = [table(f"shop.{name}", {"id": "int8"}, key=["id"]) for name in ("orders", "items")]


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A flow whose lake has two tables of three small files each."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lake").mkdir()
    sink = FACTORY.create({"path": "lake"}, destination="lake")
    lane = TestLane(sink, LaneId("shop", "lake"))
    lane.apply_all(windows_of(*[[(one, insert(n)) for one in TABLES] for n in range(3)]))
    sink.close()
    return written(tmp_path, [{"name": "lake", "type": "delta", "options": {"path": "lake", "compact_files": 2}}])


def written(folder: Path, destinations: list[dict[str, Any]]) -> str:
    file = folder / "flow.yaml"
    source = {"type": "postgres", "options": {"dsn": "postgresql://nobody@127.0.0.1/shop"}}
    file.write_text(yaml.safe_dump({"name": "shop", "source": source, "destinations": destinations}))
    return str(file)


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_dry_run_says_what_is_due_and_a_run_does_it(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["maintain", flow, "--dry-run"]) == 0
        shown = capsys.readouterr().out
        assert "lake shop.orders: 3 files (3 small" in shown
        assert shown.count("due: compact, checkpoint") == 2
    assert main(["maintain", flow]) == 0
    assert "compact, checkpoint → 1 files (1 small" in capsys.readouterr().out
    assert main(["maintain", flow]) == 0
    assert capsys.readouterr().out.count("nothing is due") == 2


def test_one_table_is_done_alone_and_machines_get_a_line_for_each(
    flow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["maintain", flow, "--json", "--table", "shop.items"]) == 0
    [event] = events(capsys)
    assert (event["event"], event["flow"], event["destination"], event["table"]) == (
        "care",
        "shop",
        "lake",
        "shop.items",
    )
    assert (event["done"], event["before"]["files"], event["after"]["files"]) == (["compact", "checkpoint"], 3, 1)
    assert main(["maintain", flow, "--json", "--dry-run"]) == 0
    assert [bool(event["due"]) for event in events(capsys)] == [False, True]


def test_a_table_that_is_not_there_is_said(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintain", flow, "--table", "shop.absent"]) == 1
    assert "shop.absent" in capsys.readouterr().err


def test_a_failure_is_said_and_the_other_tables_have_their_turn(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    for file in Path("lake/shop/items").glob("*.parquet"):
        file.unlink()
    assert main(["maintain", flow]) == 1
    shown = capsys.readouterr().out
    assert "failed: files of the table are gone" in shown
    assert shown.count("compact, checkpoint →") == 1


def test_a_flow_without_a_lake_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, [{"name": "ware", "type": "duckdb", "options": {"dsn": "ware.duckdb"}}])
    assert main(["maintain", file]) == 2
    assert "no destination with tables to look after" in capsys.readouterr().err
