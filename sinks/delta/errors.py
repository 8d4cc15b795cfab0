"""The Delta engine's exceptions as ours: the one place that knows both.

The engine quotes predicates, and with them keys, in its texts, so they are never passed on. It raises plain
``Exception`` for errors of Arrow and of its planner.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaProtocolError, SchemaMismatchError

from wallaby.errors import OutcomeUnknown, Refused, Transient, WallabyError

_FULL: Final = re.compile(r"No space left|Disk quota|StorageFull|os error 28\b|code: 28\b")
_FORBIDDEN: Final = re.compile(
    r"\b40[13]\b|AccessDenied|Forbidden|InvalidAccessKeyId|SignatureDoesNotMatch|PermissionDenied|Permission denied"
    r"|Unauthenticated|Read-only file system|code: 13\b|code: 30\b"
)
_GONE: Final = re.compile(r"File not found|Object at location .* not found|NoSuchKey|code: 2\b")
_VIOLATED: Final = re.compile(r"failed validation check|Check or Invariant|violated by value")
_NO_BUCKET: Final = re.compile(r"NoSuchBucket|bucket does not exist")
_UNREACHABLE: Final = re.compile(
    r"error sending request|Connection refused|Could not connect|dns error|timed out|\b50[0234]\b|HTTP error"
    r"|Generic S3 error"
)


class Doing(Enum):
    """What was under way, which decides what an unexpected error means."""

    OPEN = "opening a table"
    WORK = "writing"
    """The lane's record has certainly not moved, and what a table got is not given to it again."""
    COMMIT = "moving the lane's record"
    """It may or may not have moved."""


class Conflict(Transient):
    """Somebody else committed to the table first; nothing of ours happened."""


@contextmanager
def translated(doing: Doing, **where: Any) -> Iterator[None]:
    """Turn the engine's exceptions into ours. ``where`` names the table, path or lane."""
    try:
        yield
    except WallabyError:
        raise
    except Exception as error:  # noqa: BLE001 - the engine raises plain Exception, see the module
        # Without a cause on purpose: the text, shown in a traceback, may quote a row.
        raise translate(error, doing, **where) from None


def translate(error: Exception, doing: Doing, **where: Any) -> WallabyError:
    """Our error for the engine's: class, advice, and no word of its own text."""
    kind, text = type(error).__name__, str(error)
    match error:
        case CommitFailedError():
            return Conflict("somebody else committed to the table", advice="It is tried again", **where)
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _full(**where)
        case _ if _FULL.search(text):
            return _full(**where)
        case _ if _NO_BUCKET.search(text):
            return Transient("the bucket does not exist", advice="Create it, or correct path", **where)
        case _ if _FORBIDDEN.search(text):
            return Transient(
                "the store refuses access",
                advice="Look at the keys or the permissions: reading, writing, listing and deleting are needed",
                **where,
            )
        case _ if _VIOLATED.search(text):
            return Refused(
                "a constraint of the target table rejects rows",
                advice="Compare it with the source's constraints, and drop it where the source has none",
                **where,
            )
        case _ if doing is Doing.COMMIT:
            return OutcomeUnknown(f"the engine gave {kind} at the commit", advice="The record decides", **where)
        case _ if _UNREACHABLE.search(text):
            return Transient("the store does not answer", advice="Look at endpoint, region and the network", **where)
        case _ if isinstance(error, FileNotFoundError) or _GONE.search(text):
            return Transient(
                "files of the table are gone",
                advice="Somebody removed the table, or vacuumed it too early: copy it again with --resnapshot",
                **where,
            )
        case DeltaProtocolError():
            return Refused(
                "the table uses features of Delta this engine does not know",
                advice="Switch off column mapping and the like on the table, or name another",
                **where,
            )
        case SchemaMismatchError():
            return Refused(
                "the table does not have the shape wallaby left it in",
                advice="Undo the change made to the table, or copy it again",
                **where,
            )
        case pa.ArrowException():
            return Refused(f"Delta cannot hold the rows ({kind})", **where)
        case _:
            return Transient(f"the engine gave {kind} while {doing.value}", **where)


def _full(**where: Any) -> Transient:
    return Transient("there is no space left", advice="Free space, or grow the disk", **where)


__all__ = ["Conflict", "Doing", "translate", "translated"]
