"""``wallaby check`` and the start of ``wallaby run``: every bad input is found, named and advised on; nothing changes.

The servers are real. What the catalogs, the roles and the folders hold is compared before and after every command.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import make_conninfo

from cluster.cli import main
from wallaby.lsn import Lsn
from wallaby.postgres.embedded import free_port
from wallaby.postgres.replication import ReplicationStream
from wallaby.settings import Limits, Settings
from wallaby.store import open_store
from wallaby.testing.postgres import ScratchDatabase, scratch_database, server_for_tests
from wallaby.vault import Vault

SECRET = "hunter2-in-clear"
CATALOG = """
SELECT 'relation', oid::text, relname::text, relkind::text, reltuples::text FROM pg_class WHERE oid >= 16384
UNION ALL SELECT 'column', attrelid::text, attname::text, atttypid::text, atttypmod::text
    FROM pg_attribute WHERE attrelid >= 16384
UNION ALL SELECT 'schema', oid::text, nspname::text, '', '' FROM pg_namespace WHERE nspname !~ '^pg_t'
UNION ALL SELECT 'publication', oid::text, pubname::text, '', '' FROM pg_publication
UNION ALL SELECT 'slot', slot_name::text, plugin::text, database::text, confirmed_flush_lsn::text
    FROM pg_replication_slots
