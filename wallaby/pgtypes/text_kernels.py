"""Compiled gathers for text cells: what PostgreSQL prints with DateStyle ISO, IntervalStyle postgres, bytea_output hex.

Columns look as in ``wallaby.pgtypes.kernels``; every cell with a value is text (its offset is stored inverted). A text
that is not of the expected form, or has no place in Arrow, gets no bit in ``valid`` and becomes an outlier with that
text: a server that prints in another style costs outliers, never wrong values.
"""

# Compiled in: endian df3254ed, figures f966935c, kernels b960937f
# Compiled in: numeric_kernels a8f0216f
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numba as nb
import numpy as np
from numba import njit

from wallaby.pgtypes.compiled import CALLED, INLINED, OPTIONS
from wallaby.pgtypes.endian import be16, byte, put_64
from wallaby.pgtypes.figures import figures_at, last_figures, ymd_hms_at
from wallaby.pgtypes.kernels import BYTES, I32, MICROSECONDS_PER_DAY, U8, set_valid
from wallaby.pgtypes.numeric_kernels import multiply_add, negate, power_of_ten, reaches

_INT64_MAX: Final = 2**63 - 1
_INT32_MAX: Final = 2**31 - 1
NOT_USUAL: Final = -(2**63)
"""What the short cuts return for what they leave to the careful readers; no date or time has this value."""
_YEAR_MAX: Final = 6_000_000
_DAYS_MIN: Final = -3_000_000
"""Before PostgreSQL's first day, 4713 BC."""
_HOURS_MAX: Final = 2_562_047_788
"""What 64 bits of microseconds hold, less one hour."""


@njit(**CALLED)
def number_at(data, at, stop):
    """Read up to 18 decimal digits; returns (value, where they end). No digits: the end is ``at``."""
    value = np.int64(0)
    p = at
    while p < stop and p - at < 18 and 48 <= data[p] <= 57:
        value = value * 10 + (np.int64(data[p]) - 48)
        p += 1
    return value, p


@njit(inline="always")
def pair_at(data, at):
    """The value of two decimal figures, or -1."""
    tens = np.int64(data[at]) - 48
    ones = np.int64(data[at + 1]) - 48
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else np.int64(-1)


@njit(**CALLED)
def days_from_civil(year, month, day):
    """Days since 1970-01-01 of a proleptic Gregorian date; year 0 is 1 BC."""
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@njit(**CALLED)
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


@njit(**INLINED)
def usual_days(pairs):
    """Days since 1970 of a date in the years 1 to 9999, given as pairs of figures; ``NOT_USUAL`` for any other."""
    year = (pairs >> np.uint64(48)) * np.uint64(100) + ((pairs >> np.uint64(32)) & np.uint64(0xFFFF))
    month = (pairs >> np.uint64(16)) & np.uint64(0xFFFF)
    day = pairs & np.uint64(0xFFFF)
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


@njit(**INLINED)
def usual_clock(pairs):
    """Seconds since midnight of a time given as pairs of figures; ``NOT_USUAL`` when it is out of range."""
    hours = pairs >> np.uint64(32)
    minutes = (pairs >> np.uint64(16)) & np.uint64(0xFFFF)
    seconds = pairs & np.uint64(0xFFFF)
    if hours > np.uint64(23) or minutes > np.uint64(59) or seconds > np.uint64(59):
        return np.int64(NOT_USUAL)
    return np.int64((hours * np.uint64(60) + minutes) * np.uint64(60) + seconds)


@njit(**INLINED)
def usual_timestamp(data, at, stop, has_zone):
    """Microseconds since 1970 of ``YYYY-MM-DD HH:MM:SS[.ffffff]``, with ``+00`` if there is a zone.

    ``NOT_USUAL`` for everything else.
    """
    if has_zone:
        stop -= 3
        if stop - at < 19 or byte(data, stop) != 43 or be16(data, stop + 1) != 0x3030:
            return np.int64(NOT_USUAL)
    size = stop - at
    if size < 19 or size > 26:
        return np.int64(NOT_USUAL)
    ymd, hms = ymd_hms_at(data, at)
    days = usual_days(ymd)
    seconds = usual_clock(hms)
    if days == NOT_USUAL or seconds == NOT_USUAL:
        return np.int64(NOT_USUAL)
    microseconds = np.int64(0)
    if size > 19:
        if byte(data, at + 19) != 46 or size == 20:
            return np.int64(NOT_USUAL)
        microseconds = last_figures(data, stop, size - 20)
        if microseconds < 0:
            return np.int64(NOT_USUAL)
        if size < 26:
            microseconds *= power_of_ten(26 - size)
    return (days * 86_400 + seconds) * 1_000_000 + microseconds


