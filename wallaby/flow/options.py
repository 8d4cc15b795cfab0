"""Typed options of the PostgreSQL source, and the options every destination shares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, Field, field_validator

from wallaby import secret
from wallaby.care import Maintenance
from wallaby.errors import ConfigError
from wallaby.flow.consent import ColumnPattern, parse_column_pattern, read_mappings, read_mappings_file
from wallaby.flow.duration import Duration
from wallaby.flow.model import OptionsModel
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.flow.size import ByteSize
from wallaby.flow.tables import TablePattern, parse_table_pattern, split_list
from wallaby.flow.transforms import TransformOptions
from wallaby.login import IAM_OPTIONS, Dsn, IamDsn, RdsIam, iam_problems, require_iam_fit
from wallaby.lsn import Lsn
from wallaby.sink import Capabilities, WriteMode
from wallaby.versions import VersionColumns

_NOT_NEEDED: Final = "wallaby sets it by itself"
_BACKFILL_ONLY: Final = "belongs to mode backfill, which is not used here"
_NO_META_TABLE: Final = "there is no side table of keys; each destination keeps one position record instead"
_TYPES: Final = "Remove it; every type has its place in the table of types"
_MAINTENANCE_INTERVAL_MIN: Final = timedelta(seconds=1)


class Unrepresentable(StrEnum):
    """What to do with a value the destination's type cannot hold (NaN, infinity, BC dates …)."""

    REFUSE = "refuse"
    """Stop at the value and say where it is. The default: nothing is altered silently."""
    NULL = "null"
    """Store NULL."""
    TEXT = "text"
    """Store PostgreSQL's own text; the column becomes text."""


class SnapshotMode(StrEnum):
    """Whether a new flow copies the rows that exist already."""

    INITIAL = "initial"
    """Copy them under the slot's snapshot, then stream: no gap, no overlap."""
    NEVER = "never"
    """Only changes made after the slot exists."""


class PublicationSync(StrEnum):
    """How ``sync_publication`` changes an existing publication."""

    ADD = "add"
    """Add missing tables, keep the others."""
    SYNC = "sync"
    """Also drop the tables that are not listed."""


class BinaryMode(StrEnum):
    """pgoutput's ``binary`` option."""

    AUTO = "auto"
    """Binary when every published column type has a decoder for it, else text."""
    TRUE = "true"
    FALSE = "false"


class Streaming(StrEnum):
    """pgoutput's ``streaming`` option: when large transactions are sent."""

    OFF = "off"
    """When they commit; until then the server keeps their changes on its own disk."""
    ON = "on"
    """While they run: they wait in the source's spool, and the server decodes each change once."""
    PARALLEL = "parallel"
    """As ``on``, and aborts say where they happened (PostgreSQL 16 and newer)."""


class Failover(StrEnum):
    """Whether standbys may keep a copy of the slot, so that the flow goes on there once they are promoted."""

    AUTO = "auto"
    """A slot that is made is marked so where the server can (PostgreSQL 17 and newer); one that exists is left as it
    is."""
    TRUE = "true"
    """A slot that exists is marked, too; a server that cannot is refused."""
    FALSE = "false"
    """No slot is marked; one that exists loses its mark."""


class Origin(StrEnum):
    """pgoutput's ``origin`` option: whose changes are sent."""

    ANY = "any"
    NONE = "none"
    """Only changes made here, not those that replication brought: two databases that replicate to each other do not
    echo (PostgreSQL 16 and newer)."""


class ToastFetch(StrEnum):
    """How cells PostgreSQL did not send are filled: TOASTed values an UPDATE left as they were."""

    OFF = "off"
    """Not at all: destinations keep the value they have, a log marks the cell."""
    SOURCE = "source"
    """With the row's present value, read from the source: it may be newer than the change."""
    FULL = "full"
    """As ``source``, and every other column of an updated row is replaced by its present value, too."""
    CACHE = "cache"
    """With the value the row had, from a bounded memory of what the stream sent before: exact, or not at all."""


class SourceMode(StrEnum):
    """What the source does."""

    CDC = "cdc"
    """Copy (see ``snapshot``) and stream."""
    BACKFILL = "backfill"
    """Copy and end; not supported yet."""


def _write_mode(value: Any) -> Any:
    text = value.lower() if isinstance(value, str) else value
    return "mirror" if text == "target" else text


