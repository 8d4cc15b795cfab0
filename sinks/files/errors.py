"""Errors of the file system as ours: the one place that knows both."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from wallaby.errors import OutcomeUnknown, RowRefused, Transient, WallabyError

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@contextmanager
def translated(**where: Any) -> Iterator[None]:
    """Turn OSError and Arrow's errors into ours: what was under way certainly did not become visible."""
    try:
        yield
    except OSError as error:
        raise translate(error, **where) from error
    except pa.ArrowException as error:
        # Without a cause on purpose: Arrow's texts may quote values.
        raise RowRefused(f"the format cannot hold the rows ({type(error).__name__})", **where) from None


@contextmanager
def outcome_unknown(**where: Any) -> Iterator[None]:
    """Around what follows the making of a manifest: it is there, but what belongs to it was not finished."""
    try:
        yield
    except (OSError, Transient) as error:
        raise OutcomeUnknown(
            "the storage failed right after the commit", advice="The manifests decide: recover", **where
        ) from error


def translate(error: OSError, **where: Any) -> WallabyError:
    """Our error for a failed system call that changed nothing visible."""
    name = errno.errorcode.get(error.errno or 0, "error")
    if error.errno in _FULL:
        return Transient("there is no space left", advice="Free space, or grow the disk", **where)
    if error.errno in _FORBIDDEN:
        return Transient(
            "the directory cannot be written", advice="Give this user write permission, or mount it writable", **where
        )
    return Transient(f"the file system answered {name}", advice="Look at the disk and the mount", **where)


__all__ = ["outcome_unknown", "translate", "translated"]
