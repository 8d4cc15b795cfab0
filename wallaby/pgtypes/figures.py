"""Figures, dates and UUIDs as PostgreSQL usually prints them: what makes text cost about as much as binary.

``lanes`` reads such a text with one load and without a branch per byte. Here is what must hold before: how long the
text may be, and that the bytes around it, which are read with it, lie in the array. Whatever does not look exactly as
expected is left to the careful readers in ``text_numbers``, ``text_times`` and ``text_kernels``: functions here return
-1, never a guess.
"""

# Compiled in: endian a42f72e9, lanes 3fcb7c45
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import inlined
from wallaby.pgtypes.endian import byte
from wallaby.pgtypes.lanes import (
    AROUND_BYTES,
    AROUND_MAX,
    CLOCK_BYTES,
    DATE_BYTES,
    FIGURES_BYTES,
    calendar_date,
    clock_time,
    figures_around,
    figures_before,
    places_before,
    uuid_figures,
)

FIGURES_MAX: Final = FIGURES_BYTES
"""``figures_at`` reads so many."""
_CLOCK_MAX: Final = 15
"""Bytes of ``HH:MM:SS.ffffff``."""
_SECONDS: Final = 8
"""Bytes of ``HH:MM:SS``."""


@inlined
def figures_at(data, at, stop):
    """The value of 1 to 16 figures that are all of ``data[at:stop]``; -1 for anything else, or at the array's start."""
    size = stop - at
    if size < 1 or size > FIGURES_MAX or stop < FIGURES_BYTES:
        return np.int64(-1)
    return figures_before(data, stop, size)


@inlined
def figures_with_point(data, at, stop, places):
    """The value, without the point, of figures that are all of ``data[at:stop]`` but a point ``places`` before the end.

    At least one figure on both sides, at most 18 that count; -1 for anything else, or at the array's start.
    """
    size = stop - at
    if places < 1 or size < places + 2 or size > AROUND_MAX or stop < AROUND_BYTES:
        return np.int64(-1)
    if byte(data, stop - places - 1) != 46:
        return np.int64(-1)
    return figures_around(data, stop, size, places)


@inlined
def places_at(data, at, stop):
    """How many bytes of ``data[at:stop]`` are behind its first point; -1 without one, and where that is not known."""
    size = stop - at
    if size < 1 or size > AROUND_MAX or stop < AROUND_BYTES:
        return np.int64(-1)
    return places_before(data, stop, size)


@inlined
def date_figures(data, at):
    """``YYYY-MM-DD`` at ``at``: year, day << 16 and month << 32; -1 for anything else, or at the array's end.

    The month is at most 19, the day at most 39.
    """
    if at + DATE_BYTES > data.shape[0]:
        return np.int64(-1)
    return calendar_date(data, at)


@inlined
def clock_figures(data, at, stop):
    """Microseconds of ``HH:MM:SS[.ffffff]`` before 24:00:00; -1 for anything else, or at either end of the array."""
    size = stop - at
    if size < _SECONDS or size > _CLOCK_MAX or size == _SECONDS + 1 or at < 1 or at - 1 + CLOCK_BYTES > data.shape[0]:
        return np.int64(-1)
    return clock_time(data, at - 1, size + 1)


@inlined
def uuid_at(data, at, out, first):
    """The 36 bytes of ``8-4-4-4-12`` lower-case figures to 16 at ``out[first:]``.

    False for anything else: what is there then means nothing.
    """
    if byte(data, at + 8) != 45 or byte(data, at + 13) != 45 or byte(data, at + 18) != 45 or byte(data, at + 23) != 45:
        return False
    return uuid_figures(data, at, out, first)
