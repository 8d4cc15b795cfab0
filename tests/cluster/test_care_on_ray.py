"""Care beside a flow under a real Ray: it happens, the status shows it, and the flow ends as if it were not there."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from deltalake import DeltaTable

from tests.cluster.conftest import START_S, Command, RayHost
from tests.cluster.test_run import drop_slots
from tests.sinks.iceberg.lake import Lake
from wallaby.testing.postgres import ScratchDatabase

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
ROUNDS_MAX = 200


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    lake = Lake(tmp_path)
    yield lake
    lake.close()


@pytest.mark.must_not_fail(17)
def test_tables_are_looked_after_beside_the_flow_and_a_stop_does_not_wait(
    ray_host: RayHost, database: ScratchDatabase, lake: Lake, tmp_path: Path
) -> None:
    """Commits until both lakes had a compaction; then a stop, maybe in the middle of one."""
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)")
    (tmp_path / "delta").mkdir()
    often = {"maintenance_interval": "1s", "compact_files": 2, "commit_interval": "50ms"}
    flow = {
        "name": database.name,
        "source": {"type": "postgres", "options": {"dsn": "env:FROM_DSN", "publication_tables": ["orders"]}},
        "destinations": [
            {"name": "ice", "type": "iceberg", "options": lake.options(**often)},
            {"name": "delta", "type": "delta", "options": {"path": "delta", **often}},
        ],
    }
    (tmp_path / "flow.yaml").write_text(yaml.safe_dump(flow))
    words = [sys.executable, "-m", "cluster.cli", "run", "flow.yaml", "--json", "--listen", "127.0.0.1:0"]
    command = Command.start(words, environment={**ray_host.environment, "FROM_DSN": database.dsn}, folder=tmp_path)
    try:
        command.until('"phase":"streaming"', START_S)
        seen: dict[str, dict[str, Any]] = {}
        count = 0
        while {"ice", "delta"} - seen.keys():
            assert count < ROUNDS_MAX, f"no care for { ({'ice', 'delta'} - seen.keys()) }: {command.tail()}"
            database.execute(f"INSERT INTO orders VALUES ({count}, 'x')")
            count += 1
            progress = json.loads(command.until('"event":"progress"'))
            seen |= {care["destination"]: care for care in progress["care"] if "compact" in care["done"]}
        assert all(care["table"] == "public.orders" and care["failure"] == "" for care in seen.values())
        command.signal(signal.SIGINT)
        assert command.wait() == 0, command.tail()
    finally:
        command.end()
        drop_slots(database)
    expected = list(range(count))
    assert sorted(lake.catalog.load_table(("public", "orders")).scan().to_arrow()["id"].to_pylist()) == expected
    found = DeltaTable(str(tmp_path / "delta" / "public" / "orders"))
    assert sorted(found.to_pyarrow_table()["id"].to_pylist()) == expected
    assert "OPTIMIZE" in {entry["operation"] for entry in found.history()}
