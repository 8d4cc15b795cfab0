"""Every unfitness of a source is found, named and comes with what to run; looking changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from wallaby.lsn import Lsn
from wallaby.postgres.checks import check_source
from wallaby.postgres.embedded import EmbeddedServer, free_port
from wallaby.postgres.replication import ReplicationStream
from wallaby.postgres.slot import create_slot, drop_slot
from wallaby.sink import Finding, Severity
from wallaby.testing.postgres import ScratchDatabase, scratch_database, server_for_tests

SECRET = "s3cr3t-word"


def _check(database: ScratchDatabase, **options: Any) -> dict[str, Finding]:
    """Findings by code."""
    given: dict[str, Any] = {"dsn": database.dsn, "slot": database.name, "publication": "p", **options}
    findings = check_source(**given)
    assert all(finding.advice for finding in findings), "advice is missing"
    return {finding.code: finding for finding in findings}


@pytest.fixture
def role(database: ScratchDatabase) -> Iterator[str]:
    """A login role without any privilege."""
    name = f"plain_{database.name}"
    database.execute(f"CREATE ROLE {name} LOGIN")
    yield name
    database.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_fit_source_has_no_findings_before_and_after_it_is_prepared(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    assert _check(database) == {}
    database.execute("CREATE PUBLICATION p FOR TABLE t")
    create_slot(database.dsn, database.name).close()
    assert _check(database, create_slot=False, ensure_publication=False) == {}
    drop_slot(database.dsn, database.name)


def test_a_unix_socket_is_mentioned_because_it_is_dear(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    found = _check(database, dsn=database.unix_dsn)
    assert [(finding.code, finding.severity) for finding in found.values()] == [("unix-socket", Severity.INFO)]


def test_options_the_server_is_too_old_for_are_found(database: ScratchDatabase, postgres_major: int) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    for option, needed in (("two_phase", 15), ("origin", 16)):
        found = _check(database, stream_options=[option])
        if postgres_major >= needed:
            assert found == {}
        else:
            assert found["server-version"].subject.endswith(f".{option}")
            assert f"needs PostgreSQL {needed}" in found["server-version"].message


def test_prepared_transactions_that_hold_up_a_new_slot_are_found(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with database.connect() as connection:
        for statement in ("BEGIN", "INSERT INTO t VALUES (1)", f"PREPARE TRANSACTION '{database.name}'"):
            connection.execute(statement.encode())
    try:
        found = _check(database)
    finally:
        database.execute(f"COMMIT PREPARED '{database.name}'")
    assert found["prepared-transactions"].severity is Severity.WARNING
    assert _check(database) == {}


@pytest.mark.must_not_fail(24)
def test_what_cannot_be_reached_or_read_is_one_finding_without_secrets(database: ScratchDatabase) -> None:
    for dsn, code in (
        (f"postgresql://u:{SECRET}@127.0.0.1:{free_port()}/d", "source-unreachable"),
        (f"postgresql://u:{SECRET}@host:x/d", "source-config"),
        (database.dsn.replace("postgres@", f"nobody_here:{SECRET}@"), "source-refused"),
    ):
        [finding] = check_source(dsn=dsn, slot="s", publication="p", field="source.options")
        assert finding.code == code
        assert finding.subject == "source.options.dsn"
        assert SECRET not in str(finding)


@pytest.mark.must_not_fail(9)
def test_tables_that_could_not_be_updated_once_published_are_named(database: ScratchDatabase) -> None:
    database.execute(
        "CREATE TABLE keyless (id int)",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
        "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
        "CREATE TABLE lost (id int NOT NULL UNIQUE)",
        "ALTER TABLE lost REPLICA IDENTITY USING INDEX lost_id_key",
        "ALTER TABLE lost DROP CONSTRAINT lost_id_key",
        'CREATE TABLE "Full" (id int)',
        'ALTER TABLE "Full" REPLICA IDENTITY FULL',
    )
    findings = check_source(dsn=database.dsn, slot=database.name, publication="p")
    assert {(finding.code, finding.subject) for finding in findings} == {
        ("replica-identity", "table public.keyless"),
        ("replica-identity", "table public.nothing"),
        ("replica-identity", "table public.lost"),
    }
    database.execute("CREATE PUBLICATION p FOR ALL TABLES WITH (publish = 'insert')")
    assert _check(database) == {}


@pytest.mark.must_not_fail(9)
def test_a_full_identity_with_generated_columns_is_named_where_updates_would_be_refused(
    database: ScratchDatabase, postgres_major: int
) -> None:
    database.execute(
        "CREATE TABLE t (id int, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "ALTER TABLE t REPLICA IDENTITY FULL",
    )
    if postgres_major < 18:
        assert _check(database) == {}
        return
    assert "generated" in _check(database)["replica-identity"].message
    database.execute("CREATE PUBLICATION p FOR TABLE t", "INSERT INTO t VALUES (1)")
    assert "REPLICA IDENTITY DEFAULT" in _check(database)["replica-identity"].advice
    with pytest.raises(psycopg.errors.InvalidColumnReference):
        database.execute("UPDATE t SET id = 2")
    database.execute("ALTER PUBLICATION p SET (publish_generated_columns = stored)", "UPDATE t SET id = 2")
    assert _check(database) == {}


@pytest.mark.must_not_fail(9, 10)
def test_a_partitioned_table_without_a_key_is_named(database: ScratchDatabase) -> None:
    database.execute(
        "CREATE TABLE root (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10)",
    )
    assert _check(database)["replica-identity"].subject == "table public.root"


def test_slots_that_cannot_be_used_are_named(database: ScratchDatabase, postgres_server: EmbeddedServer) -> None:
    database.execute("CREATE PUBLICATION p")
    assert set(_check(database, create_slot=False)) == {"slot-missing", "publication-empty"}
    database.fetch(f"SELECT pg_create_logical_replication_slot('{database.name}', 'test_decoding')")
    assert "slot-plugin" in _check(database)
    drop_slot(database.dsn, database.name)
    database.fetch(f"SELECT pg_create_physical_replication_slot('{database.name}')")
    assert "physical" in _check(database)["slot-plugin"].message
    drop_slot(database.dsn, database.name)
    with scratch_database(postgres_server) as elsewhere:
        create_slot(elsewhere.dsn, database.name).close()
        assert elsewhere.name in _check(database)["slot-database"].message
        drop_slot(elsewhere.dsn, database.name)
    create_slot(database.dsn, database.name).close()
    with ReplicationStream.open(
        database.dsn, slot=database.name, publications=["p"], start=Lsn(0), application_name="wallaby:f:1"
    ):
        assert "slot-busy" in _check(database)
        assert "slot-busy" not in _check(database, own_application="wallaby:f:")
        assert "slot-busy" in _check(database, own_application="wallaby:g:")
    drop_slot(database.dsn, database.name)


def test_what_the_role_may_not_do_is_named_with_the_grant(database: ScratchDatabase, role: str) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    dsn = database.dsn.replace("postgres@", f"{role}@")
    found = _check(database, dsn=dsn)
    assert set(found) == {"replication-privilege", "publication-privilege", "select-privilege"}
    assert "superuser" in found["publication-privilege"].message
    listed = _check(database, dsn=dsn, publication_tables=("t",), snapshot="never")
    assert set(listed) == {"replication-privilege", "publication-privilege"}
    database.execute(
        f"ALTER ROLE {role} REPLICATION",
        f'GRANT CREATE ON DATABASE "{database.name}" TO {role}',
        f"GRANT SELECT ON t TO {role}",
    )
    owner_only = _check(database, dsn=dsn, publication_tables=("t",))
    assert set(owner_only) == {"publication-privilege"}
    assert "OWNER TO" in owner_only["publication-privilege"].advice
    database.execute("CREATE PUBLICATION p FOR TABLE t")
    assert _check(database, dsn=dsn) == {}
    database.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    assert set(_check(database, dsn=dsn)) == {"row-security"}
    assert _check(database, dsn=dsn, snapshot="never") == {}
    assert _check(database) == {}


@pytest.mark.must_not_fail(7)
@pytest.mark.parametrize("mode", ["source", "full", "cache"])
def test_tables_whose_unsent_values_cannot_be_filled_are_named(database: ScratchDatabase, role: str, mode: str) -> None:
    """Without a key, and for reading from the source without SELECT, also when there is no copy."""
    database.execute(
        "CREATE TABLE keyed (id int PRIMARY KEY, note text)",
        "CREATE TABLE keyless (note text)",
        "ALTER TABLE keyless REPLICA IDENTITY FULL",
        "CREATE TABLE full_key (id int PRIMARY KEY, note text)",
        "ALTER TABLE full_key REPLICA IDENTITY FULL",
        "CREATE PUBLICATION p FOR TABLE keyed, keyless, full_key",
        f"ALTER ROLE {role} REPLICATION",
    )
    assert _check(database) == {}
    found = _check(database, toast_fetch=mode)
    assert list(found) == ["toast-fetch"]
    assert (found["toast-fetch"].subject, found["toast-fetch"].severity) == ("table public.keyless", Severity.WARNING)
    dsn = database.dsn.replace("postgres@", f"{role}@")
    assert "select-privilege" not in _check(database, dsn=dsn, snapshot="never")
    assert ("select-privilege" in _check(database, dsn=dsn, snapshot="never", toast_fetch=mode)) == (mode != "cache")


def test_missing_tables_and_publications_are_named(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    missing = _check(database, publication_tables=("t", "nowhere"), field="source.options")["publication-tables"]
    assert missing.subject == "source.options.publication_tables"
    assert "public.nowhere" in missing.message
    refused = _check(database, publication_tables=("t",), ensure_publication=False)["publication-missing"]
    assert 'CREATE PUBLICATION "p" FOR TABLE "public"."t"' in refused.advice


def test_server_settings_that_forbid_a_flow_are_named(postgres_major: int) -> None:
    settings = {"wal_level": "replica", "max_replication_slots": "1", "max_wal_senders": "1"}
    with server_for_tests(postgres_major, settings) as server, scratch_database(server) as database:
        assert "restart" in _check(database)["wal-level"].advice
        database.fetch("SELECT pg_create_physical_replication_slot('only_one')")
        assert set(_check(database)) == {"wal-level", "slot-headroom"}
        database.fetch("SELECT pg_drop_replication_slot('only_one')")


def test_looking_changes_nothing(database: ScratchDatabase) -> None:
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    before = database.fetch("SELECT count(*) FROM pg_publication UNION ALL SELECT count(*) FROM pg_replication_slots")
    _check(database, publication_tables=("t",))
    after = database.fetch("SELECT count(*) FROM pg_publication UNION ALL SELECT count(*) FROM pg_replication_slots")
    assert after == before