def _lower(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return value.strip().lower() if isinstance(value, str) else value


def _lower_or_off(value: Any) -> Any:
    """YAML reads a bare ``on`` or ``off`` as a boolean."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = _lower(value)
    return {"true": "on", "false": "off"}.get(text, text) if isinstance(text, str) else text


def _off_or_lower(value: Any) -> Any:
    """A word in lower case; YAML reads a bare ``off`` as a boolean."""
    return "off" if value is False else _lower(value)


def _toast_fetch(value: Any) -> Any:
    text = _lower(value)
    return "off" if text in ("false", "no", "none", "0", 0) else text


def checked_slot_name(name: str) -> str:
    """The name; ValueError with PostgreSQL's rule for slots when it breaks it."""
    if not re.fullmatch(r"[a-z0-9_]{1,63}", name, re.ASCII):
        raise ValueError("must have 1 to 63 characters out of a-z, 0-9 and _ (PostgreSQL's rule for slot names)")
    return name


def checked_identifier(name: str) -> str:
    """The name; ValueError with PostgreSQL's rule for names when it breaks it."""
    if not 1 <= len(name.encode("utf-8", "surrogatepass")) <= 63 or "\0" in name:
        raise ValueError("must have 1 to 63 bytes, without NUL (PostgreSQL's rule for names)")
    return name


def _is_dsn(value: str) -> str:
    if secret.is_reference(value) or "=" in value or value.startswith(("postgres://", "postgresql://")):
        return value
    raise ValueError("must be postgresql://…, key=value pairs, or a reference env:NAME, file:PATH or secret:NAME")


PostgresDsn = Annotated[str, BeforeValidator(lambda value: _is_dsn(value) if isinstance(value, str) else value)]
"""A PostgreSQL connection string or a reference to one; may hold a password, so it is never printed."""

Identifier = Annotated[
    str, BeforeValidator(lambda value: checked_identifier(value) if isinstance(value, str) else value)
]
"""A PostgreSQL name: 1 to 63 bytes, case preserved, unquoted."""


class LoginOptions(OptionsModel):
    """A PostgreSQL and how to log in there; whatever connects to one has these options."""

    dsn: PostgresDsn
    """The database."""
    aws_rds_iam: bool | None = None
    """Log in with IAM authentication of Amazon RDS, in place of a password. Any option below turns it on as well."""
    aws_region: str = ""
    """The instance's AWS region; default: as the host's name says, else AWS's own configuration."""
    aws_profile: str = ""
    """A profile of AWS's configuration files; default: AWS's own search for credentials."""
    aws_role_arn: str = ""
    """A role to assume first."""
    aws_role_session_name: str = ""
    """How its session is called; default ``wallaby-rds-iam``."""
    aws_role_external_id: str = ""
    """The external id its trust policy demands."""
    aws_endpoint: str = ""
    """URL of STS, where the role is assumed; default: the region's. ``https://``, or ``http://`` on loopback."""

    @property
    def login(self) -> Dsn:
        """What connections are opened with."""
        iam = self.iam
        return self.dsn if iam is None else IamDsn(self.dsn, iam)

    @property
    def iam(self) -> RdsIam | None:
        """IAM authentication, if it is on."""
        given = {name: getattr(self, f"aws_{name}") for name in IAM_OPTIONS}
        is_on = any(given.values()) if self.aws_rds_iam is None else self.aws_rds_iam
        return RdsIam(**given) if is_on else None

    @property
    def login_fields(self) -> dict[str, Any]:
        """The fields above, for other options of the same database."""
        return {name: getattr(self, name) for name in LoginOptions.model_fields}

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> Self:
        """As `OptionsModel.parse`; a connection string that is known here must fit the way to log in."""
        parsed = super().parse(options)
        problems = list(_login_problems(parsed.dsn, parsed.iam))
        if problems:
            raise InvalidFlow(problems, what="options")
        return parsed


def _login_problems(dsn: str, iam: RdsIam | None) -> Iterator[Problem]:
    if iam is None:
        return
    yield from (Problem(f"aws_{name}", rule, advice) for name, rule, advice in iam_problems(iam))
    if not secret.is_reference(dsn):
        try:
            require_iam_fit(dsn, field="dsn")
        except ConfigError as error:
            yield Problem("dsn", error.message, error.advice)


class DestinationOptions(TransformOptions):
    """Options every destination understands; each sink subclasses this with its own.

    The sink's ``describe`` calls ``MyOptions.parse(options)``. It never sees the options of the transforms: they are
    here for what lists and describes options.
    """

    without_effect: ClassVar[Mapping[str, str]] = {
        "flow_id": _NOT_NEEDED,
        "format": "changes travel as Arrow; a destination's file or message format has an option of its own",
        "batch_mode": "the copy is written like any other window",
        "batch_resolution": "the copy is written like any other window",
        "meta_table_enabled": _NO_META_TABLE,
        "meta_schema": _NO_META_TABLE,
        "meta_table": _NO_META_TABLE,
        "meta_pk_prefix": _NO_META_TABLE,
    }
    unsupported: ClassVar[Mapping[str, str]] = {
        "type_mappings": _TYPES,
        "type_mappings_file": _TYPES,
    }

    null_words: ClassVar[frozenset[str]] = frozenset({"unrepresentable"})

    write_mode: Annotated[WriteMode, BeforeValidator(_write_mode)] = WriteMode.MIRROR
    """``mirror`` (the target equals the source; ``target`` is the same), ``append`` (every change is a row) or
    ``history`` (every version of a row is a row)."""
    schema_: Identifier | None = Field(default=None, alias="schema")
    """Target schema for every table; default: the source's schema."""
    table: str | None = None
    """Target table; only for flows of one table. Default: the source's name."""
    commit_interval: Duration = timedelta(0)
    """Commit at most this often; 0 (default: lowest latency) commits after every window."""
    unrepresentable: Annotated[Unrepresentable, BeforeValidator(_lower)] = Unrepresentable.REFUSE
    """What to do with values the target type cannot hold; ``refuse`` is the default so that none is altered unseen."""

    def require_mode(self, capabilities: Capabilities) -> None:
        """`ConfigError` for a write mode the destination does not have."""
        if self.write_mode not in capabilities.modes:
            raise ConfigError(
                f"the destination does not write {self.write_mode.value}",
                advice=f"Use {' or '.join(sorted(mode.value for mode in capabilities.modes))}",
                field="write_mode",
            )


class HistoryOptions(DestinationOptions):
    """What a destination with ``write_mode: history`` understands besides."""

    history_columns: Annotated[tuple[str, ...], BeforeValidator(split_list)] = ()
    """Other names for the columns of a history: entries ``column=name``, such as ``valid_from=dbt_valid_from``."""

    @field_validator("history_columns")
    @classmethod
    def _are_columns(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        _version_columns(entries)
        return entries

    @property
    def version_columns(self) -> VersionColumns:
        """The history's columns by their names in the target."""
        return _version_columns(self.history_columns)


def _version_columns(entries: tuple[str, ...]) -> VersionColumns:
    names: dict[str, str] = {}
    for entry in entries:
        column, equals, name = (part.strip() for part in entry.partition("="))
        if not equals or column in names:
            raise ValueError("must have entries column=name, one for each column")
        names[column] = name
    return VersionColumns.of(names)


class MaintenanceOptions(OptionsModel):
    """Options of the destinations whose tables wallaby looks after beside the flow."""

    maintenance: Annotated[Maintenance, BeforeValidator(_off_or_lower)] = Maintenance.AUTO
    """``auto`` (wallaby looks after the tables beside the flow) or ``off``."""
    maintenance_interval: Duration = timedelta(minutes=10)
    """Between two rounds over the tables: a round costs a look at each."""

    def require_maintenance(self) -> None:
        """`ConfigError` for rounds without a pause between them."""
        if self.maintenance_interval < _MAINTENANCE_INTERVAL_MIN:
            raise ConfigError(
                "must be a second at least", advice="Minutes suit most tables", field="maintenance_interval"
            )


class TypeOptions(DestinationOptions):
    """Options of the destinations whose columns can be of other types than wallaby chooses."""

    unsupported: ClassVar[Mapping[str, str]] = {
        name: reason
        for name, reason in DestinationOptions.unsupported.items()
        if name not in ("type_mappings", "type_mappings_file")
    }

    type_mappings: tuple[tuple[str, str], ...] = ()
    """Other types for the source's, a mapping or JSON or YAML text: ``{numeric: double, 'int4[]': text}``."""
    type_mappings_file: str | None = None
    """A file with the same, read where the flow is checked and where it runs; ``type_mappings`` wins over it."""
    lossy: tuple[str, ...] = ()
    """Columns a type mapping may alter, a list or text with commas: ``public.orders.total``, ``public.orders.*``."""

    @property
    def has_type_mappings(self) -> bool:
        """True when some column may be of another type than wallaby chooses."""
        return bool(self.type_mappings or self.type_mappings_file is not None)

    def all_type_mappings(self) -> dict[str, tuple[str, str]]:
        """Source type, in lower case, to target type and the field it comes from. Reads the file; `ConfigError`."""
        path = self.type_mappings_file
        listed = {} if path is None else read_mappings_file(path)
        found = {key: (name, f"type_mappings_file.{key}") for key, name in listed.items()}
        return found | {key: (name, f"type_mappings.{key}") for key, name in self.type_mappings}

    @property
    def consent(self) -> tuple[ColumnPattern, ...]:
        """``lossy`` as patterns."""
        return tuple(map(parse_column_pattern, self.lossy))

    @field_validator("type_mappings", mode="plain")
    @classmethod
    def _type_mappings(cls, value: Any) -> tuple[tuple[str, str], ...]:
        return value if isinstance(value, tuple) else tuple(read_mappings(value).items())

    @field_validator("lossy", mode="before")
    @classmethod
    def _lossy(cls, value: Any) -> tuple[str, ...]:
        return tuple(str(parse_column_pattern(item)) for item in split_list(value))


class SourceOptions(LoginOptions):
    """Options of the PostgreSQL source."""

    without_effect: ClassVar[Mapping[str, str]] = {
        "batch_size": "windows size themselves by bytes and load",
        "batch_timeout": "windows size themselves by bytes and load",
        "emit_empty": "positions move without empty batches",
        "resolve_types": "types are always resolved",
        "format": "changes travel as Arrow",
        "ensure_state": "nothing is written into the source database",
        "state_schema": "nothing is written into the source database",
        "state_table": "nothing is written into the source database",
        "flow_id": _NOT_NEEDED,
        "ddl_trigger_schema": "belongs to capture_ddl, which is not used here",
        "ddl_trigger_name": "belongs to capture_ddl, which is not used here",
        "ddl_message_prefix": "belongs to capture_ddl, which is not used here",
        "snapshot_workers": _BACKFILL_ONLY,
        "parallel_tables": _BACKFILL_ONLY,
        "partition_column": _BACKFILL_ONLY,
        "partition_count": _BACKFILL_ONLY,
        "snapshot_consistent": "the copy is always consistent with the stream",
        "snapshot_state_backend": _BACKFILL_ONLY,
        "snapshot_state_schema": _BACKFILL_ONLY,
        "snapshot_state_table": _BACKFILL_ONLY,
        "snapshot_state_path": _BACKFILL_ONLY,
        "snapshot_state_dsn": _BACKFILL_ONLY,
    }
    unsupported: ClassVar[Mapping[str, str]] = {
        "capture_ddl": "Remove it; changed table shapes are noticed from the stream itself",
    }

    dsn: PostgresDsn
    """The source database. The role needs REPLICATION (or the provider's equivalent) and SELECT on the tables."""
    slot: str = ""
    """The replication slot, ``[a-z0-9_]{1,63}``; default ``wallaby_`` and the flow's id."""
    publication: str = ""
    """The publication; default ``wallaby_`` and the flow's id."""
    publication_tables: tuple[str, ...] = ()
    """Tables to publish: a list or comma-separated text of ``schema.table``, ``schema.*`` (``tables`` is the same)."""
    publication_schemas: tuple[str, ...] = ()
    """Schemas whose tables to publish (``schemas`` is the same). Neither given: all tables."""
    create_slot: bool = True
    """Create the slot when it is missing at the first start. Later a missing slot is always an error."""
    ensure_publication: bool = True
    """Create the publication when it is missing."""
    sync_publication: bool = False
    """Bring an existing publication in line with the two lists above at start."""
    sync_publication_mode: Annotated[PublicationSync, BeforeValidator(_lower)] = PublicationSync.ADD
    """``add`` only adds tables (the safe default), ``sync`` also drops."""
    validate_replication: bool = True
    """Check wal_level, slots, senders and replica identities before anything is created."""
    failover: Annotated[Failover, BeforeValidator(_lower)] = Failover.AUTO
    """Let standbys synchronize the slot: ``auto`` (default) marks a new slot where the server can (PostgreSQL 17),
    ``true`` also one that exists, ``false`` unmarks it."""
    snapshot: Annotated[SnapshotMode, BeforeValidator(_lower)] = SnapshotMode.INITIAL
    """``initial`` copies existing rows first; ``never`` starts with the changes after the slot's creation."""
    status_interval: Duration = timedelta(seconds=10)
    """Standby status updates at least this often; must stay well below the server's wal_sender_timeout (60s)."""
    start_lsn: Lsn | None = None
    """Where a flow without any checkpoint starts streaming; the slot must still hold it. Later it has no effect."""
    binary: Annotated[BinaryMode, BeforeValidator(_lower)] = BinaryMode.AUTO
    """pgoutput's binary option: ``auto`` (default) is binary while every published column can travel so, else text;
    ``true`` refuses such a column; ``false`` is text."""
    streaming: Annotated[Streaming, BeforeValidator(_lower_or_off)] = Streaming.ON
    """When large transactions are sent: ``on`` (default) while they run, ``off`` when they commit, or ``parallel``."""
    two_phase: bool = False
    """Read prepared transactions when they are prepared; they are applied, and the slot moves on, when they commit."""
    origin: Annotated[Origin, BeforeValidator(_lower)] = Origin.ANY
    """``none`` leaves out changes that replication brought, so that two-way replication does not echo."""
    spool_memory: ByteSize = 64 << 20
    """Unfinished transactions wait in memory up to this size, then in a file."""
    spool_disk: ByteSize = 16 << 30
    """... which grows up to this size. Beyond it the stream goes on without ``streaming``, on the server's disk."""
    spool_directory: str = ""
    """Where that file lies, nameless; default: the system's directory for temporary files."""
    toast_fetch: Annotated[ToastFetch, BeforeValidator(_toast_fetch)] = ToastFetch.OFF
    """Fill in values PostgreSQL did not send (unchanged TOAST): ``off``, ``source``, ``full``, ``cache``; see below."""
    toast_cache_size: ByteSize = 64 << 20
    """With ``toast_fetch: cache``: how much is remembered, in bytes with a unit."""
    mode: Annotated[SourceMode, BeforeValidator(_lower)] = SourceMode.CDC
    """``cdc``. ``backfill`` of the Go WALlaby is not supported yet."""

    def needing_a_newer_server(self) -> tuple[str, ...]:
        """The options in use that not every supported version of PostgreSQL knows."""
        used = {
            "two_phase": self.two_phase,
            "origin": self.origin is not Origin.ANY,
            "failover": self.failover is Failover.TRUE,
        }
        return tuple(name for name, is_used in used.items() if is_used)

    def table_patterns(self) -> tuple[TablePattern, ...]:
        """``publication_tables`` and ``publication_schemas`` as patterns; empty means all tables."""
        schemas = tuple(TablePattern(schema, None) for schema in self.publication_schemas)
        return tuple(dict.fromkeys((*map(parse_table_pattern, self.publication_tables), *schemas)))

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        return tuple(sorted((*super().option_names(), *_SOURCE_ALIASES)))

    @field_validator("slot")
    @classmethod
    def _slot(cls, value: str) -> str:
        return checked_slot_name(value) if value else value

    @field_validator("publication")
    @classmethod
    def _publication(cls, value: str) -> str:
        return checked_identifier(value) if value else value

    @field_validator("publication_tables", mode="before")
    @classmethod
    def _tables(cls, value: Any) -> tuple[str, ...]:
        items = split_list(value)
        return tuple(str(parse_table_pattern(item)) for item in items)

    @field_validator("publication_schemas", mode="before")
    @classmethod
    def _schemas(cls, value: Any) -> tuple[str, ...]:
        return tuple(parse_table_pattern(f"{item}.*").schema for item in split_list(value))

    @field_validator("status_interval")
    @classmethod
    def _status_interval(cls, value: timedelta) -> timedelta:
        if not timedelta(milliseconds=100) <= value <= timedelta(minutes=5):
            raise ValueError("must lie between 100ms and 5m")
        return value

    @field_validator("toast_cache_size")
    @classmethod
    def _toast_cache_size(cls, value: int) -> int:
        if not 1 << 20 <= value <= 64 << 30:
            raise ValueError("must lie between 1MiB and 64GiB")
        return value

    @field_validator("start_lsn", mode="plain")
    @classmethod
    def _start_lsn(cls, value: Any) -> Lsn | None:
        if value is None or isinstance(value, Lsn):
            return value
        if not isinstance(value, str):
            raise ValueError("must be an LSN such as 16/B374D848")
        try:
            return Lsn.parse(value)
        except ValueError:
            raise ValueError("must be an LSN such as 16/B374D848") from None

    @field_validator("mode")
    @classmethod
    def _mode(cls, value: SourceMode) -> SourceMode:
        if value is SourceMode.BACKFILL:
            raise ValueError("backfill is not supported yet; a new flow copies existing rows with snapshot: initial")
        return value

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> SourceOptions:
        """As `OptionsModel.parse`; the Go names ``tables`` and ``schemas`` are read where the full names are absent."""
        given = {name: value for name, value in options.items() if name not in _SOURCE_ALIASES}
        for alias, name in _SOURCE_ALIASES.items():
            if options.get(alias) and not given.get(name):
                given[name] = options[alias]
        return super().parse(given)


_SOURCE_ALIASES: Final = {"tables": "publication_tables", "schemas": "publication_schemas"}
