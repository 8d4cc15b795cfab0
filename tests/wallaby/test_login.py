"""A login with IAM: what fits it, the token it makes, the role it assumes, and what is said when AWS says no."""

from __future__ import annotations

import builtins
import pickle
import traceback
from typing import Any

import pytest

from tests.rds import EXTERNAL_ID, KEY_ID, REGION, ROLE, Keys, Sts, aws, sts
from wallaby.errors import CheckFailed, ConfigError, MissingExtra, Transient, WallabyError
from wallaby.login import (
    IAM_OPTIONS,
    IamDsn,
    RdsIam,
    iam_problems,
    is_verified,
    login_parameters,
    require_iam_fit,
)

__all__ = ["aws", "sts"]

LOCAL = "postgresql://me@127.0.0.1:5433/shop"


def parameters(dsn: str = LOCAL, **iam: str) -> dict[str, Any]:
    return login_parameters(IamDsn(dsn, RdsIam(**iam)))


def refusal(kind: type[WallabyError], dsn: str = LOCAL, **iam: str) -> WallabyError:
    with pytest.raises(kind) as refused:
        parameters(dsn, **iam)
    assert refused.value.advice
    shown = "".join(traceback.format_exception(refused.value))
    assert "hunter2" not in shown
    assert "not-a-real-secret" not in shown
    return refused.value


def test_a_bare_string_is_used_as_it_is() -> None:
    assert login_parameters("postgresql://me:pw@h/shop") == {
        "user": "me",
        "password": "pw",
        "host": "h",
        "dbname": "shop",
    }


def test_a_token_names_host_port_user_and_region_and_ends_after_15_minutes(aws: Keys) -> None:
    token = parameters("host=db.example user=me dbname=shop sslmode=verify-full", region=REGION)["password"]
    assert token.startswith("db.example:5432/?Action=connect&DBUser=me&")
    assert f"X-Amz-Credential={KEY_ID}" in token
    assert f"%2F{REGION}%2Frds-db%2F" in token
    assert "X-Amz-Expires=900" in token


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("db.c1x2.eu-west-1.rds.amazonaws.com", "eu-west-1"),
        ("shop.cluster-ro-c1x2.us-gov-east-1.rds.amazonaws.com", "us-gov-east-1"),
        ("db.c1x2.rds.cn-north-1.amazonaws.com.cn", "cn-north-1"),
    ],
)
def test_the_region_is_that_of_the_hosts_name(aws: Keys, host: str, region: str) -> None:
    assert f"%2F{region}%2Frds-db%2F" in parameters(f"host={host} user=me dbname=shop")["password"]
    assert f"%2F{REGION}%2Frds-db%2F" in parameters(f"host={host} user=me", region=REGION)["password"]


