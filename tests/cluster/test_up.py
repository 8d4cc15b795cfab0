"""``wallaby up`` steered by ``wallaby flow …`` over real gRPC: flows run, stop, resume and end as they are told."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from tests.cluster.conftest import START_S, STEP_S, Command, RayHost
from tests.cluster.test_run import contents, drop_slots
from wallaby.client import Client, Flow
from wallaby.lifecycle import FlowState
from wallaby.testing.postgres import ScratchDatabase

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

POLL_S: Final = 0.1


@dataclass(slots=True)
class Service:
    """A running ``wallaby up`` and its command line."""

    environment: Mapping[str, str]
    folder: Path
    command: Command | None = None
    address: str = ""
    started: list[Command] = field(default_factory=list)

    def up(self) -> None:
        words = [sys.executable, "-m", "cluster.cli", "up", "--json", "--listen", "127.0.0.1:0"]
        self.command = Command.start(words, environment=self.environment, folder=self.folder)
        self.started.append(self.command)
        text = json.loads(self.command.until("gRPC API on", START_S))["text"]
        self.address = text.removeprefix("gRPC API on ").partition(",")[0]

    def down(self) -> None:
        """SIGTERM; drains and exits 0."""
        assert self.command is not None
        self.command.signal(signal.SIGTERM)
        assert self.command.wait() == 0, self.command.tail()

    def flow(self, *words: str) -> dict[str, Any]:
        """The answer of a ``wallaby flow`` command that works, states without their prefix."""
        done = self.tried(*words)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(re.sub("FLOW_STATE_([A-Z]+)", lambda match: match[1].lower(), done.stdout))
        return answer

    def tried(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.client("flow", *words)

    def client(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Any client command, with something on its standard input."""
        line = [sys.executable, "-m", "cluster.cli", *words, "--endpoint", self.address, "--json"]
        return subprocess.run(
            line,
            env=dict(self.environment),
            cwd=self.folder,
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S,
        )

    def until(self, flow: str, state: FlowState) -> Flow:
        """The flow once it is in this state. Asked by a client of this process: a command takes half a second."""
        with Client.connect(self.address, timeout_s=STEP_S) as client:

            def is_there() -> Flow | None:
                found = client.get_flow(flow)
                return found if found.state is state else None

            found: Flow = awaited(is_there, f"{flow} to be {state}", self)
            return found

    def until_streaming(self, flow: str) -> None:
        with Client.connect(self.address, timeout_s=STEP_S) as client:
            awaited(lambda: client.flow_status(flow)["phase"] == "streaming", f"{flow} to stream", self)


def awaited(question: Any, what: str, service: Service | None = None) -> Any:
    """The first true answer; there is no signal to wait for across processes, so it is asked again and again."""
    deadline = time.monotonic() + STEP_S
    while not (answer := question()):
        said = service.command.tail() if service is not None and service.command is not None else ""
        assert time.monotonic() < deadline, f"waited in vain for {what}: {said}"
        time.sleep(POLL_S)  # between two questions: another process gives no sign
    return answer


@pytest.fixture
def service(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> Iterator[Service]:
    database.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "CREATE TABLE lines (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT g, 'first' FROM generate_series(1, 300) AS g",
        "INSERT INTO lines SELECT g, 'first' FROM generate_series(1, 50) AS g",
    )
    (tmp_path / "secret.key").write_text(base64.b64encode(b"1" * 32).decode())
    key = {"WALLABY_SECRET_KEY": f"file:{tmp_path / 'secret.key'}"}
    environment = {**ray_host.environment, "FROM_DSN": database.dsn, "TO_DSN": target_database.dsn, **key}
    service = Service(environment, tmp_path)
    service.up()
    yield service
    for command in service.started:
        command.end()
    drop_slots(database)


def write(service: Service, name: str, table: str, kind: str, options: dict[str, Any], **config: str) -> str:
    file = service.folder / f"{name}.yaml"
    flow = {
        "id": name,
        "source": {"type": "postgres", "options": {"dsn": "env:FROM_DSN", "publication_tables": [table]}},
        "destinations": [{"name": "there", "type": kind, "options": options}],
        "config": config,
    }
    file.write_text(yaml.safe_dump(flow))
    return str(file)


