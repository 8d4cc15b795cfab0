"""DuckDB's exceptions as ours: the one place that knows both.

Conversion and constraint messages of DuckDB quote values of the row, so its texts are never passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import duckdb

from wallaby.errors import OutcomeUnknown, Refused, RowRefused, Transient, WallabyError

_HOLDER: Final = re.compile(r"\(PID (\d{1,10})\)")
_OF_ROWS: Final = (
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.ConstraintException,
    duckdb.TypeMismatchException,
)
"""Errors whose text quotes values: it is not read, for a value may say anything."""
_FULL: Final = re.compile(r"No space left|Disk quota|database or disk is full", re.IGNORECASE)
"""The operating system's words and, of a lake's catalog, SQLite's."""
_NO_MEMORY: Final = re.compile(r"could not allocate block|failed to (pin|offload|allocate)", re.IGNORECASE)
"""What DuckDB gives the class of a conflict when it happens at COMMIT."""


class Doing(Enum):
    """What was under way, which decides what an unexpected error means."""

    OPEN = "opening the database"
    WORK = "writing"
    """Inside a transaction that is rolled back: certainly nothing happened."""
    COMMIT = "committing"
    """The commit record may or may not be in the file."""


class Conflict(Transient):
    """Another connection changed the same rows or the same catalog first; nothing of ours happened."""


@contextmanager
def translated(doing: Doing, **where: Any) -> Iterator[None]:
    """Turn DuckDB's exceptions into ours. ``where`` names the table, path or lane."""
    try:
        yield
    except duckdb.Error as error:
        # Without a cause on purpose: the text, shown in a traceback, may quote a row.
        raise translate(error, doing, **where) from None


def translate(error: duckdb.Error, doing: Doing, **where: Any) -> WallabyError:
    """Our error for DuckDB's: class, advice, and no word of DuckDB's own text."""
    kind = type(error).__name__
    match error:
        case duckdb.IOException() if "lock on file" in str(error) and doing is not Doing.COMMIT:
            return lock_conflict(error, **where)
        case duckdb.Error() if not isinstance(error, _OF_ROWS) and _FULL.search(str(error)):
            outcome = OutcomeUnknown if doing is Doing.COMMIT else Transient
            return outcome("there is no space left", advice="Free space, or grow the disk", **where)
        case duckdb.TransactionException() if _NO_MEMORY.search(str(error)) and doing is Doing.COMMIT:
            return OutcomeUnknown(
                "DuckDB reached its memory limit at COMMIT",
                advice="Raise the option memory_limit: each table that is written needs some",
                **where,
            )
        case duckdb.TransactionException() if doing is Doing.WORK or _is_conflict(str(error)):
            return Conflict("another connection committed first", advice="It is tried again", **where)
        case _ if doing is Doing.COMMIT:
            return OutcomeUnknown(f"DuckDB gave {kind} at COMMIT", advice="The record decides", **where)
        case duckdb.OutOfMemoryException():
            return Transient(
                "DuckDB reached its memory or disk limit",
                advice="Free disk space beside the database file, or raise the option memory_limit",
                **where,
            )
        case duckdb.HTTPException():
            said = store_answer(error)
            return Transient(said.message, advice=said.advice, **where)
        case duckdb.IOException() | duckdb.ConnectionException() | duckdb.FatalException() | duckdb.InternalException():
            return Transient(
                f"DuckDB gave {kind} while {doing.value}",
                advice="Look at the disk: space, permissions, and whether the file is a DuckDB database",
                **where,
            )
        case duckdb.CatalogException() | duckdb.BinderException():
            return Refused(
                "the target table does not have the shape wallaby left it in",
                advice="Undo the change made to the table, or reset the table",
                **where,
            )
        case duckdb.Error() if isinstance(error, _OF_ROWS):
            return RowRefused(
                f"the target table does not take a value ({kind})",
                advice="Compare the target's column types and constraints with the source table",
                **where,
            )
        case duckdb.InterruptException():
            return Transient("DuckDB was interrupted", **where)
        case _:
            return Transient(f"DuckDB gave {kind} while {doing.value}", **where)


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What a store of objects said, in our words. ``code`` is that of a finding."""

    code: str
    message: str
    advice: str


def store_answer(error: duckdb.Error) -> StoreAnswer:
    """Why a request to a bucket did not succeed. DuckDB's text holds the address: it is not shown."""
    match getattr(error, "status_code", 0):
        case 404:
            return StoreAnswer(
                "missing-bucket", "the bucket does not exist, or lost a file", "Create it, or correct data_path"
            )
        case 400 | 401 | 403:
            return StoreAnswer(
                "access-denied",
                "the store refuses access",
                "Look at access_key, secret_key and region; reading, writing, listing and deleting are needed",
            )
        case _:
            return StoreAnswer(
                "destination-unreachable",
                "the store does not answer",
                "Look at endpoint, region, force_path_style and the network",
            )


def _is_conflict(text: str) -> bool:
    """A lake gives every failure of its catalog at COMMIT the class of a conflict.

    SQLite says ``locked`` to the later of two, and has done nothing of it then.
    """
    return "DuckLake" not in text or "Transaction conflict" in text or "database is locked" in text


def lock_conflict(error: duckdb.Error, **where: Any) -> Transient:
    """Another process has the file open. The lock is the kernel's: it is free the moment that process ends."""
    holder = _HOLDER.search(str(error))
    who = f"process {holder[1]}" if holder else "another process"
    return Transient(
        f"the database file is in use by {who}",
        advice=f"Close the program that has it open ({who}); DuckDB lets one process write at a time",
        **where,
    )


__all__ = ["Conflict", "Doing", "StoreAnswer", "lock_conflict", "store_answer", "translate", "translated"]
