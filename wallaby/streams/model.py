"""The values of streams, and the rules for names and numbers a client sends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from wallaby.errors import ConfigError
from wallaby.lsn import Lsn

NAME_BYTES_MAX: Final = 255
"""Streams, groups and consumers: they are part of index entries."""
ATTEMPTS_MAX: Final = 1_000_000
DELAY_MAX_S: Final = 43_200


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message claimed by a consumer, or a dead one."""

    id: int
    """Number in the stream, from 1."""
    namespace: str
    table: str
    operation: str
    key: str | None
    """JSON object of the key columns; None without a key."""
    lsn: Lsn
    """Of the transaction's commit record on the source."""
    wire_format: str
    payload: bytes
    created_at: datetime
    """When it was published."""
    attempts: int
    """How often the group has claimed it, this time included."""
    claim: int
    """The number of the claim: what makes it ours."""
    visible_at: datetime
    """When the claim runs out; for a dead message, when the last one did."""
    consumer: str = ""


class ClaimedRow(NamedTuple):
    """A claimed message as the database answers it: `Delivery` field by field, for who hands on many of them."""

    id: int
    namespace: str
    table: str
    operation: str
    key: str | None
    lsn: str
    """As PostgreSQL prints it."""
    wire_format: str
    payload: bytes
    created_at: datetime
    attempts: int
    claim: int
    visible_at: datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose claims are meant: by number for each message, else by consumer, else whoever holds them.

    The last is for clients of the Go WALlaby, whose acknowledgements name neither: what they acknowledge has been
    processed by somebody of the group, so nothing is lost by believing them.
    """

    ids: tuple[int, ...]
    claims: tuple[int, ...] = ()
    """Of equal length, or empty."""
    consumer: str = ""


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of an acknowledgement, extension or return."""

    done: int
    """Messages it counted for; one repeated after a lost answer counts again."""
    stale: tuple[int, ...]
    """Messages that were not the caller's any more (or never), ascending: the claim ran out and another consumer has
    it, or it was replayed, removed, or never delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOptions:
    """How a group consumes."""

    is_ordered: bool = False
    """Never hand out a message while an earlier one of its key is not finished. Costs parallelism where keys repeat."""
    max_attempts: int = 0
    """After so many claims that ended without an acknowledgement a message is dead; 0, the default, never gives up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupStatus:
    """Where a group stands. Counts are exact at one moment."""

    stream: str
    group: str
    options: GroupOptions
    last_id: int
    """The newest message of the stream."""
    cursor_id: int
    """Everything up to here was met by the group."""
    pending: int
    """Messages behind the cursor: not handed out yet."""
    claimed: int
    """Out with a consumer, the claim running."""
    available: int
    """Given back, run out, or replayed: handed out next (perhaps after a delay)."""
    blocked: int
    """Waiting behind an earlier message of their key."""
    dead: int
    lag_bytes: int
    """Payload bytes behind the cursor."""
    oldest_at: datetime | None
    """When the oldest message that is neither acknowledged nor dead was published; None when there is none."""
    lag_seconds: float
    """How long ago that was, by the database's clock; 0 when there is none."""

    @property
    def lag_messages(self) -> int:
        """Messages that are neither acknowledged nor dead."""
        return self.pending + self.claimed + self.available + self.blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which messages of a stream may be removed. The default keeps everything."""

    age: timedelta | None = None
    """Those published longer ago; zero: as soon as nothing else keeps them."""
    max_bytes: int | None = None
    """The oldest, so that about this many payload bytes remain."""
    removes_unacked: bool = False
    """Also messages some group has not acknowledged, and dead ones. Else they stay, and a stream nobody reads stays
    whole."""


def checked_name(value: str, field: str) -> str:
    """A name of a stream, group or consumer; `ConfigError` with the field for an unusable one."""
    if not value:
        raise ConfigError("is required", field=field)
    return checked_optional_name(value, field)


def checked_optional_name(value: str, field: str) -> str:
    """As `checked_name`, or empty."""
    if "\0" in value or len(value.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise ConfigError(f"must have at most {NAME_BYTES_MAX} bytes and no NUL", field=field)
    if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise ConfigError("is not valid Unicode", field=field)
    return value


def checked_number(value: int, field: str, *, low: int, high: int) -> int:
    """A number within limits; `ConfigError` with the field otherwise."""
    if not low <= value <= high:
        raise ConfigError(f"must lie between {low} and {high}", field=field)
    return value


def checked_claim(claim: Claim, ids_max: int) -> Claim:
    """A claim that can be asked for; `ConfigError` otherwise."""
    if not claim.ids:
        raise ConfigError("is required", field="ids")
    if len(claim.ids) > ids_max:
        raise ConfigError(f"must name at most {ids_max} messages", field="ids")
    if claim.claims and len(claim.claims) != len(claim.ids):
        raise ConfigError("must have one number per message, or none", field="claims")
    checked_optional_name(claim.consumer, "consumer_id")
    return claim
