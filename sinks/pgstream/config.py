"""Options of the pgstream destination."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from sinks.postgres.config import PostgresDestinationOptions, SynchronousCommit
from wallaby.errors import ConfigError
from wallaby.flow.duration import Duration
from wallaby.flow.options import DestinationOptions, Identifier, LoginOptions, PostgresDsn
from wallaby.flow.size import ByteSize
from wallaby.sink import WriteMode
from wallaby.streams import Retention
from wallaby.streams.model import checked_optional_name

_ROWS_ARE_MESSAGES: Final = "messages carry the names of the source's tables"


class MessageFormat(StrEnum):
    """What a message's payload is."""

    JSON = "json"
    """One JSON object per change (`wallaby.wire.json`)."""


class Unacked(StrEnum):
    """What the retention does with messages that some group has not acknowledged."""

    KEEP = "keep"
    """They stay, and a stream without groups stays whole. The default: no consumer misses anything."""
    REMOVE = "remove"
    """They go like any other."""


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return _lower(value)


def _stream_name(value: str) -> str:
    try:
        return checked_optional_name(value, "stream")
    except ConfigError as error:
        raise ValueError(error.message) from None


class PgstreamOptions(LoginOptions, DestinationOptions):
    """Where messages are published, and how long they are kept."""

    without_effect: ClassVar[Mapping[str, str]] = {
        **{name: reason for name, reason in DestinationOptions.without_effect.items() if name != "format"},
        "schema": _ROWS_ARE_MESSAGES,
        "table": _ROWS_ARE_MESSAGES,
    }

    dsn: PostgresDsn
    """The database of the stream. The role needs CREATE on it, or the schema below with everything in it."""
    stream: Annotated[str, AfterValidator(_stream_name)] = ""
    """The stream's name, up to 255 bytes; default: the destination's name. Several flows may publish to one stream."""
    format: Annotated[MessageFormat, BeforeValidator(_lower)] = MessageFormat.JSON
    """What a payload is: ``json``, one object per change."""
    write_mode: WriteMode = WriteMode.APPEND
    """``append`` only: a stream is a log of changes."""
    synchronous_commit: Annotated[SynchronousCommit | None, BeforeValidator(_word)] = None
    """Override for wallaby's own connections; default: the server's setting. With ``off`` a crash of the server may
    lose the newest messages for good."""
    state_schema: Identifier = "wallaby"
    """Schema of the streams' tables and of the position records (``lanes``)."""
    retention_age: Duration | None = None
    """Messages published longer ago are removed; ``0s``: as soon as every group has acknowledged them. Default: none
    are."""
    retention_bytes: ByteSize | None = None
    """The oldest messages are removed so that about so many payload bytes remain. Default: no limit."""
    retention_unacked: Annotated[Unacked, BeforeValidator(_lower)] = Unacked.KEEP
    """Whether the two above spare messages that some group has not acknowledged (``keep``) or not (``remove``)."""
    apply_bytes_max: int = Field(default=32 << 20, ge=1 << 16, le=1 << 30)
    """Messages are kept in memory up to this size, then in a temporary table until their transaction is complete."""

    @property
    def retention(self) -> Retention:
        """The stream's retention."""
        return Retention(
            age=self.retention_age,
            max_bytes=self.retention_bytes,
            removes_unacked=self.retention_unacked is Unacked.REMOVE,
        )

    @property
    def session(self) -> PostgresDestinationOptions:
        """The same database as a PostgreSQL destination has it: its connections and position records are ours."""
        return PostgresDestinationOptions(
            **self.login_fields, synchronous_commit=self.synchronous_commit, state_schema=self.state_schema
        )


def read_options(options: Mapping[str, Any]) -> PgstreamOptions:
    """Validated options; `ConfigError` with the field's path otherwise."""
    if str(options.get("write_mode", "")).lower() in ("mirror", "target"):
        raise ConfigError(
            "a stream is a log of changes, so it cannot mirror a table",
            advice="Leave write_mode out (append), or use a postgres destination",
            field="write_mode",
        )
    return PgstreamOptions.parse(options)
