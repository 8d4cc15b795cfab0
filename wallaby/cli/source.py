"""Which PostgreSQL a command acts on, and who acts: the server for its flows, this process for a DSN it is given."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from wallaby.cli.commands import connected
from wallaby.cli.connection import add_connection, add_switch
from wallaby.errors import ConfigError
from wallaby.login import IAM_OPTIONS, IamDsn, RdsIam, iam_problems

if TYPE_CHECKING:
    from wallaby.client import Client
    from wallaby.flow import SourceOptions
    from wallaby.login import Dsn
    from wallaby.postgres.operations import SourceOperations

_APPLICATION: Final = "wallaby cli"
_SERVICE: Final = "SourceService"
_MORE_SECONDS: Final = 30.0
"""The server connects to the source first, and waits there for locks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLine:
    """A logical slot as it is shown."""

    name: str
    plugin: str | None
    active: bool
    wal_status: str | None
    lost: str | None
    """Why no change can be read from it any more."""
    restart_lsn: str | None
    confirmed_flush_lsn: str | None
    kept_bytes: int | None
    safe_wal_bytes: int | None


class Operations(Protocol):
    """What can be done at a source; see `wallaby.postgres.operations`. Publications and slots are named."""

    def slots(self) -> list[SlotLine]: ...
    def drop_slot(self, name: str) -> None: ...
    def published(self, publication: str) -> list[str]: ...
    def unpublished(self, publication: str, schemas: Sequence[str]) -> list[str]: ...
    def add(self, publication: str, tables: Sequence[str]) -> list[str]: ...
    def remove(self, publication: str, tables: Sequence[str]) -> list[str]: ...
    def sync(
        self, publication: str, tables: Sequence[str], schemas: Sequence[str], *, is_dropping: bool
    ) -> tuple[list[str], list[str]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source, and what the flow says about it; empty where only a DSN was given."""

    operations: Operations
    slot: str = ""
    publication: str = ""
    options: SourceOptions | None = None


def add_source(parser: argparse.ArgumentParser) -> None:
    """The flags that say which source is meant, and those of the connection to the API."""
    parser.add_argument("--flow-id", metavar="FLOW", help="the source of this flow; the server acts")
    parser.add_argument(
        "--dsn", metavar="DSN", help="this database, from here: a connection string, env:NAME or file:PATH"
    )
    add_iam(parser)
    add_connection(parser)


def add_iam(parser: argparse.ArgumentParser) -> None:
    """The flags of a login with IAM."""
    add_switch(parser, "--aws-rds-iam", "log in from here with a token of IAM authentication", default=None)
    for name in IAM_OPTIONS:
        flag = f"--aws-{name.replace('_', '-')}"
        parser.add_argument(flag, metavar="TEXT", default="", help=f"as the option aws_{name}; turns -aws-rds-iam on")


@contextmanager
def source_of(arguments: argparse.Namespace) -> Iterator[Source]:
    """What the flags name. `ConfigError` when they name nothing."""
    publication = getattr(arguments, "publication", None) or ""
    if not arguments.flow_id:
        if not arguments.dsn:
            raise ConfigError("flow-id or dsn is required", field="-flow-id")
        yield Source(operations=_here(arguments, None), publication=publication)
        return
    with connected(arguments) as client:
        options = client.get_flow(arguments.flow_id).spec.source_options()
        is_here = arguments.dsn or arguments.aws_rds_iam is not None or any(_iam_flags(arguments).values())
        yield Source(
            operations=_here(arguments, options) if is_here else _Served(client, arguments.flow_id),
            slot=options.slot,
            publication=publication or options.publication,
            options=options,
        )


def _here(arguments: argparse.Namespace, options: SourceOptions | None) -> Operations:
    from wallaby import secret
    from wallaby.postgres.connect import validate_dsn
    from wallaby.postgres.operations import SourceOperations

    given = arguments.dsn or (options.dsn if options else "")
    if secret.stored_name(given) is not None:
        raise ConfigError(
            "is a secret of the control store, which only the server can read",
            field="-dsn",
            advice="Leave the flags of the login out, so that the server acts; or give -dsn",
        )
    text = secret.resolve(given, field="-dsn")
    iam = iam_of(arguments, options)
    dsn: Dsn = text if iam is None else IamDsn(text, iam)
    validate_dsn(dsn, "-dsn")
    return _Direct(SourceOperations(dsn, application_name=_APPLICATION))


def iam_of(arguments: argparse.Namespace, options: SourceOptions | None = None) -> RdsIam | None:
    """What the flags of `add_iam` say, before the flow's options, one by one; None for a login without IAM."""
    flags = _iam_flags(arguments)
    is_on = any(flags.values()) or (options is not None and options.iam is not None)
    if not (is_on if arguments.aws_rds_iam is None else arguments.aws_rds_iam):
        return None
    iam = RdsIam(**{name: flag or getattr(options, f"aws_{name}", "") for name, flag in flags.items()})
    for name, rule, advice in iam_problems(iam):
        raise ConfigError(rule, field=f"-aws-{name.replace('_', '-')}", advice=advice)
    return iam


def _iam_flags(arguments: argparse.Namespace) -> dict[str, str]:
    return {name: getattr(arguments, f"aws_{name}") for name in IAM_OPTIONS}


class _Direct:
    """From this process."""

    def __init__(self, operations: SourceOperations) -> None:
        self._operations = operations
        self.drop_slot = operations.drop_slot
        self.published = operations.published
        self.unpublished = operations.unpublished
        self.add = operations.add
        self.remove = operations.remove
        self.sync = operations.sync

    def slots(self) -> list[SlotLine]:
        return [
            SlotLine(
                name=slot.name,
                plugin=slot.plugin,
                active=slot.active,
                wal_status=slot.wal_status,
                lost=slot.invalidation,
                restart_lsn=None if slot.restart_lsn is None else str(slot.restart_lsn),
                confirmed_flush_lsn=None if slot.confirmed_flush is None else str(slot.confirmed_flush),
                kept_bytes=slot.kept_bytes,
                safe_wal_bytes=slot.safe_wal_bytes,
            )
            for slot in self._operations.slots()
        ]


class _Served:
    """Through the API, which knows the flow's secrets."""

    def __init__(self, client: Client, flow_id: str) -> None:
        self._client = client
        self._flow_id = flow_id

    def slots(self) -> list[SlotLine]:
        return [
            SlotLine(
                name=slot.name,
                plugin=slot.plugin or None,
                active=slot.active,
                wal_status=slot.wal_status or None,
                lost=slot.lost or None,
                restart_lsn=slot.restart_lsn or None,
                confirmed_flush_lsn=slot.confirmed_flush_lsn or None,
                kept_bytes=slot.kept_bytes if slot.HasField("kept_bytes") else None,
                safe_wal_bytes=slot.safe_wal_bytes if slot.HasField("safe_wal_bytes") else None,
            )
            for slot in self._call("ListSlots").slots
        ]

    def drop_slot(self, name: str) -> None:
        self._call("DropSlot", slot=name)

    def published(self, publication: str) -> list[str]:
        return list(self._call("GetPublication", publication=publication).tables)

    def unpublished(self, publication: str, schemas: Sequence[str]) -> list[str]:
        return list(self._call("ListUnpublishedTables", publication=publication, schemas=schemas).tables)

    def add(self, publication: str, tables: Sequence[str]) -> list[str]:
        return list(self._call("AddPublicationTables", publication=publication, tables=tables).added)

    def remove(self, publication: str, tables: Sequence[str]) -> list[str]:
        return list(self._call("RemovePublicationTables", publication=publication, tables=tables).removed)

    def sync(
        self, publication: str, tables: Sequence[str], schemas: Sequence[str], *, is_dropping: bool
    ) -> tuple[list[str], list[str]]:
        answer = self._call(
            "SyncPublication", publication=publication, tables=tables, schemas=schemas, drop=is_dropping
        )
        return list(answer.added), list(answer.removed)

    def _call(self, method: str, **fields: Any) -> Any:
        from wallaby.v1 import source_pb2

        request = getattr(source_pb2, f"{method}Request")(flow_id=self._flow_id, **fields)
        return self._client.call(method, request, service=_SERVICE, more_seconds=_MORE_SECONDS)
