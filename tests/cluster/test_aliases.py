"""The Go WALlaby's command names: its flags, its outputs, its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster import aliases
from tests.cluster.conftest import START_S, RayHost
from tests.cluster.test_run import contents, drop_slots
from tests.wallaby.api.running import Running
from wallaby.flow import FlowSpec
from wallaby.lsn import START, Lsn, Position
from wallaby.store.opening import open_sqlite
from wallaby.testing.postgres import ScratchDatabase

FLOW = {
    "name": "Shop",
    "wire_format": "arrow",
    "source": {"name": "pg", "type": "postgres", "options": {"dsn": "env:SHOP_DSN", "slot": "s", "publication": "p"}},
    "destinations": [{"name": "lake", "type": "duckdb", "options": {"dsn": "shop.duckdb"}}],
}


def test_admin_takes_the_flags_of_the_go_tool_and_prints_its_lines(
    running: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "flow.json"
    file.write_text(json.dumps(FLOW))
    at = ("-endpoint", running.address, "-insecure=true")
    for words, line in (
        (("flow", "create", "-file", str(file)), "Created flow shop (state=FLOW_STATE_CREATED)"),
        (("flow", "start", "-flow-id=shop"), "Started flow shop (state=FLOW_STATE_RUNNING)"),
        (("flow", "stop", "-flow-id", "shop", "-json"), '{"id":"shop","state":"FLOW_STATE_STOPPING"}'),
        (("flow", "resolve-staging", "-flow-id", "shop"), "Resolved staging for 0 destinations"),
        (("ddl", "list", "-status", "all"), "No DDL events found."),
        (("ddl", "list", "-json=true"), '{"status":"pending","count":0,"events":[]}'),
    ):
        assert aliases.admin([*words, *at]) == 0
        assert capsys.readouterr().out == f"{line}\n"


def test_failures_of_admin_end_with_1(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert aliases.admin(["flow", "start", "-flow-id", "nope", "-endpoint", running.address]) == 1
    assert "no flow of this id" in capsys.readouterr().err
    assert aliases.admin(["flow", "start", "-endpoint", running.address]) == 1
    assert "flow-id is required" in capsys.readouterr().err
    assert aliases.admin(["flow", "start", "-nonsense"]) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("usage: wallaby-admin")
    assert "nonsense" in captured.err
    assert aliases.admin(["-h"]) == 0


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ((), "flow-id is required"),
        (("-flow-id", "shop", "-mode", "backfill", "-tables", "a.b,c.d"), "A new flow copies a.b,c.d first"),
        (("-flow-id", "shop", "-mode", "snapshot"), "must be cdc or backfill"),
        (("-flow-id", "shop", "-max-empty-reads", "-1"), "must not be negative"),
        (("-flow-id", "shop", "-start-lsn", "here"), "expected two hexadecimal numbers"),
        (("-flow-id", "shop", "-start-lsn", "0/1"), "the flow stands at 0/64"),
        (("-flow-id", "nope", "-config", "x", "-tables", "a.b", "-snapshot-workers", "4"), "no flow of this id"),
        (("-flow-id", "shop", "-max-empty-reads", "many"), "invalid int value"),
    ],
)
def test_what_a_worker_cannot_do_ends_with_1_and_the_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    rule: str,
) -> None:
    monkeypatch.setenv("WALLABY_STATE_DIR", str(tmp_path))
    store = open_sqlite(tmp_path)
    store.create_flow(FlowSpec.from_mapping({**FLOW, "id": "shop"}))
    epoch = store.begin_epoch("shop").epoch
    store.commit_checkpoint("shop", epoch=epoch, after=START, upto=Position(Lsn(0x64)), lanes={})
    store.close()
    assert aliases.worker(list(words)) == 1
    assert rule in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_worker_runs_a_stored_flow_up_to_the_present_position(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT g, 'first' FROM generate_series(1, 100) AS g",
    )
    name = f"worker_{database.name}"
    store = open_sqlite(tmp_path / "state")
    store.create_flow(
        FlowSpec.from_mapping(
            yaml.safe_load(f"""
                id: {name}
                source: {{type: postgres, options: {{dsn: "env:FROM_DSN", publication_tables: [orders]}}}}
                destinations: [{{type: postgres, options: {{dsn: "env:TO_DSN"}}}}]
            """)
        )
    )
    store.close()
    environment = {
        **ray_host.environment,
        "FROM_DSN": database.dsn,
        "TO_DSN": target_database.dsn,
        "WALLABY_STATE_DIR": str(tmp_path / "state"),
    }
    command = [sys.executable, "-m", "cluster.aliases", "worker", "-flow-id", name, "-max-empty-reads", "1"]
    try:
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=START_S
        )
        assert done.returncode == 0, done.stderr
        assert contents(target_database) == contents(database)
        store = open_sqlite(tmp_path / "state")
        assert store.get_flow(name).state == "stopped"
        store.close()
    finally:
        drop_slots(database)
