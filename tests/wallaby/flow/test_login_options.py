"""How options say a database is logged in at; the same words for a source and for every PostgreSQL destination."""

from __future__ import annotations

from typing import Any

import pytest

from sinks.pgstream.config import PgstreamOptions
from sinks.postgres.config import PostgresDestinationOptions
from wallaby.flow import InvalidFlow, SourceOptions
from wallaby.flow.options import LoginOptions
from wallaby.login import IAM_OPTIONS, IamDsn, RdsIam

ROLE = "arn:aws:iam::123456789012:role/wallaby"
KINDS: list[Any] = [SourceOptions, PostgresDestinationOptions, PgstreamOptions]


@pytest.mark.parametrize("kind", KINDS)
def test_without_iam_the_string_is_the_login(kind: type[LoginOptions]) -> None:
    assert kind.parse({"dsn": "postgresql://me:pw@h/shop"}).login == "postgresql://me:pw@h/shop"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", IAM_OPTIONS)
def test_any_option_of_iam_turns_it_on_and_false_turns_all_off(kind: type[LoginOptions], name: str) -> None:
    value = {"role_arn": ROLE, "endpoint": "https://sts.example"}.get(name, "x")
    given = {"dsn": "postgresql://me@h/shop", f"aws_{name}": value}
    if name.startswith("role_"):
        given["aws_role_arn"] = ROLE
    login = kind.parse(given).login
    assert isinstance(login, IamDsn)
    assert getattr(login.iam, name) == value
    given |= {"aws_rds_iam": "false", "dsn": "postgresql://me:pw@h/shop"}
    assert kind.parse(given).login == "postgresql://me:pw@h/shop"


@pytest.mark.parametrize("kind", KINDS)
def test_iam_alone_leaves_everything_to_aws(kind: type[LoginOptions]) -> None:
    options = kind.parse({"dsn": "postgresql://me@h/shop", "aws_rds_iam": "true"})
    assert options.login == IamDsn("postgresql://me@h/shop", RdsIam())


@pytest.mark.must_not_fail(24)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dsn", ["postgresql://me:hunter2@h/shop", "host=h password=hunter2", "=hunter2"])
def test_a_string_that_does_not_fit_is_refused_at_the_door_and_not_shown(kind: type[LoginOptions], dsn: str) -> None:
    with pytest.raises(InvalidFlow) as refused:
        kind.parse({"dsn": dsn, "aws_rds_iam": True})
    assert [problem.path for problem in refused.value.problems] == ["dsn"]
    assert "hunter2" not in str(refused.value)


def test_a_reference_is_judged_when_it_is_resolved() -> None:
    assert isinstance(SourceOptions.parse({"dsn": "secret:shop", "aws_rds_iam": True}).login, IamDsn)


def test_a_stream_hands_its_login_to_the_connections_it_shares() -> None:
    options = PgstreamOptions.parse({"dsn": "postgresql://me@h/shop", "aws_region": "eu-west-1", "aws_profile": "p"})
    assert options.session.login == options.login
