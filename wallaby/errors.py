"""The error tree. Subclass only where a caller does something different; every class pickles with its fields.

The four that matter at a sink: `Refused` (did not happen, will not), `Transient` (did not happen, try again),
`OutcomeUnknown` (ask the destination before trying), `Superseded` (somebody else owns this lane; stop).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar


class Retry(StrEnum):
    """What may be done about an error without a person."""

    NOW = "now"
    """Try again at once: nothing happened."""
    LATER = "later"
    """Try again after a pause: something outside must recover first."""
    NEVER = "never"
    """A person must change something; retrying repeats the error."""


class WallabyError(Exception):
    """Base of all errors wallaby raises on purpose.

    Fields: ``message`` (what and where), ``advice`` (what an operator can do, one sentence), ``retry``, and ``where``
    (field path, table, slot, lane, LSN …: names and positions only, never row values, keys, passwords or DSNs).
    """

    retry: ClassVar[Retry] = Retry.NEVER

    def __init__(self, message: str, *, advice: str = "", **where: Any) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.where = {name: str(value) for name, value in where.items() if value is not None}

    def __str__(self) -> str:
        places = ", ".join(f"{name} {value}" for name, value in self.where.items())
        text = f"{self.message} [{places}]" if places else self.message
        return f"{text}. {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.advice, self.where)


def _rebuild(cls: type[WallabyError], message: str, advice: str, where: dict[str, str]) -> WallabyError:
    error = cls.__new__(cls)
    WallabyError.__init__(error, message, advice=advice, **where)
    return error


class ConfigError(WallabyError):
    """A flow, option or setting is wrong. Nothing was opened. ``where["field"]`` holds the path."""


class MissingExtra(ConfigError):
    """A package of an optional extra is not installed; the advice names the ``pip install`` to run."""


class CheckFailed(WallabyError):
    """The source or a destination is not fit for the flow (privilege, setting, shape). Nothing was changed."""


class SlotLost(WallabyError):
    """The slot is missing, invalidated, recreated, foreign or ahead of us: streaming on would lose changes."""


class DecodeError(WallabyError):
    """The replication stream holds bytes we cannot read; ``where["lsn"]`` says at which message."""


class DamagedFile(WallabyError):
    """A file of changes is cut off, damaged or of another format. What was read of it before is not all of it."""


class BinaryUnsupported(DecodeError):
    """A type without a binary decoder came in binary: the stream must be opened again as text. Nothing is lost."""

    retry = Retry.NOW


class StreamingUnfit(WallabyError):
    """Unfinished transactions cannot be streamed here: the stream must be opened again without.

    They do not fit where they wait, or the server fails at decoding them before they end. Nothing is lost: the server
    sends them when they commit.
    """

    retry = Retry.NOW


class SourceUnavailable(WallabyError):
    """The source cannot be reached or dropped the connection. Nothing is lost: the slot holds the WAL."""

    retry = Retry.LATER


class SnapshotGone(SourceUnavailable):
    """The exported snapshot no longer shows the tables as they were; the copy must be repeated under a new one."""


class SlotBusy(SourceUnavailable):
    """Another connection is streaming from the slot."""


class Refused(WallabyError):
    """The destination did not take the change and never will as it stands: shape, type, permission, lost history."""


class RowRefused(Refused):
    """The destination did not take the *rows* of a write or commit; others it may take.

    Raised by a writer only, for what a row's values cause: a constraint, a type too narrow, a value without a place.
    The writer is usable again after ``abort``, so that the rows can be found and set aside (`wallaby.isolation`).
    """


class LettersFull(WallabyError):
    """The dead-letter store of a flow is full: setting one more row aside would have to forget another."""


class Transient(WallabyError):
    """It certainly did not happen; trying again may succeed."""

    retry = Retry.LATER


class OutcomeUnknown(WallabyError):
    """A commit was sent and no answer came: call ``recover`` before anything else."""

    retry = Retry.LATER


class Superseded(WallabyError):
    """Another writer with a newer epoch, or a different history, owns this lane. Stop; do not retry."""

    retry = Retry.NEVER


class Fenced(Superseded):
    """The control store knows a newer epoch of this flow: this process is a leftover and must end."""


class StoreUnavailable(WallabyError):
    """The control store cannot be reached. Nothing is confirmed to the source while this lasts."""

    retry = Retry.LATER


class NotFound(WallabyError):
    """The named flow or object does not exist."""


class AlreadyExists(WallabyError):
    """A flow or object of that id exists."""


class IllegalMove(WallabyError):
    """The flow's lifecycle does not allow this command in its present state."""


class Unauthenticated(WallabyError):
    """The API does not know who calls: no token or certificate, or one that is unknown, expired or revoked."""


class PermissionDenied(WallabyError):
    """The API knows who calls, and its role does not allow the call."""


class TooManyCalls(WallabyError):
    """The caller is over its rate; nothing was done."""

    retry = Retry.LATER


__all__ = sorted(
    name for name, value in dict(globals()).items() if isinstance(value, type) and value.__module__ == __name__
)
