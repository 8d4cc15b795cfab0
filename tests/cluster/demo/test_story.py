"""The story's texts: commands in it really work, and success is only claimed for equal content."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from cluster.demo.proof import Verdict
from cluster.demo.story import duckdb_command, opening, tell
from cluster.demo.workload import WorkloadProgress
from cluster.view import JsonLines, LiveView, PlainLines
from wallaby.lsn import Lsn
from wallaby.schema import TableName
from wallaby.status import FlowStatus


@dataclass(frozen=True)
class Stage:
    shop_dsn: str = "host=h password=secretword"
    copy_dsn: str = "host=h password=secretword"
    duckdb_file: Path = Path("demo-data/[x].duckdb")
    parquet_directory: Path = Path("demo-data/parquet")


PROGRESS = WorkloadProgress(transactions=100, rows=2_000, rolled_back=3, elapsed_s=2.0, is_running=False)
STATUS = FlowStatus(flow="shop", state="running", phase="streaming", restarts=2)


def verdicts(*, is_equal: bool = True) -> list[Verdict]:
    return [
        Verdict(
            lsn=Lsn(0x1000),
            table=TableName("shop", "orders"),
            destination="duckdb",
            source_hash="a" * 64,
            destination_hash=("a" if is_equal else "b") * 64,
            source_rows=5,
            destination_rows=5,
            detail="" if is_equal else "1 distinct rows only at the source, 1 only here",
        )
    ]


def told(found: list[Verdict], *, is_kept: bool = False) -> str:
    output = io.StringIO()
    tell(
        PlainLines(output),
        stage=Stage(),
        verdicts=found,
        progress=PROGRESS,
        status=STATUS,
        address="127.0.0.1:8080",
        dashboard="http://127.0.0.1:8265",
        is_kept=is_kept,
    )
    return output.getvalue()


@pytest.mark.parametrize("name", ["shop.duckdb", "it's here.duckdb", "a$b.duckdb"])
def test_the_duckdb_command_works_in_a_shell(tmp_path: Path, name: str) -> None:
    with duckdb.connect() as connection:
        path = str(tmp_path / name).replace("'", "''")
        connection.execute(f"ATTACH '{path}' AS lake")
        connection.execute("CREATE SCHEMA lake.shop")
        connection.execute("CREATE TABLE lake.shop.orders AS SELECT 'paid' AS status, 1.5::DECIMAL(8, 2) AS total")
    command = duckdb_command(tmp_path / name, python=sys.executable)
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert "paid" in ended.stdout
    assert "1.50" in ended.stdout


def test_the_opening_names_every_place_and_no_password() -> None:
    output = io.StringIO()
    Console(file=output, width=100).print(opening(Stage(), source="embedded PostgreSQL on port 5", seconds=20))
    for part in ("embedded PostgreSQL on port 5", "demo-data/[x].duckdb", "demo-data/parquet", "20 s"):
        assert part in output.getvalue()
    assert "SIGKILL" not in output.getvalue()
    assert "secretword" not in output.getvalue()


def test_equal_content_is_called_proven() -> None:
    text = told(verdicts())
    assert "Proven: 1 tables are equal in 1 destinations" in text
    assert "100 transactions with 2,000 changed rows in 2.0 s (1,000 rows/s)" in text
    assert "restarted 2 times" in text
    assert "secretword" not in text


def test_unequal_or_absent_content_is_never_called_proven() -> None:
    assert "Not proven" in told(verdicts(is_equal=False))
    assert "Not proven" in told([])
    assert "1 only here" in told(verdicts(is_equal=False))
    assert "NOT equal" in told(verdicts(is_equal=False))


def test_addresses_are_offered_as_live_only_while_something_listens() -> None:
    kept, ended = told(verdicts(), is_kept=True), told(verdicts())
    assert "wallaby flow list --endpoint 127.0.0.1:8080" in kept
    assert "http://127.0.0.1:8265" in kept
    assert "wallaby demo --keep" in ended
    assert "this time it was 127.0.0.1:8080" in ended


def test_commands_are_never_wrapped() -> None:
    long = [line for line in told(verdicts()).splitlines() if "duckdb.connect" in line]
    assert len(long) == 1
    assert ".show()" in long[0]


def test_the_story_follows_the_live_picture() -> None:
    output = io.StringIO()
    console = Console(file=output, width=80, height=24, force_terminal=True)
    with LiveView(console) as view:
        view.update(STATUS)
        tell(view, stage=Stage(), verdicts=verdicts(), progress=PROGRESS, status=STATUS)
        view.update(STATUS)
    assert "Proven" in output.getvalue()


def test_the_report_is_one_json_line() -> None:
    output = io.StringIO()
    tell(JsonLines(output), stage=Stage(), verdicts=verdicts(), progress=PROGRESS, status=STATUS, as_json=True)
    read = json.loads(output.getvalue())
    assert read["event"] == "report"
    assert read["equal"] is True
    assert read["lsn"] == "0/1000"
    assert read["workload"]["rows"] == 2_000
    assert read["restarts"] == 2
