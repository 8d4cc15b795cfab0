"""Binary values as the text PostgreSQL prints for them, compiled: types Arrow has none for keep their stream binary.

One kernel prints every kind, one after another into one buffer: what a value takes at most is known beforehand (see
``wallaby.pgtypes.printed``), so there is no pass to measure. The forms are those of the output functions, with the
styles the source connection fixes: ``network_out`` and ``inet_net_ntop`` (IPv6 shortened as BIND does), ``timetz_out``,
``tsvectorout``, ``varbit_out`` and, for the bounds of ranges, those of integers, ``date_out`` and ``timestamp_out``.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, INT64, U8, VOID, called, kernel
from wallaby.pgtypes.endian import be16, be32, be64
from wallaby.pgtypes.kernels import MICROSECONDS_PER_DAY, set_valid

KIND_UINT4: Final = 1
KIND_UINT8: Final = 2
KIND_INT4: Final = 3
KIND_INT8: Final = 4
KIND_LSN: Final = 5
KIND_TID: Final = 6
KIND_MACADDR: Final = 7
KIND_MACADDR8: Final = 8
KIND_INET: Final = 9
KIND_BITS: Final = 10
KIND_TIMETZ: Final = 11
KIND_TSVECTOR: Final = 12
KIND_DATE: Final = 13
KIND_TIMESTAMP: Final = 14
KIND_TIMESTAMPTZ: Final = 15

RANGE_EMPTY: Final = 0x01
RANGE_LOWER_INCLUDED: Final = 0x02
RANGE_UPPER_INCLUDED: Final = 0x04
_RANGE_NO_LOWER: Final = 0x01 | 0x08 | 0x20
_RANGE_NO_UPPER: Final = 0x01 | 0x10 | 0x40

_MALFORMED: Final = -1
_ADDRESS4: Final = 2
_ADDRESS6: Final = 3
_DAYS_FROM_MARCH_0: Final = 730425
"""0000-03-01 to 2000-01-01."""
_INT32_MAX: Final = 2**31 - 1
_INT32_MIN: Final = -(2**31)
_INT64_MAX: Final = 2**63 - 1
_INT64_MIN: Final = -(2**63)


@called
def put_number(out, to, value):
    """Decimal figures of an unsigned number; returns where they end."""
    figures = np.int64(1)
    rest = value // np.uint64(10)
    while rest != np.uint64(0):
        figures += 1
        rest = rest // np.uint64(10)
    p = to + figures
    for _ in range(figures):
        p -= 1
        out[p] = np.uint8(np.uint64(48) + value % np.uint64(10))
        value = value // np.uint64(10)
    return to + figures


@called
def put_signed(out, to, value):
    """Decimal figures of a signed number."""
    if value < 0:
        out[to] = 45
        # Two's complement: the magnitude of the least number does not fit its own type.
        return put_number(out, to + 1, ~np.uint64(value) + np.uint64(1))
    return put_number(out, to, np.uint64(value))


@called
def put_padded(out, to, value, figures):
    """A number that is not negative, with at least so many figures."""
    power = np.int64(1)
    for _ in range(figures - 1):
        power *= 10
        if value < power:
            out[to] = 48
            to += 1
    return put_number(out, to, np.uint64(value))


@called
def put_hex(out, to, value, is_upper):
    """Hexadecimal figures of up to 32 bits, without leading zeros."""
    shift = 28
    while shift > 0 and (value >> shift) & 15 == 0:
        shift -= 4
    while shift >= 0:
        nibble = (value >> shift) & 15
        out[to] = 48 + nibble if nibble < 10 else (55 if is_upper else 87) + nibble
        to += 1
        shift -= 4
    return to


@called
def put_infinity(out, to, is_negative):
    """``infinity`` or ``-infinity``."""
    if is_negative:
        out[to] = 45
        to += 1
    word = (105, 110, 102, 105, 110, 105, 116, 121)
    for k in range(8):
        out[to + k] = word[k]
    return to + 8


@called
def put_date(out, to, days):
    """``YYYY-MM-DD`` of a day counted from 2000-01-01; returns (end, True when it lies before Christ)."""
    # Years begin in March, in eras of 400 of them, so that leap days come last.
    shifted = days + _DAYS_FROM_MARCH_0
    era = shifted // 146097
    day_of_era = shifted - era * 146097
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_index = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_index + 2) // 5 + 1
    month = month_index + 3 if month_index < 10 else month_index - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    to = put_padded(out, to, year if year > 0 else 1 - year, 4)
    out[to] = 45
    to = put_padded(out, to + 1, month, 2)
    out[to] = 45
    return put_padded(out, to + 1, day, 2), year <= 0


@called
def put_era(out, to):
    """`` BC``."""
    out[to] = 32
    out[to + 1] = 66
    out[to + 2] = 67
    return to + 3


@called
def put_clock(out, to, microseconds):
    """``HH:MM:SS[.ffffff]``."""
    seconds = microseconds // 1_000_000
    fraction = microseconds - seconds * 1_000_000
    to = put_padded(out, to, seconds // 3600, 2)
    out[to] = 58
    to = put_padded(out, to + 1, seconds // 60 % 60, 2)
    out[to] = 58
    to = put_padded(out, to + 1, seconds % 60, 2)
    if fraction:
        out[to] = 46
        to = put_padded(out, to + 1, fraction, 6)
        while out[to - 1] == 48:
            to -= 1
    return to


@called
def print_timestamp(out, to, microseconds, has_zone):
    """Microseconds since 2000; a zone is always UTC."""
    if microseconds in (_INT64_MAX, _INT64_MIN):
        return put_infinity(out, to, microseconds < 0)
    days = microseconds // MICROSECONDS_PER_DAY
    to, is_before_christ = put_date(out, to, days)
    out[to] = 32
    to = put_clock(out, to + 1, microseconds - days * MICROSECONDS_PER_DAY)
    if has_zone:
        out[to] = 43
        out[to + 1] = 48
        out[to + 2] = 48
        to += 3
    return put_era(out, to) if is_before_christ else to


@called
def print_timetz(out, to, microseconds, west):
    """A time and its zone, in seconds west of Greenwich."""
    to = put_clock(out, to, microseconds)
    out[to] = 45 if west > 0 else 43
    zone = abs(west)
    to = put_padded(out, to + 1, zone // 3600, 2)
    if zone % 3600:
        out[to] = 58
        to = put_padded(out, to + 1, zone // 60 % 60, 2)
        if zone % 60:
            out[to] = 58
            to = put_padded(out, to + 1, zone % 60, 2)
    return to


@called
def put_address4(out, to, data, at):
    """Four bytes with points between."""
    for k in range(4):
        if k:
            out[to] = 46
            to += 1
        to = put_number(out, to, np.uint64(data[at + k]))
    return to


@called
def put_address6(out, to, data, at):
    """Eight groups with colons between, the longest run of zeros (the first of equal ones) as two colons."""
    best = np.int64(-1)
    best_size = np.int64(1)
    run = np.int64(0)
    for k in range(8):
        run = run + 1 if be16(data, at + 2 * k) == 0 else 0
        if run > best_size:
            best_size = run
            best = k - run + 1
    if best < 0:
        best_size = np.int64(0)
    k = np.int64(0)
    while k < 8:
        if k == best:
            out[to] = 58
            to += 1
            k += best_size
            if k == 8:
                out[to] = 58
                to += 1
            continue
        if k:
            out[to] = 58
            to += 1
        if k == 6 and best == 0 and (best_size == 6 or (best_size == 5 and be16(data, at + 10) == 0xFFFF)):
            return put_address4(out, to, data, at + 12)
        to = put_hex(out, to, be16(data, at + 2 * k), False)
        k += 1
    return to


@called
def print_inet(data, at, size, out, to):
    """An address, and its network's bits where PostgreSQL shows them."""
    if size < 4:
        return np.int64(_MALFORMED)
    bytes_of = np.int64(4) if data[at] == _ADDRESS4 else np.int64(16)
    bits = np.int64(data[at + 1])
    is_known = data[at] == _ADDRESS4 or data[at] == _ADDRESS6
    if not is_known or data[at + 3] != bytes_of or size != 4 + bytes_of or bits > 8 * bytes_of:
        return np.int64(_MALFORMED)
    to = put_address4(out, to, data, at + 4) if bytes_of == 4 else put_address6(out, to, data, at + 4)
    if data[at + 2] != 0 or bits != 8 * bytes_of:
        out[to] = 47
        to = put_number(out, to + 1, np.uint64(bits))
    return to


