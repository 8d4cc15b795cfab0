"""Options of the PostgreSQL destination."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field

from wallaby.flow.options import HistoryOptions, Identifier, LoginOptions, PostgresDsn, TypeOptions
from wallaby.schema import TableName

_STAGING: Final = "staging tables are temporary and belong to the connection"


class SynchronousCommit(StrEnum):
    """PostgreSQL's ``synchronous_commit``: what a commit waits for."""

    ON = "on"
    OFF = "off"
    """A crash of the destination server may lose the newest commits together with their positions: the flow then asks
    the source for them again, but the slot may have been told already. Only for destinations that can be rebuilt."""
    LOCAL = "local"
    REMOTE_WRITE = "remote_write"
    REMOTE_APPLY = "remote_apply"


def _word(value: Any) -> Any:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value.strip().lower() if isinstance(value, str) else value


def _without_percent(value: str) -> str:
    if "%" in value:
        raise ValueError("must not hold a percent sign")
    return value


class PostgresDestinationOptions(LoginOptions, HistoryOptions, TypeOptions):
    """Where and how rows land in a PostgreSQL database.

    The Go WALlaby's ``staging_schema``, ``staging_table`` and ``staging_suffix`` are accepted without effect; its side
    table of keys (``meta_table_enabled``) does not exist here, because the position record makes it unnecessary.
    """

    without_effect: ClassVar[Mapping[str, str]] = {
        **HistoryOptions.without_effect,
        "staging_schema": _STAGING,
        "staging_table": _STAGING,
        "staging_suffix": _STAGING,
    }

    dsn: PostgresDsn
    """The destination database. The role needs CREATE on it, or existing schemas and tables it may write."""
    synchronous_commit: Annotated[SynchronousCommit | None, BeforeValidator(_word)] = None
    """Override for wallaby's own connections; default: the server's setting."""
    state_schema: Annotated[Identifier, AfterValidator(_without_percent)] = "wallaby"
    """Schema of the position records (``lanes``) and the register of targets (``tables``)."""
    create_tables: bool = True
    """Create missing schemas and tables; with ``false`` a missing target is refused."""
    fire_triggers: bool = True
    """With ``false``, ordinary triggers and foreign keys of the targets are skipped (``session_replication_role =
    replica``; needs superuser or the SET privilege). The default changes nothing about the target's rules."""
    apply_bytes_max: int = Field(default=32 << 20, ge=1 << 16, le=1 << 30)
    """Written windows are kept in memory up to this size before they are applied inside the open transaction."""

    def target_of(self, source: TableName) -> TableName:
        """The table that ``source`` lands in."""
        schema, name = self.schema_ or source.schema, source.name
        if self.table:
            before, dot, after = self.table.partition(".")
            schema, name = (self.schema_ or before, after) if dot else (schema, before)
        return TableName(schema, name)