UNION ALL SELECT 'role', oid::text, rolname::text, '', '' FROM pg_roles
ORDER BY 1, 2, 3
"""


@dataclass(slots=True)
class World:
    """A source with one table, a destination database and a folder; and a flow over them to spoil."""

    source: ScratchDatabase
    target: ScratchDatabase
    folder: Path
    capture: pytest.CaptureFixture[str]

    def flow(self, **changes: Any) -> dict[str, Any]:
        """The flow that is fit, with options of the source replaced."""
        options = {"dsn": with_password(self.source.dsn), "publication_tables": ["orders"], **changes}
        return {
            "name": self.source.name,
            "source": {"type": "postgres", "options": options},
            "destinations": [{"name": "copy", "type": "postgres", "options": {"dsn": with_password(self.target.dsn)}}],
        }

    def aimed(self, kind: str, **options: Any) -> dict[str, Any]:
        """The flow with another destination."""
        return {**self.flow(), "destinations": [{"name": "there", "type": kind, "options": options}]}

    def call(self, *words: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of a command."""
        self.capture.readouterr()
        try:
            code = main(words)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        output, errors = self.capture.readouterr()
        assert SECRET not in output + errors
        return code, output, errors

    def findings(self, flow: dict[str, Any], *, code: int = 1) -> dict[str, dict[str, str]]:
        """What `check` and `run` find, by code, and that both say it to people and machines and change nothing."""
        file = self.folder / "flow.yaml"
        file.write_text(yaml.safe_dump(flow))
        with self.unchanged():
            exits, output, _ = self.call("check", str(file), "--json")
            assert exits == code
            found = json.loads(output)
            assert found["event"] == "check"
            run_code, run_output, _ = self.call("run", str(file), "--json", "--state-dir", str(self.folder / "state"))
            assert run_code == code
            assert [found] == [json.loads(line) for line in run_output.splitlines()]
            _, text, _ = self.call("check", str(file))
        for item in found["findings"]:
            assert item["advice"], f"no advice: {item}"
            for part in ("subject", "message", "advice"):
                assert item[part] in text
        return {item["code"]: item for item in found["findings"]}

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Catalogs of both databases and the folder are the same afterwards."""
        before = self._state()
        yield
        assert self._state() == before

    def _state(self) -> tuple[Any, ...]:
        files = {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            for path in self.folder.rglob("*")
        }
        return self.source.fetch(CATALOG), self.target.fetch(CATALOG), files


@pytest.fixture
def world(
    database: ScratchDatabase, target_database: ScratchDatabase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> World:
    database.execute("CREATE TABLE orders (id int PRIMARY KEY, note text)", "INSERT INTO orders VALUES (1, 'one')")
    return World(database, target_database, tmp_path, capsys)


@pytest.fixture
def role(database: ScratchDatabase, target_database: ScratchDatabase) -> Iterator[str]:
    """A login role that may do nothing special."""
    name = f"plain_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    for place in (database, target_database):
        place.execute(f"DROP OWNED BY {name}")
    database.execute(f"DROP ROLE {name}")


def with_password(dsn: str, **changes: Any) -> str:
    """The DSN with a password the server does not ask for, and other parts."""
    return make_conninfo(dsn, password=SECRET, **changes)


def test_a_fit_flow_is_fit_and_stays_untouched(world: World) -> None:
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(world.flow()))
    with world.unchanged():
        code, output, _ = world.call("check", str(file))
        assert (code, output.strip()) == (0, f"{world.source.name}: nothing stands in the way.")
        code, output, _ = world.call("check", str(file), "--json")
    assert (code, json.loads(output)["fit"]) == (0, True)


def test_checking_needs_no_ray(world: World) -> None:
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(world.flow()))
    script = (
        "import sys; from cluster.cli import main; code = main(['check', sys.argv[1]]);"
        "assert 'ray' not in sys.modules, 'Ray was imported'; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"host": "no-such-host.invalid"}, "source-unreachable", "host"),
        ({"port": "closed"}, "source-unreachable", "nobody listens"),
        ({"dbname": "no_such_database"}, "source-refused", "database"),
        ({"user": "no_such_role"}, "source-refused", "role"),
    ],
)
def test_a_source_that_cannot_be_reached_is_named_by_its_field(
    world: World, changes: dict[str, Any], code: str, words: str
) -> None:
    given = {**changes, "port": free_port()} if changes.get("port") == "closed" else changes
    found = world.findings(world.flow(dsn=with_password(world.source.dsn, **given)))
    assert found.keys() == {code}
    assert found[code]["subject"] == "source.options.dsn"
    assert words in found[code]["message"]


@pytest.mark.parametrize("dsn", [f"postgresql://u:{SECRET}@host:port/d", f"host=h password={SECRET} nonsense=1"])
def test_a_connection_string_that_is_none_is_an_error_of_the_flow_file(world: World, dsn: str) -> None:
    found = world.findings(world.flow(dsn=dsn), code=2)
    assert found["source-config"]["subject"] == "source.options.dsn"
    found = world.findings(world.aimed("postgres", dsn=dsn), code=2)
    assert found["destination-config"]["subject"] == "destinations[0].options.dsn"


def test_a_wrong_password_is_told_from_a_wrong_host(world: World) -> None:
    with guarded_server() as dsn:
        found = world.findings(world.flow(dsn=with_password(dsn)))
        assert "refuses user or password" in found["source-refused"]["message"]
        found = world.findings(world.aimed("postgres", dsn=with_password(dsn)))
        assert "password" in found["destination-unreachable"]["message"]
        assert found["destination-unreachable"]["subject"] == "destinations[0].options.dsn"


@contextmanager
def guarded_server() -> Iterator[str]:
    """A listener that answers like a PostgreSQL that got a wrong password; the test servers trust everybody."""
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                while int.from_bytes(peer.recv(8)[4:8]) != 196608:
                    peer.sendall(b"N")
                peer.recv(4096)
                fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "u"\0\0'
                peer.sendall(b"E" + (4 + len(fields)).to_bytes(4) + fields)

    thread = threading.Thread(target=refuse)
    thread.start()
    try:
        yield f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/d"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_role_without_replication_is_told_what_to_grant(world: World, role: str) -> None:
    world.source.execute(f"GRANT SELECT ON orders TO {role}", "CREATE PUBLICATION there FOR TABLE orders")
    flow = world.flow(dsn=with_password(world.source.dsn, user=role), publication="there", ensure_publication=False)
    found = world.findings(flow)
    assert found.keys() == {"replication-privilege"}
    assert f'ALTER ROLE "{role}" REPLICATION' in found["replication-privilege"]["advice"]


def test_a_server_without_logical_wal_is_told_what_to_set(
    world: World, postgres_major: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with server_for_tests(postgres_major, {"wal_level": "replica"}) as server, scratch_database(server) as database:
        database.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        found = World(database, world.target, tmp_path, capsys).findings(world.flow(dsn=with_password(database.dsn)))
    assert "wal-level" in found
    assert "ALTER SYSTEM SET wal_level = 'logical'" in found["wal-level"]["advice"]


@pytest.fixture
def slot(world: World) -> Iterator[str]:
    """A name for a slot that is dropped afterwards."""
    name = f"taken_{world.source.name}"
    yield name
    world.source.execute(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
    )


def test_a_slot_of_another_plugin_or_database_is_refused(world: World, slot: str) -> None:
    world.source.execute(f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    found = world.findings(world.flow(slot=slot))
    assert found["slot-plugin"]["subject"] == f"slot {slot}"
    assert "test_decoding" in found["slot-plugin"]["message"]
    world.source.execute(f"SELECT pg_drop_replication_slot('{slot}')")
    world.target.execute(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    found = world.findings(world.flow(slot=slot))
    assert world.target.name in found["slot-database"]["message"]
    world.target.execute(f"SELECT pg_drop_replication_slot('{slot}')")


def test_a_slot_somebody_else_reads_is_refused_with_the_process_to_look_at(world: World, slot: str) -> None:
    world.source.execute(
        "CREATE PUBLICATION there FOR TABLE orders", f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
    )
    stream = ReplicationStream.open(
        world.source.dsn,
        slot=slot,
        publications=["there"],
        start=Lsn(0),
        limits=Limits(),
        application_name="another reader",
    )
    try:
        found = world.findings(world.flow(slot=slot))
    finally:
        stream.close()
    assert "streams from the slot" in found["slot-busy"]["message"]
    assert "pg_terminate_backend" in found["slot-busy"]["advice"]


def test_a_missing_publication_that_may_not_be_made_comes_with_its_statement(world: World) -> None:
    found = world.findings(world.flow(publication="missing", ensure_publication="false"))
    assert found["publication-missing"]["subject"] == "publication missing"
    assert 'CREATE PUBLICATION "missing" FOR TABLE "public"."orders"' in found["publication-missing"]["advice"]


def test_tables_that_do_not_exist_or_have_no_identity_are_named(world: World) -> None:
    found = world.findings(world.flow(publication_tables="orders, not_there"))
    assert "public.not_there" in found["publication-tables"]["message"]
    world.source.execute("CREATE TABLE keyless (id int)")
    found = world.findings(world.flow(publication_tables=["orders", "keyless"]))
    assert found["replica-identity"]["subject"] == "table public.keyless"
    assert "REPLICA IDENTITY FULL" in found["replica-identity"]["advice"]


def test_tables_the_role_may_not_read_are_named(world: World, role: str) -> None:
    world.source.execute(f"ALTER ROLE {role} REPLICATION", "CREATE PUBLICATION there FOR TABLE orders")
    found = world.findings(world.flow(dsn=with_password(world.source.dsn, user=role), publication="there"))
    assert found["select-privilege"]["subject"] == "table public.orders"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "no-such-host.invalid"}, "unknown host name"),
        ({"port": "closed"}, "connection refused"),
        ({"dbname": "no_such_database"}, "does not exist"),
    ],
)
def test_a_destination_that_cannot_be_reached_is_named_by_its_field(
    world: World, changes: dict[str, Any], words: str
) -> None:
    given = {**changes, "port": free_port()} if changes.get("port") == "closed" else changes
    found = world.findings(world.aimed("postgres", dsn=with_password(world.target.dsn, **given)))
    assert found.keys() == {"destination-unreachable"}
    assert found["destination-unreachable"]["subject"] == "destinations[0].options.dsn"
    assert words in found["destination-unreachable"]["message"]


def test_a_read_only_destination_is_refused(world: World) -> None:
    dsn = with_password(world.target.dsn, options="-c default_transaction_read_only=on")
    found = world.findings(world.aimed("postgres", dsn=dsn))
    assert found["destination-read-only"]["subject"] == "destinations[0].options.dsn"


def test_a_target_of_another_shape_is_refused_before_anything_is_made(world: World) -> None:
    world.target.execute("CREATE TABLE orders (id text PRIMARY KEY, remark text NOT NULL)")
    found = world.findings(world.flow())
    assert found["table-shape"]["subject"] == "destinations[0]: table public.orders"
    file = world.folder / "flow.yaml"
    _, text, _ = world.call("check", str(file))
    for column in ("id", "remark"):
        assert f"column {column} " in text


def test_a_role_that_may_not_write_at_the_destination_is_told_what_to_grant(world: World, role: str) -> None:
    found = world.findings(world.aimed("postgres", dsn=with_password(world.target.dsn, user=role)))
    assert "privilege" in found
    assert "GRANT" in found["privilege"]["advice"]


@pytest.mark.parametrize(
    ("kind", "options"), [("files", {"path": "gone"}), ("duckdb", {"dsn": "gone/shop.duckdb"})], ids=["files", "duckdb"]
)
def test_a_folder_that_is_not_there_is_named(world: World, kind: str, options: dict[str, str]) -> None:
    placed = {name: str(world.folder / value) for name, value in options.items()}
    found = world.findings(world.aimed(kind, **placed))
    assert "gone" in found["missing-folder"]["subject"]


def test_a_database_file_another_process_holds_is_named_with_that_process(world: World) -> None:
    file = world.folder / "shop.duckdb"
    script = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        found = world.findings(world.aimed("duckdb", dsn=str(file)))
        assert holder.stdin is not None
        holder.stdin.close()
    [finding] = found.values()
    assert finding["subject"].startswith("destinations[0]")
    assert f"process {holder.pid}" in finding["message"]


def test_an_unknown_key_ends_before_any_connection_with_the_nearest_known_one(world: World) -> None:
    flow = world.flow(dsn=with_password(world.source.dsn, host="no-such-host.invalid"), publication_table=["orders"])
    flow["destinations"][0]["optoins"] = {}
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(flow))
    for command in ("check", "run"):
        code, _, errors = world.call(command, str(file))
        assert code == 2
        assert "source.options.publication_table: is not a known key. Did you mean 'publication_tables'?" in errors
        assert "destinations[0].optoins" in errors
        assert "Did you mean 'options'?" in errors
        code, output, _ = world.call(command, str(file), "--json")
        assert code == 2
        [problem, *_] = json.loads(output)["problems"]
        assert {"field", "message", "advice"} == problem.keys()


@pytest.mark.parametrize("words", [["run"], ["check"], ["fly"], ["run", "a.yaml", "--onec"], ["run", "gone.yaml"]])
def test_a_wrong_command_line_ends_with_two(world: World, words: list[str]) -> None:
    code, output, errors = world.call(*words)
    assert (code, output) == (2, "")
    assert errors


def test_secrets_by_reference_that_are_not_there_are_errors_of_the_flow_file(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_DSN", raising=False)
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(world.flow(dsn="env:NO_SUCH_DSN")))
    code, _, errors = world.call("check", str(file))
    assert code == 2
    assert "NO_SUCH_DSN" in errors
    assert "source.options.dsn" in errors
    monkeypatch.setenv("NO_SUCH_DSN", with_password(world.source.dsn))
    assert world.call("check", str(file))[0] == 0


def test_a_secret_of_the_control_store_is_found_or_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "key").write_text(base64.b64encode(b"1" * 32).decode())
    monkeypatch.setenv("WALLABY_STATE_DIR", str(world.folder / "state"))
    monkeypatch.setenv("WALLABY_SECRET_KEY", f"file:{world.folder / 'key'}")
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(world.flow(dsn="secret:shop-dsn")))
    with world.unchanged():
        for command in ("check", "run"):
            code, _, errors = world.call(command, str(file))
            assert (code, "wallaby secret set shop-dsn" in errors) == (2, True)
            assert "source.options.dsn" in errors
    settings = Settings.load(os.environ)
    store = open_store(settings)
    vault = Vault.from_reference(settings.secret_key)
    store.put_secret(vault.seal("shop-dsn", with_password(world.source.dsn), at=datetime.now(UTC), by="local"))
    store.close()
    assert world.call("check", str(file))[0] == 0
    monkeypatch.delenv("WALLABY_SECRET_KEY")
    code, _, errors = world.call("check", str(file))
    assert (code, "WALLABY_SECRET_KEY" in errors) == (2, True)


@pytest.mark.parametrize(
    ("options", "code", "subject", "words"),
    [
        ({"where": "orders: nothing > 1"}, "transform-expression", "table public.orders", "no column nothing"),
        ({"exclude_columns": "orders.id"}, "transform-key-excluded", "column public.orders.id", "left out"),
        ({"rename_columns": "note = id"}, "transform-collision", "column public.orders.id", "two columns"),
        ({"mask_columns": "orders.email = hash"}, "transform-column-gone", "column public.orders.email", "not there"),
        ({"meta_op": "note"}, "transform-collision", "column public.orders.note", "two columns"),
    ],
)
def test_transforms_that_do_not_fit_a_table(
    world: World, options: dict[str, Any], code: str, subject: str, words: str
) -> None:
    found = world.findings(world.aimed("duckdb", dsn=str(world.folder / "t.duckdb"), **options))[code]
    assert found["subject"] == f"destinations[0]: {subject}"
    assert words in found["message"]


def test_a_transform_about_no_table_is_a_warning(world: World) -> None:
    file = world.folder / "flow.yaml"
    flow = world.aimed("duckdb", dsn=str(world.folder / "t.duckdb"), where="ordres: id > 1")
    file.write_text(yaml.safe_dump(flow))
    code, output, _ = world.call("check", str(file), "--json")
    [finding] = json.loads(output)["findings"]
    assert (code, finding["code"], finding["severity"]) == (0, "transform-unused", "warning")
    assert finding["subject"] == "destinations[0].options.where"


def test_transforms_that_fit_are_fit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"soft_delete": True, "mask_columns": "orders.note = hmac", "mask_secret": "env:MASK"}
    file = world.folder / "flow.yaml"
    file.write_text(yaml.safe_dump(world.aimed("duckdb", dsn=str(world.folder / "t.duckdb"), **options)))
    monkeypatch.setenv("MASK", "a secret of sixteen")
    code, output, _ = world.call("check", str(file))
    assert (code, output.strip()) == (0, f"{world.source.name}: nothing stands in the way.")