@called
def print_bits(data, at, size, out, to):
    """A figure per bit."""
    bits = be32(data, at) if size >= 4 else np.int64(_INT32_MAX)
    if size != 4 + (bits + 7) // 8:
        return np.int64(_MALFORMED)
    for k in range(bits):
        out[to + k] = 48 + ((data[at + 4 + (k >> 3)] >> (7 - (k & 7))) & 1)
    return to + bits


@called
def print_tsvector(data, at, size, out, to):
    """Lexemes in quotes (quotes and backslashes doubled) with positions and weights."""
    stop = at + size
    if size < 4:
        return np.int64(_MALFORMED)
    lexemes = be32(data, at)
    p = at + 4
    for number in range(lexemes):
        if number:
            out[to] = 32
            to += 1
        out[to] = 39
        to += 1
        while p < stop and data[p] != 0:
            if data[p] == 39 or data[p] == 92:
                out[to] = data[p]
                to += 1
            out[to] = data[p]
            to += 1
            p += 1
        out[to] = 39
        to += 1
        if p + 3 > stop:
            return np.int64(_MALFORMED)
        positions = be16(data, p + 1)
        p += 3
        if p + 2 * positions > stop:
            return np.int64(_MALFORMED)
        for k in range(positions):
            out[to] = 44 if k else 58
            entry = be16(data, p)
            to = put_number(out, to + 1, np.uint64(entry & 0x3FFF))
            weight = entry >> 14
            if weight:
                out[to] = 68 - weight
                to += 1
            p += 2
    return to if p == stop else np.int64(_MALFORMED)


