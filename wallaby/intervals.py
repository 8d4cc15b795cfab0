"""Arrow's intervals as columns of numbers, and back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wallaby.memory import unwritten

INTERVAL: Final = pa.month_day_nano_interval()
_LAYOUT: Final = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])
_MICROSECONDS_MAX: Final = (2**63 - 1) // 1_000

_Numbers = npt.NDArray[np.signedinteger[Any]]  # of one width or another


def interval_parts(array: pa.Array) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Months, days and nanoseconds of each value; anything where it is null."""
    parts = np.frombuffer(array.buffers()[1] or b"", _LAYOUT)[array.offset : array.offset + len(array)]
    return parts["months"], parts["days"], parts["nanoseconds"]


def intervals(months: _Numbers, days: _Numbers, microseconds: _Numbers, validity: pa.Buffer | None) -> pa.Array:
    """The inverse of `interval_parts`, for PostgreSQL's microseconds. ``validity``: Arrow's bitmap, None without nulls.

    ``pa.ArrowInvalid`` for microseconds that are more nanoseconds than 64 bits hold.
    """
    if ((microseconds > _MICROSECONDS_MAX) | (microseconds < -_MICROSECONDS_MAX)).any():
        raise pa.ArrowInvalid("an interval is out of range")
    values = unwritten(len(months), _LAYOUT)
    values["months"], values["days"], values["nanoseconds"] = months, days, microseconds * 1_000
    return pa.Array.from_buffers(INTERVAL, len(values), [validity, pa.py_buffer(values.view(np.uint8))])


def intervals_of(structs: pa.Array, validity: pa.Buffer | None) -> pa.Array:
    """`intervals` of structs of months, days and microseconds, of whatever type they are."""
    months, days, microseconds = (child.fill_null(0).to_numpy(zero_copy_only=False) for child in structs.flatten())
    return intervals(months, days, microseconds, validity)


__all__ = ["INTERVAL", "interval_parts", "intervals", "intervals_of"]
