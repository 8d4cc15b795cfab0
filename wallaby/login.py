"""What it takes to log in at a PostgreSQL: a connection string, alone or with IAM authentication of Amazon RDS.

With IAM the password is a token: an address signed with AWS credentials, which RDS takes for 15 minutes. Only the login
needs it, a connection outlives its token by any time. So every login signs a token of its own, and none is kept or
shown. Signing asks nobody; only a role to be assumed is a call, to STS.

Whoever holds a token is the user until it ends, so it travels to other machines by TLS only, whatever libpq would
settle for by default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from wallaby.errors import CheckFailed, ConfigError, MissingExtra, Transient, WallabyError
from wallaby.settings import is_loopback

IAM_OPTIONS: Final = ("region", "profile", "role_arn", "role_session_name", "role_external_id", "endpoint")
"""The fields of `RdsIam`: options of the same names after ``aws_``, and flags after ``-aws-``."""

SESSION_NAME: Final = "wallaby-rds-iam"
"""How an assumed role's session is called in CloudTrail, unless the options say otherwise."""

IAM_ADVICE: Final = (
    "RDS did not take the token: check the region, the AWS credentials and this machine's clock, that rds_iam is"
    " granted to the database role, and that the credentials may rds-db:connect as it"
)
"""When a server refuses a login with IAM."""

_ENCRYPTED: Final = ("require", "verify-ca", "verify-full")
_VERIFIED: Final = "verify-full"
_REGION: Final = re.compile(r"\.((?:[a-z]+-)+\d+)\.rds\.|\.rds\.((?:[a-z]+-)+\d+)\.")
"""``db.x1y2.eu-west-1.rds.amazonaws.com``, in China ``db.x1y2.rds.cn-north-1.amazonaws.com.cn``."""
_DENIED: Final = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId"),
        *("SignatureDoesNotMatch", "IncompleteSignature", "OptInRequired", "RegionDisabledException"),
        *("ValidationError", "ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken"),
    }
)
"""Answers of STS that stay the same until a person changes something."""
_STS_CONNECT_S: Final = 5
_STS_READ_S: Final = 10
_STS_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RdsIam:
    """Which AWS credentials sign the token. What is empty, AWS's own configuration of the process decides."""

    region: str = ""
    """Empty: by the host's name, else AWS's own configuration."""
    profile: str = ""
    role_arn: str = ""
    """Empty: no role is assumed."""
    role_session_name: str = ""
    role_external_id: str = ""
    endpoint: str = ""
    """URL of STS; empty: the region's."""


@dataclass(frozen=True, slots=True)
class IamDsn:
    """A connection string without a password, and whose token takes its place."""

    text: str = field(repr=False)
    iam: RdsIam


Dsn: TypeAlias = str | IamDsn
"""A database and how to log in there. A bare string says everything itself."""


def dsn_text(dsn: Dsn) -> str:
    """The connection string; may hold a password."""
    return dsn if isinstance(dsn, str) else dsn.text


def login_parameters(dsn: Dsn) -> dict[str, Any]:
    """libpq's parameters for one login now; with IAM they hold a fresh token.

    `psycopg.ProgrammingError` for an unreadable string. With IAM: `ConfigError` for one that does not fit, or a region
    or profile nobody knows, `MissingExtra` without boto3, `CheckFailed` when AWS denies the role, `Transient` when
    there are no credentials now or STS does not answer.
    """
    if isinstance(dsn, str):
        return _parts(dsn)
    parts = _parts(dsn.text)
    require_iam_fit(parts, field="dsn")
    if not _is_local(parts):
        parts["sslmode"] = _encrypted(parts)
    return parts | {"password": _token(parts, dsn.iam)}


def require_iam_fit(dsn: str | dict[str, Any], *, field: str) -> None:
    """`ConfigError` naming ``field`` when a connection string (or its parts) cannot be used with IAM. Asks nobody."""
    from psycopg import ProgrammingError

    try:
        parts = _parts(dsn) if isinstance(dsn, str) else dsn
    except ProgrammingError:
        raise ConfigError("is not a PostgreSQL connection string", field=field) from None
    rule, advice = _misfit(parts)
    if rule:
        raise ConfigError(rule, advice=advice, field=field)


def iam_problems(iam: RdsIam) -> Iterator[tuple[str, str, str]]:
    """What is wrong with the options themselves: the field of `RdsIam`, the rule and the advice."""
    for name in ("role_session_name", "role_external_id"):
        if getattr(iam, name) and not iam.role_arn:
            yield name, "belongs to aws_role_arn, which is missing", "Name the role to assume"
    if iam.role_arn and not iam.role_arn.startswith("arn:"):
        yield "role_arn", "is not the ARN of a role", "Such as arn:aws:iam::123456789012:role/wallaby"
    if iam.endpoint and not _is_fit_url(iam.endpoint):
        yield "endpoint", "must be an https:// URL (http:// on loopback)", "STS answers with credentials"


def _is_fit_url(text: str) -> bool:
    try:
        url = urlsplit(text)
    except ValueError:
        return False
    host = url.hostname or ""
    return bool(host) and (url.scheme == "https" or (url.scheme == "http" and is_loopback(host)))


def is_verified(dsn: Dsn) -> bool:
    """False when a token would be given to whoever answers at the address, without a look at its certificate."""
    if isinstance(dsn, str):
        return True
    parts = _parts(dsn.text)
    return _is_local(parts) or _encrypted(parts) == _VERIFIED