def test_the_region_is_the_environments_where_nobody_else_says_one(aws: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(ConfigError).where["field"] == "aws_region"
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    assert f"%2F{REGION}%2F" in parameters()["password"]


def test_a_token_goes_to_other_machines_by_tls_only(aws: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    far = "host=db.example user=me dbname=shop"
    assert parameters(far, region=REGION)["sslmode"] == "require"
    assert parameters(f"{far} sslmode=verify-full", region=REGION)["sslmode"] == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert parameters(far, region=REGION)["sslmode"] == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "disable")
    assert parameters(far, region=REGION)["sslmode"] == "require"
    for mode in ("disable", "allow", "prefer"):
        assert "TLS" in refusal(ConfigError, f"{far} sslmode={mode}", region=REGION).message
        assert "TLS" in refusal(ConfigError, f"host=localhost hostaddr=10.0.0.1 user=me sslmode={mode}").message
        assert parameters(f"{LOCAL}?sslmode={mode}", region=REGION)["sslmode"] == mode


def test_a_certificate_nobody_looks_at_is_noticed() -> None:
    def verified(text: str) -> bool:
        return is_verified(IamDsn(text, RdsIam()))

    assert not verified("host=db.example user=me sslmode=require")
    assert not verified("host=db.example user=me")
    assert verified("host=db.example user=me sslmode=verify-full")
    assert verified(LOCAL)
    assert is_verified("host=db.example user=me")


@pytest.mark.parametrize(
    ("dsn", "rule"),
    [
        ("postgresql://me:hunter2@h/shop", "holds a password"),
        ("postgresql:///shop?user=me", "names no host"),
        ("host=/var/run user=me", "names no host"),
        ("host=@abstract user=me", "names no host"),
        ("hostaddr=10.0.0.1 user=me", "names no host"),
        ("host=a,b user=me", "several hosts"),
        ("host=h dbname=shop", "names no user"),
        ("host=h user=me port=5432,5433", "port"),
        ("host=h user=me sslmode=prefer", "TLS"),
    ],
)
def test_a_string_that_does_not_fit_is_refused_before_anything_is_asked(dsn: str, rule: str) -> None:
    assert rule in refusal(ConfigError, dsn, region=REGION).message
    with pytest.raises(ConfigError, match=rule) as refused:
        require_iam_fit(dsn, field="source.options.dsn")
    assert refused.value.where["field"] == "source.options.dsn"


@pytest.mark.parametrize(
    ("iam", "name"),
    [
        (RdsIam(role_session_name="x"), "role_session_name"),
        (RdsIam(role_external_id="x"), "role_external_id"),
        (RdsIam(role_arn="wallaby"), "role_arn"),
        (RdsIam(endpoint="http://sts.example"), "endpoint"),
        (RdsIam(endpoint="sts.example"), "endpoint"),
        (RdsIam(endpoint="https://[sts"), "endpoint"),
    ],
)
def test_options_that_cannot_be_are_named(iam: RdsIam, name: str) -> None:
    assert [problem[0] for problem in iam_problems(iam)] == [name]


def test_options_that_can_be_are_no_problem() -> None:
    assert not [*iam_problems(RdsIam(endpoint="https://sts.example", role_arn=ROLE, role_external_id="x"))]
    assert not [*iam_problems(RdsIam(endpoint="http://localhost:4566", profile="shop"))]
    assert set(RdsIam.__dataclass_fields__) == set(IAM_OPTIONS)


@pytest.mark.must_not_fail(24)
def test_neither_string_nor_token_is_printed(aws: Keys) -> None:
    dsn = IamDsn("host=127.0.0.1 user=me sslpassword=hunter2", RdsIam(region=REGION))
    assert "hunter2" not in repr(dsn)
    assert pickle.loads(pickle.dumps(dsn)) == dsn


def test_a_role_is_assumed_for_each_login(aws: Keys, sts: Sts) -> None:
    role = {"region": REGION, "role_arn": ROLE, "role_external_id": EXTERNAL_ID, "endpoint": sts.url}
    one, two = parameters(**role)["password"], parameters(**role, role_session_name="shop")["password"]
    assert "ASIA000000000001" in one
    assert "X-Amz-Security-Token=" in one
    assert "ASIA000000000002" in two
    assert [form["RoleSessionName"] for form in sts.asked] == ["wallaby-rds-iam", "shop"]


@pytest.mark.must_not_fail(24)
def test_a_role_aws_denies_is_told_with_its_code_alone(aws: Keys, sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    role = {"region": REGION, "role_arn": ROLE, "endpoint": sts.url}
    assert "AccessDenied" in refusal(CheckFailed, **role).message
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN")
    assert "InvalidClientTokenId" in refusal(CheckFailed, **role).message


def test_what_may_pass_is_transient(aws: Keys, sts: Sts, monkeypatch: pytest.MonkeyPatch) -> None:
    role = {"region": REGION, "role_arn": ROLE, "role_external_id": EXTERNAL_ID}
    sts.fault = "Throttling"
    assert "Throttling" in refusal(Transient, **role, endpoint=sts.url).message
    assert "cannot be reached" in refusal(Transient, **role, endpoint="http://127.0.0.1:1").message
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in refusal(Transient, region=REGION).message


def test_what_the_configuration_does_not_have_is_a_config_error(aws: Keys) -> None:
    assert refusal(ConfigError, profile="nobody", region=REGION).where["field"] == "aws_profile"
    assert refusal(ConfigError, region="no region!").where["field"] == "aws_region"


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("boto3", "botocore"):
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "wallaby[aws]" in refusal(MissingExtra, region=REGION).advice