@called
def print_macaddr(data, at, size, out, to):
    """Bytes with colons between."""
    for k in range(size):
        if k:
            out[to] = 58
            to += 1
        for nibble in (np.int64(data[at + k]) >> 4, np.int64(data[at + k]) & 15):
            out[to] = 48 + nibble if nibble < 10 else 87 + nibble
            to += 1
    return to


@called
def print_value(data, at, size, kind, out, to):
    """One value to ``out[to:]``; returns where it ends, or -1 when it is malformed."""
    if kind == KIND_INET:
        return print_inet(data, at, size, out, to)
    if kind == KIND_BITS:
        return print_bits(data, at, size, out, to)
    if kind == KIND_TSVECTOR:
        return print_tsvector(data, at, size, out, to)
    if kind in (KIND_MACADDR, KIND_MACADDR8):
        if size != (6 if kind == KIND_MACADDR else 8):
            return np.int64(_MALFORMED)
        return print_macaddr(data, at, size, out, to)
    if kind == KIND_TIMETZ:
        if size != 12:
            return np.int64(_MALFORMED)
        time = be64(data, at)
        west = np.int64(np.int32(be32(data, at + 8)))
        if time < 0 or time > MICROSECONDS_PER_DAY or abs(west) >= 86_400:
            return np.int64(_MALFORMED)
        return print_timetz(out, to, time, west)
    if kind == KIND_TID:
        if size != 6:
            return np.int64(_MALFORMED)
        out[to] = 40
        to = put_number(out, to + 1, np.uint64(be32(data, at)))
        out[to] = 44
        to = put_number(out, to + 1, np.uint64(be16(data, at + 4)))
        out[to] = 41
        return to + 1
    if kind in (KIND_UINT4, KIND_INT4, KIND_DATE):
        if size != 4:
            return np.int64(_MALFORMED)
        word = be32(data, at)
        if kind == KIND_UINT4:
            return put_number(out, to, np.uint64(word))
        number = np.int64(np.int32(word))
        if kind == KIND_INT4:
            return put_signed(out, to, number)
        if number in (_INT32_MAX, _INT32_MIN):
            return put_infinity(out, to, number < 0)
        to, is_before_christ = put_date(out, to, number)
        return put_era(out, to) if is_before_christ else to
    if size != 8:
        return np.int64(_MALFORMED)
    whole = be64(data, at)
    if kind == KIND_UINT8:
        return put_number(out, to, np.uint64(whole))
    if kind == KIND_INT8:
        return put_signed(out, to, whole)
    if kind == KIND_LSN:
        to = put_hex(out, to, (whole >> 32) & 0xFFFFFFFF, True)
        out[to] = 47
        return put_hex(out, to + 1, whole & 0xFFFFFFFF, True)
    return print_timestamp(out, to, whole, kind == KIND_TIMESTAMPTZ)


