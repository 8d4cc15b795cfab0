"""Texts read in one go: 16 or 32 bytes in a vector register, one lane for each.

A lane less the byte that must be there at least is a figure, or nought for a mark between figures; one comparison of
all lanes says whether every byte was as expected. Then neighbours are joined, ten times the one and once the other,
then pairs of pairs, until a lane has the value. That is about one instruction for each byte of a date, where a loop
with a branch per byte takes ten.

The instructions are LLVM's own, for vectors of any processor: where it has no registers so wide, LLVM takes several.
Bytes around a text are read, but not used; the caller knows that they are in the array. With NUMBA_BOUNDSCHECK=1 that
is checked.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

from wallaby.pgtypes.compiled import intrinsic, is_loaded

if not is_loaded():
    import numba as nb
    from llvmlite import ir
    from numba.core import cgutils

FIGURES_BYTES: Final = 16
"""What `figures_before` reads."""
AROUND_MAX: Final = 32
"""Bytes of a text for `figures_around` and `places_before`."""
AROUND_BYTES: Final = AROUND_MAX + 1
"""What `figures_around` reads."""
DATE_BYTES: Final = 16
CLOCK_BYTES: Final = 16

_ANY: Final = 255
_DATE: Final = b"0000-00-00......"
_DATE_MOST: Final = (9, 9, 9, 9, 0, 1, 9, 0, 3, 9, _ANY, _ANY, _ANY, _ANY, _ANY, _ANY)
_CLOCK: Final = b".00:00:00.000000"
_CLOCK_MOST: Final = (_ANY, 2, 9, 0, 5, 9, 0, 5, 9, 0, 9, 9, 9, 9, 9, 9)
_DAY_MICROSECONDS: Final = 86_400_000_000
_UUID_FIRST: Final = (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 30, 31)
"""Of bytes 0 to 15 and, from 16 on, bytes 2 to 17: the figures of the first half, without the dashes."""
_UUID_SECOND: Final = (16, 17, 18, 19, *range(4, 16))
"""Of bytes 20 to 35 and, from 16 on, bytes 19 to 34: those of the second."""


@intrinsic
def figures_before(typing_context, data, stop, size):
    """The value of the ``size`` (1 to 16) decimal figures that end at ``stop``; -1 when one is no figure."""

    def build(context, builder, signature, args):
        first = builder.sub(_word(16), args[2])
        text = _load(context, builder, signature.args[0], args[0], builder.sub(args[1], _word(16)), 16)
        figures = _from(builder, _less(builder, text, 48), first)
        high, low = _words(builder, _joined(builder, figures))
        value = builder.add(builder.mul(high, _word(10**8)), low)
        return builder.select(_are_at_most(builder, figures, [9] * 16), value, _word(-1))

    return nb.int64(data, nb.int64, nb.int64), build


@intrinsic
def figures_around(typing_context, data, stop, size, places):
    """The value of the figures among the ``size`` (2 to 32) bytes that end at ``stop``.

    The byte that has ``places`` others behind it is left out, whatever it is. -1 when one of the others is no figure,
    or with a value of more than 18 figures.
    """

    def build(context, builder, signature, args):
        begin = builder.sub(args[1], _word(33))
        before = _load(context, builder, signature.args[0], args[0], begin, 32)
        after = _load(context, builder, signature.args[0], args[0], builder.add(begin, _word(1)), 32)
        behind = _are_from(builder, 32, builder.sub(_word(32), args[3]))
        text = builder.select(behind, after, before)
        figures = _from(builder, _less(builder, text, 48), builder.sub(_word(33), args[2]))
        first, second, third, fourth = _words(builder, _joined(builder, figures))
        high = builder.add(builder.mul(second, _word(10**8)), third)
        value = builder.add(builder.mul(high, _word(10**8)), fourth)
        fits = builder.and_(
            _are_at_most(builder, figures, [9] * 32),
            builder.and_(builder.icmp_unsigned("==", first, _word(0)), builder.icmp_unsigned("<", second, _word(100))),
        )
        return builder.select(fits, value, _word(-1))

    return nb.int64(data, nb.int64, nb.int64, nb.int64), build


@intrinsic
def places_before(typing_context, data, stop, size):
    """How many of the ``size`` (1 to 32) bytes that end at ``stop`` are behind the first point; -1 without one."""

    def build(context, builder, signature, args):
        text = _load(context, builder, signature.args[0], args[0], builder.sub(args[1], _word(32)), 32)
        points = builder.icmp_unsigned("==", text, _lanes(8, [46] * 32))
        points = builder.and_(points, _are_from(builder, 32, builder.sub(_word(32), args[2])))
        first = builder.cttz(builder.bitcast(points, ir.IntType(32)), ir.Constant(ir.IntType(1), 0))
        return builder.sub(_word(31), builder.zext(first, ir.IntType(64)))

    return nb.int64(data, nb.int64, nb.int64), build


@intrinsic
def calendar_date(typing_context, data, at):
    """``YYYY-MM-DD`` as year, day << 16 and month << 32, month and day not yet in range; -1 when it is no such text."""

    def build(context, builder, signature, args):
        text = _load(context, builder, signature.args[0], args[0], args[1], 16)
        figures = builder.sub(text, _lanes(8, _DATE))
        pairs = _join(builder, figures, [10, 10, 0, 1, 10, 0, 0, 0], [1, 1, 10, 0, 1, 0, 0, 0])
        year_and_month, day = _words(builder, _join(builder, pairs, [100, 1, 1, 0], [1, 1, 0, 0]))
        date = builder.or_(year_and_month, builder.shl(day, _word(16)))
        return builder.select(_are_at_most(builder, figures, _DATE_MOST), date, _word(-1))

    return nb.int64(data, nb.int64), build


@intrinsic
def clock_time(typing_context, data, at, size):
    """The microseconds of ``HH:MM:SS[.ffffff]`` from ``at`` + 1 on, which ends at ``at`` + ``size`` (9 to 16).

    -1 when it is no such text, or 24 hours or more. A point without figures passes.
    """

    def build(context, builder, signature, args):
        text = _load(context, builder, signature.args[0], args[0], args[1], 16)
        is_in = _are_below(builder, 16, args[2])
        figures = builder.select(is_in, builder.sub(text, _lanes(8, _CLOCK)), _lanes(8, [0] * 16))
        pairs = _join(builder, figures, [0, 1, 10, 0, 1, 10, 10, 10], [10, 0, 1, 10, 0, 1, 1, 1])
        # Hours; minutes as seconds, with the tens of the seconds; hundredths of a second; what is below them.
        parts = _join(builder, pairs, [1, 60, 100, 100], [1, 1, 1, 1])
        high, low = _words(builder, _join(builder, parts, [3_600_000_000, 10_000], [1_000_000, 1]))
        clock = builder.add(high, low)
        fits = builder.and_(
            _are_at_most(builder, figures, _CLOCK_MOST), builder.icmp_unsigned("<", clock, _word(_DAY_MICROSECONDS))
        )
        return builder.select(fits, clock, _word(-1))

    return nb.int64(data, nb.int64, nb.int64), build


@intrinsic
def uuid_figures(typing_context, data, at, out, to):
    """The 32 lower-case hexadecimal figures of the 36 bytes at ``at`` to 16 bytes at ``out[to:]``.

    False when one is no such figure; what is written then means nothing. The bytes between are not looked at.
    """

    def build(context, builder, signature, args):
        kind, target = signature.args[0], signature.args[2]
        pieces = [_load(context, builder, kind, args[0], builder.add(args[1], _word(i)), 16) for i in (0, 2, 20, 19)]
        fits = ir.Constant(ir.IntType(1), 1)
        for half, places in enumerate((_UUID_FIRST, _UUID_SECOND)):
            text = builder.shuffle_vector(*pieces[2 * half : 2 * half + 2], _lanes(32, places))
            number, letter = _less(builder, text, 48), _less(builder, text, 97)
            is_number = builder.icmp_unsigned("<=", number, _lanes(8, [9] * 16))
            is_letter = builder.icmp_unsigned("<=", letter, _lanes(8, [5] * 16))
            fits = builder.and_(fits, _are_all(builder, builder.or_(is_number, is_letter)))
            figures = builder.select(is_number, number, builder.add(letter, _lanes(8, [10] * 16)))
            octets = builder.trunc(_join(builder, figures, [16] * 8, [1] * 8), _kind(8, 8))
            place = builder.add(args[3], _word(8 * half))
            _store(context, builder, target, args[2], place, octets)
        return fits

    return nb.boolean(data, nb.int64, out, nb.int64), build


def _kind(bits, count):
    return ir.VectorType(ir.IntType(bits), count)


def _word(number):
    return ir.Constant(ir.IntType(64), number)


def _lanes(bits, numbers):
    return ir.Constant(_kind(bits, len(numbers)), [ir.Constant(ir.IntType(bits), number) for number in numbers])


def _spread(builder, value, count):
    """The value in every lane."""
    kind = ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), _lanes(32, [0] * count))


def _pointer(context, builder, array_type, array, index, count):
    made = context.make_array(array_type)(context, builder, array)
    if context.enable_boundscheck:
        room = builder.sub(builder.extract_value(made.shape, 0), _word(count - 1))
        cgutils.do_boundscheck(context, builder, index, room)
    return builder.bitcast(builder.gep(made.data, [index]), _kind(8, count).as_pointer())


def _load(context, builder, array_type, array, index, count):
    value = builder.load(_pointer(context, builder, array_type, array, index, count))
    value.align = 1
    return value


def _store(context, builder, array_type, array, index, lanes):
    store = builder.store(lanes, _pointer(context, builder, array_type, array, index, lanes.type.count))
    store.align = 1


def _less(builder, lanes, number):
    return builder.sub(lanes, _lanes(8, [number] * lanes.type.count))


def _numbered(builder, count, comparison, place):
    """For every lane whether its number compares so with ``place``, which is 0 to ``count``."""
    places = _spread(builder, builder.trunc(place, ir.IntType(8)), count)
    return builder.icmp_unsigned(comparison, _lanes(8, range(count)), places)


def _are_from(builder, count, place):
    return _numbered(builder, count, ">=", place)


def _are_below(builder, count, place):
    return _numbered(builder, count, "<", place)


def _from(builder, lanes, place):
    """The lanes from ``place`` on; nought before."""
    count = lanes.type.count
    return builder.select(_are_from(builder, count, place), lanes, _lanes(8, [0] * count))


def _are_at_most(builder, lanes, most):
    return _are_all(builder, builder.icmp_unsigned("<=", lanes, _lanes(8, most)))


def _are_all(builder, truths):
    word = ir.IntType(truths.type.count)
    return builder.icmp_signed("==", builder.bitcast(truths, word), ir.Constant(word, -1))


def _join(builder, lanes, ones, others):
    """Every two lanes to one of twice as many bits: the first times its one of ``ones``, the second of ``others``."""
    bits = lanes.type.element.width
    kind = _kind(2 * bits, lanes.type.count // 2)
    both = builder.bitcast(lanes, kind)
    first = builder.and_(both, _lanes(2 * bits, [(1 << bits) - 1] * kind.count))
    second = builder.lshr(both, _lanes(2 * bits, [bits] * kind.count))
    return builder.add(builder.mul(first, _lanes(2 * bits, ones)), builder.mul(second, _lanes(2 * bits, others)))


def _joined(builder, figures):
    """Decimal figures to lanes of 64 bits, the value of eight in each."""
    for ten in (10, 100, 10_000):
        count = figures.type.count // 2
        figures = _join(builder, figures, [ten] * count, [1] * count)
    return figures


def _words(builder, lanes):
    """The lanes as words of 64 bits."""
    count = lanes.type.count * lanes.type.element.width // 64
    words = builder.bitcast(lanes, _kind(64, count))
    return [builder.extract_element(words, ir.Constant(ir.IntType(32), i)) for i in range(count)]
