"""Which PostgreSQL a command speaks to itself: that of a flow, or the one a DSN names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wallaby.cli.commands import connected
from wallaby.cli.connection import add_connection, add_switch
from wallaby.errors import ConfigError

if TYPE_CHECKING:
    from wallaby.flow import SourceOptions
    from wallaby.postgres.connect import Connection

_APPLICATION: Final = "wallaby cli"
_IAM: Final = ("region", "profile", "role-arn", "role-session-name", "role-external-id", "endpoint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The database, and what the flow says about it; empty where only a DSN was given."""

    dsn: str
    slot: str = ""
    publication: str = ""
    options: SourceOptions | None = None


def add_source(parser: argparse.ArgumentParser) -> None:
    """The flags that say which source is meant, and those of the connection to the API."""
    parser.add_argument("--flow-id", metavar="FLOW", help="the source of this flow")
    parser.add_argument("--dsn", metavar="DSN", help="this database: a connection string, env:NAME or file:PATH")
    add_switch(parser, "--aws-rds-iam", "not supported yet")
    for name in _IAM:
        parser.add_argument(f"--aws-{name}", metavar="TEXT", help="belongs to --aws-rds-iam")
    add_connection(parser)


def source_of(arguments: argparse.Namespace) -> Source:
    """What the flags name, its DSN resolved here. `ConfigError` when they name nothing or something unsupported."""
    from wallaby import secret

    if arguments.aws_rds_iam or any(getattr(arguments, f"aws_{name.replace('-', '_')}") for name in _IAM):
        raise ConfigError("is not supported yet", field="-aws-rds-iam", advice="Use a password or a certificate")
    publication = getattr(arguments, "publication", None) or ""
    if not arguments.flow_id:
        if not arguments.dsn:
            raise ConfigError("flow-id or dsn is required", field="-flow-id")
        return Source(dsn=secret.resolve(arguments.dsn, field="-dsn"), publication=publication)
    with connected(arguments) as client:
        options = client.get_flow(arguments.flow_id).spec.source_options()
    return Source(
        dsn=secret.resolve(arguments.dsn or options.dsn, field="-dsn"),
        slot=options.slot,
        publication=publication or options.publication,
        options=options,
    )


@contextmanager
def session_of(source: Source, *, doing: str) -> Iterator[Connection]:
    """A connection to the source; its errors come as ours."""
    from wallaby.postgres.connect import session, validate_dsn

    validate_dsn(source.dsn, "-dsn")
    with session(source.dsn, application_name=_APPLICATION, doing=doing) as connection:
        yield connection