@pytest.mark.must_not_fail(2)
def test_flows_made_through_the_api_run_side_by_side_stop_resume_and_survive_the_driver(
    service: Service, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    orders, lines = f"orders_{database.name}", f"lines_{database.name}"
    copy = write(service, orders, "orders", "postgres", {"dsn": "env:TO_DSN"})
    files = service.folder / "files"
    files.mkdir()
    log = write(service, lines, "lines", "files", {"path": str(files), "write_mode": "append"})
    assert service.flow("create", "--file", copy)["state"] == "created"
    service.flow("start", orders)
    service.flow("create", "--file", log, "--start")

    def equal() -> bool:
        exists = target_database.fetch("SELECT to_regclass('public.orders') IS NOT NULL") == [(True,)]
        return exists and contents(target_database) == contents(database)

    awaited(equal, "the copy", service)
    awaited(lambda: [*files.rglob("*.parquet")], "files")
    assert {item["id"]: item["state"] for item in service.flow("list")["flows"]} == {
        orders: "running",
        lines: "running",
    }
    refused = service.tried("update", "--file", copy)
    assert refused.returncode == 1
    assert "Stop it first" in refused.stderr
    service.until_streaming(orders)
    assert service.flow("status", orders)["flow"] == orders

    database.execute("UPDATE orders SET note = 'second' WHERE id <= 100")
    assert service.flow("stop", orders, "--wait")["state"] == "paused"
    assert equal(), "a stop drains"
    database.execute("DELETE FROM orders WHERE id > 250", "INSERT INTO orders VALUES (1000, 'third')")
    assert service.flow("update", "--file", copy)["state"] == "paused"
    service.flow("resume", orders)
    awaited(equal, "what came while it was paused")

    service.down()
    database.execute("UPDATE orders SET note = 'fourth' WHERE id = 1000")
    service.up()
    awaited(equal, "the flow to go on by itself under the next driver")
    service.until(lines, FlowState.RUNNING)

    service.flow("stop", orders, "--wait")
    database.execute("INSERT INTO orders VALUES (2000, 'fifth')")
    service.flow("run-once", orders)
    service.until(orders, FlowState.STOPPED)
    assert equal()
    assert service.flow("delete", orders)["deleted"]
    assert service.tried("get", orders).returncode == 1
    service.flow("stop", lines, "--wait")
    service.down()


@pytest.mark.must_not_fail(16)
def test_a_refused_row_waits_as_a_dead_letter_until_it_is_replayed(
    service: Service, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    name = f"letters_{database.name}"
    file = Path(write(service, name, "orders", "postgres", {"dsn": "env:TO_DSN"}))
    file.write_text(file.read_text().replace("config: {}", "config: {dead_letters: {policy: skip}}"))
    service.flow("create", "--file", str(file), "--start")
    service.until_streaming(name)
    target_database.execute("ALTER TABLE orders ADD CHECK (note <> 'poison')")
    database.execute("UPDATE orders SET note = CASE id WHEN 7 THEN 'poison' ELSE 'second' END")

    def noted() -> list[tuple[Any, ...]]:
        return target_database.fetch("SELECT note, count(*) FROM orders GROUP BY 1 ORDER BY 1")

    # In one commit with the next change of its key the row would never reach the target.
    awaited(lambda: noted() == [("first", 1), ("second", 299)], "the refusal", service)
    database.execute("UPDATE orders SET note = 'third' WHERE id IN (7, 8)")
    awaited(lambda: noted() == [("first", 1), ("second", 298), ("third", 1)], "the other rows", service)
    listed = json.loads(service.client("dead-letter", "list", "--flow-id", name).stdout)
    assert [(letter["operation"], letter["has_payload"]) for letter in listed["letters"]] == [("update", True)] * 2
    target_database.execute("ALTER TABLE orders DROP CONSTRAINT orders_note_check")
    done = service.client("dead-letter", "replay", "--flow-id", name, "--table", "orders")
    assert done.returncode == 0, done.stderr
    awaited(lambda: noted() == [("second", 298), ("third", 2)], "the replay", service)
    awaited(lambda: '"count":0' in service.client("dead-letter", "list", "--flow-id", name).stdout, "its end", service)
    database.execute("UPDATE orders SET note = 'fourth' WHERE id = 7")
    awaited(lambda: ("fourth", 1) in noted(), "the key to flow again", service)
    service.flow("stop", name, "--wait")
    service.down()


@pytest.mark.must_not_fail(3, 5)
def test_a_new_copy_wanted_through_the_api_repairs_a_lost_slot_survives_the_driver_and_restarts_what_runs(
    service: Service, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    name = f"anew_{database.name}"
    service.flow("create", "--file", write(service, name, "orders", "postgres", {"dsn": "env:TO_DSN"}), "--start")

    def snapshot(*words: str) -> dict[str, Any]:
        done = service.client("snapshot", *words)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer

    def copied_after(epoch: int) -> dict[str, Any]:
        def shown() -> dict[str, Any] | None:
            found = snapshot("watch", name)
            return found if found["epoch"] > epoch else None

        found: dict[str, Any] = awaited(shown, "the copy", service)
        [table] = snapshot("show", name)["table_snapshots"]
        [(rows, _)] = contents(database)
        assert (found["state"], table["state"], table["copied_rows"]) == ("consistent", "consistent", rows)
        assert contents(target_database) == contents(database)
        return found

    first = copied_after(0)
    service.flow("stop", name, "--wait")
    drop_slots(database)
    database.execute("DELETE FROM orders WHERE id <= 100", "INSERT INTO orders VALUES (7000, 'unseen')")
    service.flow("start", name)
    assert "wallaby snapshot restart" in service.until(name, FlowState.FAILED).reason

    snapshot("restart", name, "-yes")
    assert service.command is not None
    service.command.signal(signal.SIGKILL)
    service.command.wait()
    service.up()
    second = copied_after(first["epoch"])

    # It streams; a row that nobody at the source knows shows whether the target is emptied.
    target_database.execute("INSERT INTO orders VALUES (9999, 'alien')")
    snapshot("restart", name, "-yes")
    third = copied_after(second["epoch"])
    assert not third["wanted"]
    assert service.flow("get", name)["state"] == "running"
    service.flow("stop", name, "--wait")
    service.down()


@pytest.mark.must_not_fail(24)
def test_a_flow_runs_on_secrets_of_the_control_store_and_nobody_sees_them(
    service: Service, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    """The servers ask for no password, so one can be in the secrets and be looked for everywhere."""
    password = "hunter2-sealed"
    name = f"sealed_{database.name}"
    file = Path(write(service, name, "orders", "postgres", {"dsn": "secret:target"}))
    file.write_text(file.read_text().replace("env:FROM_DSN", "secret:source"))
    service.flow("create", "--file", str(file), "--start")
    assert "wallaby secret set source" in service.until(name, FlowState.FAILED).reason
    for secret, dsn in (("source", database.dsn), ("target", target_database.dsn)):
        done = service.client("secret", "set", secret, typed=make_conninfo(dsn, password=password))
        assert done.returncode == 0, done.stderr
    service.flow("start", name)

    def equal() -> bool:
        exists = target_database.fetch("SELECT to_regclass('public.orders') IS NOT NULL") == [(True,)]
        return exists and contents(target_database) == contents(database)

    awaited(equal, "the copy", service)
    shown = [service.client(*words).stdout for words in (("flow", "get", name), ("flow", "status", name), ("audit",))]
    assert "secret:source" in shown[0]
    service.flow("stop", name, "--wait")
    service.down()
    assert service.command is not None
    assert password not in "".join([*shown, *service.command.lines, *service.command.errors])
    for path in (service.folder / ".wallaby").iterdir():
        assert password.encode() not in path.read_bytes()


def test_a_flow_that_cannot_run_fails_with_the_reason_and_changes_nothing(
    service: Service, database: ScratchDatabase, target_database: ScratchDatabase
) -> None:
    database.execute("CREATE TABLE keyless (id int)")
    name = f"unfit_{database.name}"
    service.flow("create", "--file", write(service, name, "keyless", "postgres", {"dsn": "env:TO_DSN"}), "--start")
    assert "replica identity" in service.until(name, FlowState.FAILED).reason
    assert database.slots() == []
    assert database.fetch("SELECT pubname FROM pg_publication") == []
    database.execute("ALTER TABLE keyless REPLICA IDENTITY FULL")
    service.flow("start", name)
    awaited(lambda: database.slots(), "the slot")
    service.flow("stop", name, "--wait")
    service.down()


_IMPATIENT: Final = """
import asyncio, sys
from pathlib import Path
from cluster.driver import Driver
from cluster.ray_runtime import attached
from cluster.supervisor import RunMode
from wallaby.flow import FlowSpec
from wallaby.settings import Limits, Settings

async def drive():
    limits = Limits(fruitless_epochs_max=2, restart_delay_max_ms=300)
    settings = Settings(grpc_listen="127.0.0.1:0", state_dir=Path("state").absolute())
    driver = Driver(settings, limits=limits, observe=lambda status: None)
    await driver.start()
    flow = FlowSpec.from_file(sys.argv[1])
    outcome = await driver.run_flow(flow, RunMode(once=True))
    print(outcome, (driver.last_status(flow.id).error), flush=True)
    await driver.close()

with attached():
    asyncio.run(drive())
"""
"""`wallaby run --once` that gives up after two attempts instead of ten."""


def test_a_flow_that_gives_up_drops_its_slot_when_told_so_and_copies_anew(
    ray_host: RayHost, database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path
) -> None:
    """The target accepts nobody any more: with `on_retry_exhaustion` and `drop_slot` the source is relieved."""
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)", "INSERT INTO orders VALUES (1, 'first')")
    environment = {**ray_host.environment, "FROM_DSN": database.dsn, "TO_DSN": target_database.dsn}
    policies = {"failure_mode": "drop_slot", "give_up_policy": "on_retry_exhaustion"}
    file = write(Service(environment, tmp_path), database.name, "orders", "postgres", {"dsn": "env:TO_DSN"}, **policies)

    def run() -> str:
        words = [sys.executable, "-c", _IMPATIENT, file]
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=START_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        assert run().startswith("drained")
        assert database.slots() == [f"wallaby_{database.name}"]
        with psycopg.connect(target_database.server.dsn(), autocommit=True) as admin:
            allow = f'ALTER DATABASE "{target_database.name}" WITH ALLOW_CONNECTIONS'
            admin.execute(f"{allow} false".encode())
            try:
                answer = run()
            finally:
                admin.execute(f"{allow} true".encode())
        assert answer.startswith("failed given up after 2 attempts without progress")
        assert "The slot was dropped" in answer
        assert database.slots() == []
        database.execute("DELETE FROM orders", "INSERT INTO orders VALUES (5000, 'unseen')")
        assert run().startswith("drained")
        assert contents(target_database) == contents(database)
    finally:
        drop_slots(database)