@njit(**INLINED)
def usual_integer(data, at, stop):
    """A decimal integer of up to 16 figures; ``NOT_USUAL`` for everything else."""
    sign = np.int64(byte(data, at) == 45)
    value = figures_at(data, at + sign, stop)
    if value < 0:
        return np.int64(NOT_USUAL)
    return (value ^ -sign) + sign


@njit(**INLINED)
def usual_decimal_text(data, at, stop, scale, unit):
    """The value, in units of the scale, of a number of up to 18 figures with exactly ``scale`` (over 0) places.

    ``unit`` is 10 ** ``scale``. ``NOT_USUAL`` for everything else; PostgreSQL prints exactly the scale.
    """
    sign = np.int64(byte(data, at) == 45)
    at += sign
    point = stop - scale - 1
    whole_figures = point - at
    if whole_figures < 1 or whole_figures > 16 or whole_figures + scale > 18 or byte(data, point) != 46:
        return np.int64(NOT_USUAL)
    whole = figures_at(data, at, point)
    part = figures_at(data, point + 1, stop)
    if whole < 0 or part < 0:
        return np.int64(NOT_USUAL)
    value = whole * unit + part
    return (value ^ -sign) + sign


@njit(**CALLED)
def fraction_at(data, at, stop):
    """Read an optional ``.ffffff``: (microseconds, end); end -1 for more than six figures or none."""
    if at >= stop or data[at] != 46:
        return np.int64(0), np.int64(at)
    value, p = number_at(data, at + 1, stop)
    figures = p - at - 1
    if figures < 1 or figures > 6:
        return np.int64(0), np.int64(-1)
    return value * power_of_ten(6 - figures), np.int64(p)


@njit(**CALLED)
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


@njit(**CALLED)
def before_christ_at(data, at, stop):
    """True when exactly `` BC`` is left."""
    return stop - at == 3 and data[at] == 32 and data[at + 1] == 66 and data[at + 2] == 67


@njit(**CALLED)
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


@njit(**CALLED)
def integer_text_at(data, at, stop):
    """A decimal integer of 64 bits: (value, whether it is one)."""
    is_negative = data[at] == 45
    if is_negative:
        at += 1
    if at >= stop or stop - at > 19:
        return np.int64(0), False
    value, p = number_at(data, at, stop)
    if p == stop - 1 and 48 <= data[p] <= 57:
        # The nineteenth figure: counted below zero, where there is room for -2**63.
        last = np.int64(data[p]) - 48
        if value > 922337203685477580 or (value == 922337203685477580 and last > (8 if is_negative else 7)):
            return np.int64(0), False
        value = -value * 10 - last
        if not is_negative:
            value = -value
        p += 1
    elif is_negative:
        value = -value
    return value, p == stop


@njit(**CALLED)
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


@njit(**CALLED)
def time_text_at(data, at, stop):
    """``HH:MM:SS[.ffffff]`` before 24:00:00: (microseconds, whether it is one)."""
    time, p = time_at(data, at, stop)
    fits = p == stop and time < MICROSECONDS_PER_DAY
    return (time if fits else np.int64(0)), fits


@njit(**CALLED)
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


@njit(**CALLED)
def decimal_text_at(data, at, stop, scale, limbs, bound, out, first):
    """A decimal number to ``limbs`` zeroed words at ``out[first:]``, in units of the scale.

    False (and zeros) for what reaches ``bound``, has more figures than ``scale``, or is no number.
    """
    is_negative = data[at] == 45
    if is_negative:
        at += 1
    value = short_decimal_at(data, at, stop, scale)
    if value >= 0:
        if np.uint64(value) >= bound[0] and bound[1] == 0 and bound[2] == 0 and bound[3] == 0:
            return False
        if is_negative:
            value = -value
        out[first] = np.uint64(value)
        for k in range(1, limbs):
            out[first + k] = np.uint64(value >> 63)
        return True
    places = np.int64(-1)
    figures = 0
    fits = True
    for p in range(at, stop):
        byte = data[p]
        if byte == 46 and places < 0:
            places = 0
            continue
        if byte < 48 or byte > 57:
            fits = False
            break
        figures += 1
        if places >= 0:
            places += 1
            if places > scale:
                if byte != 48:
                    fits = False
                    break
                continue
        if multiply_add(out, first, limbs, 10, np.int64(byte) - 48):
            fits = False
            break
    if fits:
        for _ in range(scale - max(places, 0)):
            if multiply_add(out, first, limbs, 10, 0):
                fits = False
                break
    if not fits or figures == 0 or reaches(out, first, limbs, bound):
        for k in range(limbs):
            out[first + k] = 0
        return False
    if is_negative:
        negate(out, first, limbs)
    return True


