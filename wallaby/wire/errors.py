"""Errors of the libraries below the codecs as ours: the one place that knows both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from wallaby.errors import DamagedFile, RowRefused
from wallaby.flow import WireFormat
from wallaby.schema import TableName

_ADVICE = "Fetch it again, or leave it out; what was read of it before is not to be used"


@contextmanager
def refusing(format: WireFormat, table: TableName | None) -> Iterator[None]:
    """Around encoding: Arrow's errors become `RowRefused`, which names the table. Those of the written file pass."""
    try:
        yield
    except RowRefused as error:
        raise RowRefused(error.message, advice=error.advice, **{"table": table, **error.where}) from None
    except pa.ArrowException as error:
        # Without a cause on purpose: Arrow's texts may quote values.
        raise RowRefused(f"{format} cannot hold the rows ({type(error).__name__})", table=table) from None


@contextmanager
def detecting(format: WireFormat, **where: Any) -> Iterator[None]:
    """Around decoding: whatever the bytes bring about becomes `DamagedFile`. Errors of the operating system pass."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise damaged(format, type(error).__name__, **where) from None
    except (
        pa.ArrowException,
        ValueError,
        KeyError,
        IndexError,
        OverflowError,
        EOFError,
        MemoryError,
        RecursionError,
    ) as error:
        # Without a cause on purpose: the texts may quote values.
        raise damaged(format, type(error).__name__, **where) from None


def damaged(format: WireFormat, what: str, **where: Any) -> DamagedFile:
    """The error for bytes that are not what a writer of ``format`` leaves."""
    return DamagedFile(f"this is no whole {format} file ({what})", advice=_ADVICE, **where)


__all__ = ["damaged", "detecting", "refusing"]
