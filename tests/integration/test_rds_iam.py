"""IAM authentication before real servers: every way in presents a token, and what the door refuses is a finding."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks.pgstream import FACTORY as PGSTREAM
from sinks.postgres import FACTORY as POSTGRES
from tests.integration.world import World
from tests.rds import EXTERNAL_ID, REGION, ROLE, Keys, RdsDoor, Sts, aws, door, iam_user, sts
from wallaby.check import check_flow
from wallaby.errors import CheckFailed, SourceUnavailable, Transient, WallabyError
from wallaby.flow import FlowSpec
from wallaby.login import IamDsn, RdsIam
from wallaby.lsn import Lsn
from wallaby.postgres.connect import connect
from wallaby.postgres.replication import ReplicationStream
from wallaby.postgres.slot import create_slot, drop_slot
from wallaby.streams import Streams
from wallaby.streams.bell import Bell
from wallaby.testing.postgres import ScratchDatabase
from wallaby.window import LaneId

__all__ = ["aws", "door", "iam_user", "sts"]


def dsn_of(door: RdsDoor, user: str, database: ScratchDatabase, **iam: str) -> IamDsn:
    return IamDsn(door.dsn(user, database.name), RdsIam(**{"region": REGION, **iam}))


@pytest.fixture
def dsn(door: RdsDoor, iam_user: str, database: ScratchDatabase) -> IamDsn:
    return dsn_of(door, iam_user, database)


def test_without_a_token_nobody_is_let_in(door: RdsDoor, iam_user: str, database: ScratchDatabase) -> None:
    with pytest.raises(CheckFailed, match="password"):
        connect(door.dsn(iam_user, database.name), application_name="test")
    with pytest.raises(CheckFailed, match="refuses"):
        connect(door.dsn(f"{iam_user}:guessed", database.name), application_name="test")
    assert (len(door.logins), door.refused) == (0, 1)


def test_plain_and_replication_connections_log_in_with_a_token(dsn: IamDsn, door: RdsDoor, iam_user: str) -> None:
    with connect(dsn, application_name="test") as connection:
        row = connection.execute("SELECT current_user::text, current_setting('DateStyle')").fetchone()
    assert row == (iam_user, "ISO, MDY")
    with connect(dsn, application_name="test", replication=True) as connection:
        assert connection.execute("IDENTIFY_SYSTEM").fetchone() is not None
    assert [login.is_replication for login in door.logins] == [False, True]


def test_a_connection_outlives_its_token_and_the_next_login_takes_a_new_one(
    door: RdsDoor, sts: Sts, aws: Keys, iam_user: str, database: ScratchDatabase
) -> None:
    """Every assumed role has another key, and the door takes no token twice: as if each were long over."""
    door.takes_a_token_once = True
    role = dsn_of(door, iam_user, database, role_arn=ROLE, role_external_id=EXTERNAL_ID, endpoint=sts.url)
    database.execute("CREATE PUBLICATION p FOR ALL TABLES")
    try:
        with (
            connect(role, application_name="test") as connection,
            create_slot(role, "s") as created,
            ReplicationStream.open(role, slot="s", publications=["p"], start=created.consistent_point) as stream,
        ):
            aws.secrets.clear()  # no token is good any more
            assert connection.execute("SELECT 1").fetchone() == (1,)
            stream.send_status(received=Lsn(0), flushed=Lsn(0), reply_requested=True)
            while not stream.receive(1.0):  # the test's time limit bounds the wait
                continue
    finally:
        drop_slot(database.dsn, "s")
    tokens = [login.token for login in door.logins]
    assert len(set(tokens)) == len(tokens) == len(sts.asked) == 3
    assert door.refused == 0


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("wrong", ["region", "key", "user"])
def test_a_token_that_is_not_taken_is_refused_with_advice(
    door: RdsDoor, aws: Keys, iam_user: str, database: ScratchDatabase, wrong: str
) -> None:
    dsn = dsn_of(door, iam_user, database, **({"region": "eu-west-1"} if wrong == "region" else {}))
    if wrong == "key":
        aws.secrets.clear()
    if wrong == "user":
        door.deny(iam_user)
    with pytest.raises(CheckFailed) as refused:
        connect(dsn, application_name="test")
    assert "rds_iam" in refused.value.advice
    sink = POSTGRES.create(options_of(dsn), destination="copy")
    with pytest.raises(Transient) as not_taken:
        sink.open()
    assert "rds_iam" in not_taken.value.advice
    for error in (refused.value, not_taken.value):
        assert "X-Amz" not in "".join(traceback.format_exception(error))
    assert door.refused == 2


def options_of(dsn: IamDsn, **more: Any) -> dict[str, Any]:
    return {"dsn": dsn.text, "aws_rds_iam": True, "aws_region": dsn.iam.region, **more}


def test_sts_that_does_not_answer_is_an_unavailable_source(
    door: RdsDoor, aws: Keys, iam_user: str, database: ScratchDatabase
) -> None:
    dsn = dsn_of(door, iam_user, database, role_arn=ROLE, endpoint="http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable, match="STS"):
        connect(dsn, application_name="test")


@pytest.mark.parametrize("factory", [POSTGRES, PGSTREAM], ids=["postgres", "pgstream"])
def test_a_destination_logs_in_with_a_token_for_every_connection(
    factory: Any, door: RdsDoor, sts: Sts, iam_user: str, database: ScratchDatabase
) -> None:
    door.takes_a_token_once = True
    options = {
        "dsn": door.dsn(iam_user, database.name),
        "aws_region": REGION,
        "aws_role_arn": ROLE,
        "aws_role_external_id": EXTERNAL_ID,
        "aws_endpoint": sts.url,
    }
    sink = factory.create(options, destination="copy")
    try:
        sink.open()
        assert sink.check() == []
        sink.recover(LaneId("flow", "copy"), 1)
        database.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename LIKE 'iam_%'")
        with pytest.raises(WallabyError):
            sink.recover(LaneId("flow", "copy"), 1)
        sink.recover(LaneId("flow", "copy"), 1)
    finally:
        sink.close()
    assert len({login.token for login in door.logins}) == 2


def test_streams_and_their_bell_log_in_with_a_token(dsn: IamDsn, door: RdsDoor) -> None:
    streams, bell = Streams(dsn), Bell(dsn)
    try:
        with pytest.raises(CheckFailed, match="no streams"):
            streams.groups("nothing")
        bell.arm()
    finally:
        streams.close()
        bell.close()
    assert len(door.logins) == 2


@pytest.fixture
def iam_world(
    door: RdsDoor,
    iam_user: str,
    database: ScratchDatabase,
    target_database: ScratchDatabase,
    postgres_major: int,
    tmp_path: Path,
) -> Iterator[World]:
    """As ``real_world``; source and PostgreSQL destination are behind the door."""
    iam = {"aws_rds_iam": "true", "aws_region": REGION}
    target_database.execute(f'GRANT CREATE ON DATABASE "{target_database.name}" TO {iam_user}')
    world = World(
        database,
        postgres_major,
        tmp_path,
        target_database.dsn,
        destinations=("mirror", "postgres"),
        source_options={"dsn": door.dsn(iam_user, database.name), **iam},
        target_options={"dsn": door.dsn(iam_user, target_database.name), **iam},
    )
    yield world
    world.close()
    target_database.execute(f"DROP OWNED BY {iam_user} CASCADE")


def test_a_flow_copies_streams_and_comes_back_with_tokens_alone(iam_world: World, door: RdsDoor) -> None:
    iam_world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, note text)",
        "INSERT INTO t SELECT g, 'copied' FROM generate_series(1, 100) AS g",
        "CREATE PUBLICATION p FOR TABLE t",
    )
    iam_world.start()
    iam_world.execute("UPDATE t SET note = 'streamed' WHERE id < 50")
    iam_world.require_equal("t")
    before = len(door.logins)
    iam_world.restart()
    iam_world.execute("DELETE FROM t WHERE id < 10")
    iam_world.require_equal("t")
    assert len(door.logins) > before
    assert any(login.is_replication for login in door.logins)
    assert door.refused == 0


def test_a_check_finds_what_the_door_refuses_at_both_ends(
    iam_world: World, aws: Keys, iam_user: str, target_database: ScratchDatabase
) -> None:
    iam_world.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE PUBLICATION p FOR TABLE t")
    flow = iam_world._flow()
    assert [finding for finding in check_flow(flow) if finding.code not in ("slot-missing",)] == []
    aws.secrets.clear()
    found = {finding.code: finding for finding in check_flow(flow)}
    assert set(found) == {"source-refused", "destination-unreachable"}
    assert all("rds_iam" in finding.advice for finding in found.values())
    options: dict[str, Any] = {"aws_profile": "nobody"}
    wrong = FlowSpec.from_mapping(
        {
            **flow.to_mapping(),
            "source": {"type": "postgres", "options": {**flow.source.options, **options}},
        }
    )
    assert next((f.subject, f.code) for f in check_flow(wrong)) == ("source.options.aws_profile", "source-config")
