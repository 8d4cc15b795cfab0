"""Dates, times and intervals read from text, as PostgreSQL prints them with DateStyle ISO and IntervalStyle postgres.

A ``usual_`` function is a short cut for the years 1 to 9999 and returns ``NOT_USUAL`` for whatever does not look as
expected, never a guess; a careful one says whether the text is a value at all.
"""

# Compiled in: endian a42f72e9, figures 9a8015c2, kernels 8b0061ab
# Compiled in: numeric_kernels 79dd2dd4, text_numbers d9872f3a
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import called, expanded, inlined
from wallaby.pgtypes.endian import be16, byte
from wallaby.pgtypes.figures import clock_figures, date_figures
from wallaby.pgtypes.kernels import MICROSECONDS_PER_DAY
from wallaby.pgtypes.numeric_kernels import power_of_ten
from wallaby.pgtypes.text_numbers import NOT_USUAL, number_at

_INT64_MAX: Final = 2**63 - 1
_INT32_MAX: Final = 2**31 - 1
_YEAR_MAX: Final = 6_000_000
_DAYS_MIN: Final = -3_000_000
"""Before PostgreSQL's first day, 4713 BC."""
_HOURS_MAX: Final = 2_562_047_788
"""What 64 bits of microseconds hold, less one hour."""


@expanded
def pair_at(data, at):
    """The value of two decimal figures, or -1."""
    tens = np.int64(data[at]) - 48
    ones = np.int64(data[at + 1]) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else np.int64(-1)


@called
def days_from_civil(year, month, day):
    """Days since 1970-01-01 of a proleptic Gregorian date; year 0 is 1 BC."""
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@called
def date_at(data, at, stop):
    """Read ``YYYY-MM-DD`` with four or more figures of year: (year, month, day, end); end -1 when it is not one."""
    year, p = number_at(data, at, stop)
    if p - at < 4 or p - at > 7 or p + 6 > stop or data[p] != 45 or data[p + 3] != 45 or year > _YEAR_MAX:
        return np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    month = pair_at(data, p + 1)
    day = pair_at(data, p + 4)
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return np.int64(0), np.int64(0), np.int64(0), np.int64(-1)
    return year, month, day, np.int64(p + 6)


@inlined
def usual_days(data, at):
    """Days since 1970 of the ``YYYY-MM-DD`` at ``at``, in the years 1 to 9999; ``NOT_USUAL`` for everything else."""
    date = np.uint64(date_figures(data, at))
    year = date & np.uint64(0xFFFF)
    day = (date >> np.uint64(16)) & np.uint64(0xFFFF)
    month = date >> np.uint64(32)
    # What is no date at all is out of range, too.
    if year == np.uint64(0) or month - np.uint64(1) > np.uint64(11) or day - np.uint64(1) > np.uint64(30):
        return np.int64(NOT_USUAL)
    # Years begin in March, so that the leap day is their last.
    is_early = np.uint64(month < np.uint64(3))
    year -= is_early
    month += np.uint64(12) * is_early
    century = year // np.uint64(100)
    leaps = (year >> np.uint64(2)) - century + (century >> np.uint64(2))
    return np.int64(year * np.uint64(365) + leaps + (month * np.uint64(153) - np.uint64(457)) // np.uint64(5) + day) - (
        306 + 719_163
    )


@inlined
def usual_timestamp(data, at, stop, has_zone):
    """Microseconds since 1970 of ``YYYY-MM-DD HH:MM:SS[.ffffff]``, with ``+00`` if there is a zone.

    ``NOT_USUAL`` for everything else.
    """
    if has_zone:
        stop -= 3
        if stop - at < 19 or byte(data, stop) != 43 or be16(data, stop + 1) != 0x3030:
            return np.int64(NOT_USUAL)
    if stop - at < 19 or byte(data, at + 10) != 32:
        return np.int64(NOT_USUAL)
    days = usual_days(data, at)
    time = clock_figures(data, at + 11, stop)
    if days == NOT_USUAL or time < 0:
        return np.int64(NOT_USUAL)
    return days * MICROSECONDS_PER_DAY + time


@inlined
def usual_time(data, at, stop):
    """Microseconds of ``HH:MM:SS[.ffffff]``; ``NOT_USUAL`` for everything else."""
    time = clock_figures(data, at, stop)
    return time if time >= 0 else np.int64(NOT_USUAL)


@called
def fraction_at(data, at, stop):
    """Read an optional ``.ffffff``: (microseconds, end); end -1 for more than six figures or none."""
    if at >= stop or data[at] != 46:
        return np.int64(0), np.int64(at)
    value, p = number_at(data, at + 1, stop)
    figures = p - at - 1
    if figures < 1 or figures > 6:
        return np.int64(0), np.int64(-1)
    return value * power_of_ten(6 - figures), np.int64(p)