@kernel(INT64, BYTES, I32, I32, I32, INT64, INT64, I32, U8, U8)
def print_values(data, offset, length, base, column, kind, starts, valid, out):
    """Texts of all values in one buffer with room for them, and offsets. Returns the first malformed row, or -1."""
    end = np.int64(0)
    rows = base.shape[0]
    for i in range(rows):
        starts[i] = end
        j = base[i] + column
        size = np.int64(length[j])
        if size < 0:
            continue
        end = print_value(data, np.int64(offset[j]), size, kind, out, end)
        if end < 0:
            return np.int64(i)
        set_valid(valid, i)
    starts[rows] = end
    return np.int64(-1)


@kernel(INT64, BYTES, I32, I32, I32, INT64, U8, I32, I32, I32, I32)
def range_bounds(data, offset, length, base, column, flags, lower_offset, lower_length, upper_offset, upper_length):
    """The flags of every range, and its bounds as cells (length -1: none). Returns the first malformed row, or -1."""
    for i in range(base.shape[0]):
        flags[i] = 0
        lower_offset[i] = 0
        upper_offset[i] = 0
        lower_length[i] = -1
        upper_length[i] = -1
        j = base[i] + column
        size = np.int64(length[j])
        if size < 0:
            continue
        if size == 0:
            return np.int64(i)
        at = np.int64(offset[j])
        stop = at + size
        flag = np.int64(data[at])
        flags[i] = flag
        p = at + 1
        for side in range(2):
            if flag & (_RANGE_NO_UPPER if side else _RANGE_NO_LOWER):
                continue
            if p + 4 > stop:
                return np.int64(i)
            bound = be32(data, p)
            p += 4
            if p + bound > stop:
                return np.int64(i)
            if side:
                upper_offset[i] = p
                upper_length[i] = bound
            else:
                lower_offset[i] = p
                lower_length[i] = bound
            p += bound
        if p != stop:
            return np.int64(i)
    return np.int64(-1)


@called
def ranges_at(data, at, size):
    """How many ranges a binary multirange has; -1 when it is malformed."""
    if size < 4:
        return np.int64(-1)
    stop = at + size
    count = be32(data, at)
    p = at + 4
    for _ in range(count):
        if p + 4 > stop:
            return np.int64(-1)
        p += 4 + be32(data, p)
    return count if p == stop else np.int64(-1)


@kernel(VOID, BYTES, I32, I32, INT64, I32, I32, I32)
def multirange_elements(data, offset, base, column, starts, range_offset, range_length):
    """Second pass: the ranges as cells of an index of their own."""
    for i in range(base.shape[0]):
        if starts[i] == starts[i + 1]:
            continue
        p = np.int64(offset[base[i] + column]) + 4
        for k in range(starts[i], starts[i + 1]):
            size = be32(data, p)
            range_offset[k] = p + 4
            range_length[k] = size
            p += 4 + size