def _misfit(parts: dict[str, Any]) -> tuple[str, str]:
    """The rule that is broken and the way out; empty when there is none."""
    host = str(parts.get("host") or "")
    if parts.get("password"):
        return "holds a password, but aws_rds_iam makes one for each login", "Remove one of them"
    if not host or host.startswith(("/", "@")):
        return "names no host, which IAM authentication needs", "Name the endpoint of the instance"
    if "," in host:
        return "names several hosts, but a token is good for one", "Name the endpoint of the cluster"
    if not parts.get("user"):
        return "names no user, which IAM authentication needs", "Name the database role that has rds_iam"
    if not str(parts.get("port") or "5432").isdigit():
        return "names a port that is no number", "Leave it out for 5432"
    if parts.get("sslmode") not in (None, "", *_ENCRYPTED) and not _is_local(parts):
        return (
            f"has sslmode {parts['sslmode']}: a token may travel by TLS only",
            "Write sslmode=verify-full and sslrootcert with the CA bundle of RDS",
        )
    return "", ""


def _parts(text: str) -> dict[str, Any]:
    from psycopg.conninfo import conninfo_to_dict  # loads libpq, which reading a flow file does not need

    return dict(conninfo_to_dict(text))


def _is_local(parts: dict[str, Any]) -> bool:
    return is_loopback(str(parts.get("hostaddr") or parts.get("host") or ""))


def _encrypted(parts: dict[str, Any]) -> str:
    """The connection's sslmode: as it says, else as the environment says where that is strict enough, else require."""
    if parts.get("sslmode"):
        return str(parts["sslmode"])
    from psycopg import pq

    defaults = {option.keyword: option.val for option in pq.Conninfo.get_defaults()}
    preset = (defaults.get(b"sslmode") or b"").decode()
    return preset if preset in _ENCRYPTED else "require"


def _token(parts: dict[str, Any], iam: RdsIam) -> str:
    boto3, exceptions = _boto3()
    host, port = str(parts["host"]), int(parts.get("port") or 5432)
    try:
        session = boto3.session.Session(profile_name=iam.profile or None)
        region = iam.region or _region_of(host) or session.region_name
        if not region:
            raise ConfigError(
                "aws_region is required: the host's name does not tell it",
                field="aws_region",
                advice="Such as eu-west-1",
            )
        credentials = _assumed(session, region, iam) if iam.role_arn else {}
        signer = boto3.session.Session(**credentials) if credentials else session
        with closing(signer.client("rds", region_name=region)) as client:
            token: str = client.generate_db_auth_token(
                DBHostname=host, Port=port, DBUsername=str(parts["user"]), Region=region
            )
    except (exceptions.BotoCoreError, exceptions.ClientError, ValueError) as error:
        raise _ours(error, exceptions) from None
    return token


def _assumed(session: Any, region: str, iam: RdsIam) -> dict[str, str]:
    from botocore.config import Config

    config = Config(
        connect_timeout=_STS_CONNECT_S,
        read_timeout=_STS_READ_S,
        retries={"mode": "standard", "total_max_attempts": _STS_ATTEMPTS},
    )
    wanted = {"RoleArn": iam.role_arn, "RoleSessionName": iam.role_session_name or SESSION_NAME}
    if iam.role_external_id:
        wanted["ExternalId"] = iam.role_external_id
    with closing(session.client("sts", region_name=region, endpoint_url=iam.endpoint or None, config=config)) as client:
        found = client.assume_role(**wanted)["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def _region_of(host: str) -> str:
    found = _REGION.search(host.lower())
    return (found[1] or found[2]) if found else ""


def _boto3() -> tuple[Any, Any]:
    """boto3 and its exceptions; the package is optional, and so are its types."""
    try:
        import boto3.session
        import botocore.exceptions
    except ImportError:
        raise MissingExtra(
            "aws_rds_iam needs the package boto3, which is not installed",
            advice="Run: pip install 'wallaby[aws]'",
            extra="aws",
        ) from None
    modules: tuple[ModuleType, ModuleType] = (boto3, botocore.exceptions)
    return modules


def _ours(error: Exception, exceptions: Any) -> WallabyError:
    """boto3's error as ours. Its text stays behind: it may hold names of accounts and parts of requests."""
    kind = type(error).__name__
    match error:
        case exceptions.ProfileNotFound():
            return ConfigError(
                "aws_profile names a profile that AWS's configuration files here do not have",
                field="aws_profile",
                advice="Look at ~/.aws/config of the user that logs in",
            )
        case exceptions.NoRegionError() | exceptions.InvalidRegionError():
            return ConfigError("aws_region is no AWS region", field="aws_region", advice="Such as eu-west-1")
        case exceptions.ParamValidationError():
            return ConfigError("AWS does not take aws_role_arn, or what belongs to it", field="aws_role_arn")
        case exceptions.ClientError():
            code = re.sub(r"[^A-Za-z0-9.]", "", str(error.response.get("Error", {}).get("Code", "")))[:60] or kind
            if code in _DENIED:
                advice = "Check the credentials here, the role's trust policy and external id, and the clock"
                return CheckFailed(f"AWS does not let us assume the role ({code})", advice=advice)
            return Transient(f"AWS failed at assuming the role ({code})", advice="It is tried again")
        case exceptions.HTTPClientError() | exceptions.ConnectionError():
            return Transient(f"STS cannot be reached ({kind})", advice="Check aws_endpoint and the network")
        case ValueError():
            return ConfigError("aws_endpoint is no URL that AWS's library takes", field="aws_endpoint")
        case _:
            return Transient(
                f"there are no AWS credentials to sign with ({kind})",
                advice="Give the process that logs in a profile, environment variables or an instance role",
            )