@called
def time_at(data, at, stop):
    """Read ``HH:MM:SS[.ffffff]`` with two or more figures of hours: (microseconds, end); end -1 otherwise."""
    hours, p = number_at(data, at, stop)
    if p - at < 2 or hours >= _HOURS_MAX or p + 6 > stop or data[p] != 58 or data[p + 3] != 58:
        return np.int64(0), np.int64(-1)
    minutes = pair_at(data, p + 1)
    seconds = pair_at(data, p + 4)
    if not 0 <= minutes <= 59 or not 0 <= seconds <= 59:
        return np.int64(0), np.int64(-1)
    microseconds, p = fraction_at(data, p + 6, stop)
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + microseconds, p


@called
def before_christ_at(data, at, stop):
    """True when exactly `` BC`` is left."""
    return stop - at == 3 and data[at] == 32 and data[at + 1] == 66 and data[at + 2] == 67


@called
def zone_at(data, at, stop):
    """Read ``+HH[:MM[:SS]]`` or with a minus: (seconds east of UTC, end); end -1 otherwise."""
    if at >= stop or (data[at] != 43 and data[at] != 45):
        return np.int64(0), np.int64(-1)
    seconds = np.int64(0)
    unit = np.int64(3600)
    p = at + 1
    while True:
        value = pair_at(data, p) if p + 2 <= stop else np.int64(-1)
        if value < 0:
            return np.int64(0), np.int64(-1)
        seconds += value * unit
        p += 2
        if unit == 1 or p >= stop or data[p] != 58:
            break
        unit //= 60
        p += 1
    return (seconds if data[at] == 43 else -seconds), np.int64(p)


@called
def date_text_at(data, at, stop):
    """``YYYY-MM-DD[ BC]``: (days since 1970, whether it is one)."""
    year, month, day, p = date_at(data, at, stop)
    if p < 0:
        return np.int64(0), False
    if before_christ_at(data, p, stop):
        year = 1 - year
        p = stop
    days = days_from_civil(year, month, day)
    if p != stop or days < _DAYS_MIN or days > _INT32_MAX:
        return np.int64(0), False
    return days, True


@called
def time_text_at(data, at, stop):
    """``HH:MM:SS[.ffffff]`` before 24:00:00: (microseconds, whether it is one)."""
    time, p = time_at(data, at, stop)
    fits = p == stop and time < MICROSECONDS_PER_DAY
    return (time if fits else np.int64(0)), fits


@called
def timestamp_text_at(data, at, stop, has_zone):
    """``YYYY-MM-DD HH:MM:SS[.ffffff][+ZZ[:ZZ[:ZZ]]][ BC]``: (microseconds since 1970 UTC, whether it is one)."""
    year, month, day, p = date_at(data, at, stop)
    if p < 0 or p >= stop or data[p] != 32:
        return np.int64(0), False
    time, p = time_at(data, p + 1, stop)
    if p < 0:
        return np.int64(0), False
    if has_zone:
        east, p = zone_at(data, p, stop)
        if p < 0:
            return np.int64(0), False
        time -= east * 1_000_000
    if before_christ_at(data, p, stop):
        year = 1 - year
        p = stop
    days = days_from_civil(year, month, day)
    if p != stop or days < _DAYS_MIN or days > (_INT64_MAX - time) // MICROSECONDS_PER_DAY:
        return np.int64(0), False
    return days * MICROSECONDS_PER_DAY + time, True


@called
def interval_text_at(data, at, stop):
    """``1 year -2 mons 3 days -04:05:06.7``: (months, days, microseconds, whether it is one Arrow can hold)."""
    months = np.int64(0)
    days = np.int64(0)
    time = np.int64(0)
    p = at
    fits = True
    while fits and p < stop:
        sign = np.int64(1)
        if data[p] == 45 or data[p] == 43:
            sign = np.int64(-1) if data[p] == 45 else np.int64(1)
            p += 1
        value, end = number_at(data, p, stop)
        if end == p or value > 9_999_999_999:
            fits = False
        elif end < stop and data[end] == 58:
            time, end = time_at(data, p, stop)
            time *= sign
            fits = end == stop and -9223372036854775 <= time <= 9223372036854775
            p = stop
        elif end + 3 < stop and data[end] == 32:
            unit = data[end + 1]
            if unit == 121:  # year
                months += sign * value * 12
            elif unit == 109:  # mon
                months += sign * value
            elif unit == 100:  # day
                days += sign * value
            else:
                fits = False
            p = end + 1
            while p < stop and data[p] != 32:
                p += 1
            p += 1
        else:
            fits = False
    fits = fits and -(2**31) <= months <= 2**31 - 1 and -(2**31) <= days <= 2**31 - 1
    return months, days, time, fits
