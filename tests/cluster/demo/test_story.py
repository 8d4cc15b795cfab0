"""The story's texts: commands in it really work, and success is only claimed for equal content."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from rich.console import Console

from cluster.demo.proof import Verdict
from cluster.demo.story import Outcome, Setting, duckdb_command, opening, report, tell_end, what_next
from cluster.demo.workload import WorkloadProgress
from wallaby.lsn import Lsn
from wallaby.schema import TableName

SETTING = Setting(
    source="embedded PostgreSQL on port 5",
    destinations={"warehouse": "PostgreSQL database", "lake": "demo-data/[x].duckdb"},
    directory=Path("demo-data"),
    seconds=20,
    grpc_address="127.0.0.1:8080",
    dashboard_address="http://127.0.0.1:8265",
)


def outcome(*, is_equal: bool = True, count: int = 1) -> Outcome:
    verdict = Verdict(
        table=TableName("shop", "orders"),
        destination="lake",
        source_hash="a" * 64,
        destination_hash=("a" if is_equal else "b") * 64,
        source_rows=5,
        destination_rows=5,
        detail="" if is_equal else "1 distinct rows only at the source, 1 only here",
    )
    workload = WorkloadProgress(transactions=100, rows=2_000, rolled_back=3, elapsed_s=2.0, is_running=False)
    return Outcome(
        lsn=Lsn(0x1000), verdicts=[verdict] * count, workload=workload, catch_up_s=0.4, restarts=1, kills=["sink lake"]
    )


def told(result: Outcome, *, is_kept: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, width=100)
    tell_end(console, SETTING, result, duckdb_path=Path("demo-data/lake.duckdb"), is_kept=is_kept)
    return output.getvalue()


@pytest.mark.parametrize("name", ["shop.duckdb", "it's here.duckdb", "a$b.duckdb"])
def test_the_duckdb_command_works_in_a_shell(tmp_path: Path, name: str) -> None:
    with duckdb.connect(str(tmp_path / name)) as connection:
        connection.execute(f"CREATE SCHEMA {'shop.' if name.startswith('shop') else ''}shop")
        connection.execute("USE shop.shop" if name.startswith("shop") else "USE shop")
        connection.execute("CREATE TABLE orders AS SELECT 'paid' AS status, 1.5::DECIMAL(8, 2) AS total")
    command = duckdb_command(tmp_path / name, python=sys.executable)
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert "paid" in ended.stdout
    assert "1.50" in ended.stdout


def test_the_opening_names_every_place() -> None:
    output = io.StringIO()
    Console(file=output, width=100).print(opening(SETTING))
    for part in ("embedded PostgreSQL on port 5", "warehouse", "demo-data/[x].duckdb"):
        assert part in output.getvalue()
    assert "SIGKILL" not in output.getvalue()


def test_equal_content_is_called_proven() -> None:
    text = told(outcome())
    assert "Proven: 1 tables are equal in every destination" in text
    assert "100 transactions with 2,000 changed rows" in text
    assert "Killed on the way: sink lake" in text


def test_unequal_or_absent_content_is_never_called_proven() -> None:
    for result in (outcome(is_equal=False), outcome(count=0)):
        assert not result.is_proven
        assert "Not proven" in told(result)
    assert "1 only here" in told(outcome(is_equal=False)).replace("\n", " ")


def test_addresses_are_offered_only_while_something_listens() -> None:
    kept = what_next(SETTING, duckdb_path=None, is_kept=True)
    ended = what_next(SETTING, duckdb_path=None, is_kept=False)
    assert "wallaby flow list --endpoint 127.0.0.1:8080" in kept
    assert "8265" in kept
    assert "8080" not in ended
    assert "wallaby demo --keep" in ended


def test_the_report_is_json() -> None:
    read = json.loads(json.dumps(report(outcome())))
    assert read["equal"] is True
    assert read["lsn"] == "0/1000"
    assert read["workload"]["rows"] == 2_000
    assert read["kills"] == ["sink lake"]