@njit(**CALLED)
def short_decimal_at(data, at, stop, scale):
    """The value, in units of the scale, of an unsigned number of up to 18 figures with the missing places; else -1."""
    whole, p = number_at(data, at, stop)
    whole_figures = p - at
    part = np.int64(0)
    part_figures = np.int64(0)
    if p < stop and data[p] == 46 and whole_figures > 0:
        part, end = number_at(data, p + 1, stop)
        part_figures = end - p - 1
        p = end
    if p == stop and whole_figures > 0 and part_figures <= scale and whole_figures + scale <= 18:
        return whole * power_of_ten(scale) + part * power_of_ten(scale - part_figures)
    return np.int64(-1)


@njit(**CALLED)
def hex_figure(byte):
    """The value of a hexadecimal figure, or -1."""
    if 48 <= byte <= 57:
        return np.int64(byte) - 48
    if 97 <= byte <= 102:
        return np.int64(byte) - 87
    if 65 <= byte <= 70:
        return np.int64(byte) - 55
    return np.int64(-1)


@njit(**CALLED)
def uuid_text_at(data, at, out, to):
    """The 36 bytes of ``8-4-4-4-12`` hexadecimal figures to 16 at ``out[to:]``; False when they are not such."""
    put_64(out, to, np.int64(0))
    put_64(out, to + 8, np.int64(0))
    figure = np.int64(0)
    for k in range(36):
        byte = data[at + k]
        if k == 8 or k == 13 or k == 18 or k == 23:
            if byte != 45:
                return False
            continue
        value = hex_figure(byte)
        if value < 0:
            return False
        out[to + (figure >> 1)] |= np.uint8(value << (0 if figure & 1 else 4))
        figure += 1
    return True


@njit(nb.void(BYTES, I32, I32, I32, nb.int64, I32, U8), **OPTIONS)
def text_bytea_offsets(data, offset, length, base, column, starts, valid):
    r"""First pass over ``\x`` and pairs of hexadecimal figures: Arrow offsets."""
    end = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = length[j]
        if size < 2 or size % 2 != 0:
            continue
        at = np.int64(~offset[j])
        fits = data[at] == 92 and data[at + 1] == 120
        if fits:
            for p in range(at + 2, at + size):
                if hex_figure(data[p]) < 0:
                    fits = False
                    break
        if fits:
            set_valid(valid, i)
            end += (size - 2) // 2
    starts[rows] = end


@njit(nb.void(BYTES, I32, I32, nb.int64, I32, U8), **OPTIONS)
def text_bytea(data, offset, base, column, starts, out):
    """Second pass: the bytes."""
    for i in range(base.shape[0]):
        at = np.int64(~offset[base[i] + column]) + 2
        for q in range(starts[i], starts[i + 1]):
            out[q] = (hex_figure(data[at]) << 4) | hex_figure(data[at + 1])
            at += 2


@njit(**CALLED)
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


@njit(nb.int64(BYTES, I32, I32, I32, nb.int64, U8, I32, U8, I32, I32), **OPTIONS)
def text_list(data, offset, length, base, column, copy, starts, valid, element_offset, element_length):
    """Arrays such as ``{1,NULL,"a b"}`` to list offsets and cells over ``copy``, which receives the elements unquoted.

    ``copy`` has room for all bytes of all cells, the element arrays for half as many elements as bytes. Several
    dimensions and explicit bounds are outliers. Returns the number of elements.
    """
    elements = np.int64(0)
    written = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = elements
        j = base[i] + column
        size = length[j]
        if size < 2:
            continue
        p = np.int64(~offset[j])
        stop = p + size
        if data[p] != 123 or data[stop - 1] != 125:
            continue
        p += 1
        stop -= 1
        count = np.int64(0)
        fits = True
        while p < stop:
            begin = written
            is_quoted = data[p] == 34
            if is_quoted:
                p += 1
                is_closed = False
                while p < stop:
                    byte = data[p]
                    p += 1
                    if byte == 34:
                        is_closed = True
                        break
                    if byte == 92 and p < stop:
                        byte = data[p]
                        p += 1
                    copy[written] = byte
                    written += 1
                if not is_closed:
                    fits = False
                    break
            else:
                while p < stop and data[p] != 44:
                    byte = data[p]
                    if byte == 123 or byte == 125 or byte == 34 or byte == 92:
                        fits = False
                        break
                    copy[written] = byte
                    written += 1
                    p += 1
                if not fits or written == begin:
                    fits = False
                    break
            slot = elements + count
            element_offset[slot] = ~begin
            element_length[slot] = written - begin
            if (
                not is_quoted
                and written - begin == 4
                and copy[begin] == 78
                and copy[begin + 1] == 85
                and copy[begin + 2] == 76
                and copy[begin + 3] == 76
            ):
                element_offset[slot] = 0
                element_length[slot] = -1
            count += 1
            if p < stop:
                if data[p] != 44 or p + 1 >= stop:
                    fits = False
                    break
                p += 1
        if fits:
            elements += count
            set_valid(valid, i)
    starts[rows] = elements
    return elements
