"""One column type as another, chosen by a flow: what becomes of the values, and the conversion in columns.

A lossy conversion gives what PostgreSQL's own cast gives in a session whose time zone is UTC: numerics are rounded half
away from zero, floating-point numbers half to even, moments lose their time of day towards the past. A value the target
type does not hold at all is never wrapped, cut or made infinite: it is an error, of its row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from wallaby.content import value_texts
from wallaby.pgtypes.layout import Family, Layout

Cast = Callable[[pa.Array], pa.Array]


class Fidelity(StrEnum):
    """What becomes of the values of a type in a destination."""

    EXACT = "exact"
    """They are the same values. One the target's range lacks is refused with its row, never altered."""
    WIDENED = "widened"
    """They are the same values, in a type that holds more."""
    LOSSY = "lossy"
    """Some are altered, as `Conversion.reason` says; only with consent."""
    REFUSED = "refused"
    """There is no way from the one type to the other."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a column goes from one type to another. ``cast`` raises `pa.ArrowException` for a value that has no place."""

    fidelity: Fidelity
    reason: str
    cast: Cast


_FLOAT_DIGITS: Final = {16: 11, 32: 24, 64: 53}
"""Bits of the significand."""
_OUTSIDE: Final = "a value outside its range is refused with its row"
_DIGITS_MAX: Final = 76
_WITHOUT_TEXT: Final = frozenset({Family.INTERVAL, Family.BYTEA, Family.GEOMETRY})
"""Types whose Arrow values are not printed as PostgreSQL prints them."""


def conversion(source: Layout, target: Layout, *, same: bool = False) -> Conversion:
    """The way from ``source`` to ``target``; ``same`` says that both are one PostgreSQL type.

    Tried on no rows: what Arrow cannot do is `Fidelity.REFUSED`.
    """
    found = _conversion(source, target, same=same)
    if found.fidelity is Fidelity.REFUSED:
        return found
    try:
        made = found.cast(pa.array([], source.arrow))
    except pa.ArrowException:
        return _refused(f"{source.arrow} has no conversion to {target.arrow}")
    assert made.type == target.arrow, f"{source.arrow} was cast to {made.type}, not {target.arrow}"
    return found


def _conversion(source: Layout, target: Layout, *, same: bool) -> Conversion:
    before, after = source.arrow, target.arrow
    if before == after and (same or source.family is target.family or target.family is Family.STRING):
        return Conversion(Fidelity.EXACT, "", _as_it_is)
    if source.family is Family.LIST and target.family is Family.LIST:
        return _list_conversion(source, target)
    if target.family in (Family.STRING, Family.NUMERIC_TEXT):
        return _to_text(source, target)
    if source.family is Family.NUMERIC_TEXT:
        return _from_numeric_text(target)
    if pa.types.is_integer(before):
        return _from_integer(before, target)
    if pa.types.is_floating(before):
        return _from_floating(before, target)
    if source.family is Family.DECIMAL:
        return _from_decimal(source, target)
    return _from_moment(source, target)


def _list_conversion(source: Layout, target: Layout) -> Conversion:
    assert source.element is not None, f"{source} has no elements"
    assert target.element is not None, f"{target} has no elements"
    inner = _conversion(source.element, target.element, same=False)

    def cast(array: pa.Array) -> pa.Array:
        whole = pa.concat_arrays([array]) if array.offset else array
        values = inner.cast(whole.values)
        return pa.Array.from_buffers(
            target.arrow, len(whole), whole.buffers()[:2], null_count=whole.null_count, children=[values]
        )

    return Conversion(inner.fidelity, inner.reason, cast)


def _to_text(source: Layout, target: Layout) -> Conversion:
    is_number = pa.types.is_integer(source.arrow) or source.family is Family.DECIMAL
    if source.family in _WITHOUT_TEXT or (target.family is Family.NUMERIC_TEXT and not is_number):
        return _refused(f"{source.arrow} is not printed as PostgreSQL prints it")
    if pa.types.is_string(source.arrow):
        return Conversion(Fidelity.EXACT, "PostgreSQL's text", _as_it_is)
    reason = "figures that read back as the same number" if pa.types.is_floating(source.arrow) else "PostgreSQL's text"
    return Conversion(Fidelity.EXACT, reason, lambda array: value_texts(array).cast(pa.string()))


def _from_numeric_text(target: Layout) -> Conversion:
    if target.family is Family.DECIMAL:
        reason = f"a value with more than {target.scale} decimals, or too large, is refused with its row"
        return Conversion(Fidelity.EXACT, reason, lambda array: array.cast(target.arrow))
    if target.arrow == pa.float64():
        return Conversion(Fidelity.LOSSY, "rounded to the nearest double", _double_of_text)
    return _refused("an unconstrained numeric has no whole-number form")


def _from_integer(before: pa.DataType, target: Layout) -> Conversion:
    after = target.arrow
    if pa.types.is_integer(after):
        holds = after.bit_width > before.bit_width and (
            pa.types.is_signed_integer(after) or pa.types.is_unsigned_integer(before)
        )
        fidelity = Fidelity.WIDENED if holds else Fidelity.EXACT
        return Conversion(fidelity, "" if holds else _OUTSIDE, lambda array: array.cast(after))
    if pa.types.is_floating(after):
        if before.bit_width <= _FLOAT_DIGITS[after.bit_width]:
            return Conversion(Fidelity.WIDENED, "", lambda array: array.cast(after))
        reason = f"whole numbers beyond 2^{_FLOAT_DIGITS[after.bit_width]} are rounded half to even"
        return Conversion(Fidelity.LOSSY, reason, lambda array: array.cast(after, safe=False))
    if target.family is Family.DECIMAL:
        figures = len(str(2**before.bit_width))
        holds = target.precision - target.scale >= figures
        wide = pa.decimal256(min(figures + target.scale, _DIGITS_MAX), target.scale)
        fidelity = Fidelity.WIDENED if holds else Fidelity.EXACT
        return Conversion(fidelity, "" if holds else _OUTSIDE, lambda array: array.cast(wide).cast(after))
    return _refused(f"{before} has no conversion to {after}")


def _from_floating(before: pa.DataType, target: Layout) -> Conversion:
    after = target.arrow
    if pa.types.is_floating(after):
        if after.bit_width > before.bit_width:
            return Conversion(Fidelity.WIDENED, "", lambda array: array.cast(after))
        return Conversion(Fidelity.LOSSY, f"rounded to the nearest {after}, half to even; {_OUTSIDE}", _narrow_float)
    if pa.types.is_integer(after):
        reason = f"rounded to a whole number, half to even; {_OUTSIDE}"
        return Conversion(
            Fidelity.LOSSY, reason, lambda array: pc.round(array, 0, round_mode="half_to_even").cast(after)
        )
    return _refused(f"{before} has no conversion to {after}")


def _from_decimal(source: Layout, target: Layout) -> Conversion:
    after = target.arrow
    if pa.types.is_floating(after):
        narrow: Cast = _as_it_is if after == pa.float64() else _narrow_float
        return Conversion(
            Fidelity.LOSSY, f"rounded to the nearest {after}", lambda array: narrow(_double_of_text(value_texts(array)))
        )
    if target.family is not Family.DECIMAL and not pa.types.is_integer(after):
        return _refused(f"{source.arrow} has no conversion to {after}")
    scale = target.scale if target.family is Family.DECIMAL else 0
    cast = _rounded(scale, after) if scale < source.scale else _without_rounding(scale, after)
    if scale < source.scale:
        return Conversion(Fidelity.LOSSY, f"rounded to {scale} decimals, half away from zero; {_OUTSIDE}", cast)
    holds = target.family is Family.DECIMAL and target.precision - scale >= source.precision - source.scale
    return Conversion(Fidelity.WIDENED if holds else Fidelity.EXACT, "" if holds else _OUTSIDE, cast)


_MOMENTS: Final[dict[tuple[Family, Family], tuple[Fidelity, str]]] = {
    (Family.DATE, Family.TIMESTAMP): (Fidelity.WIDENED, "midnight"),
    (Family.TIMESTAMP, Family.DATE): (Fidelity.LOSSY, "the time of day is dropped"),
    (Family.TIMESTAMPTZ, Family.DATE): (Fidelity.LOSSY, "the time of day is dropped: the date in UTC"),
    (Family.TIMESTAMPTZ, Family.TIMESTAMP): (Fidelity.LOSSY, "the zone is dropped: the wall clock in UTC"),
    (Family.TIMESTAMP, Family.TIMESTAMPTZ): (Fidelity.LOSSY, "taken for the wall clock in UTC"),
}


def _from_moment(source: Layout, target: Layout) -> Conversion:
    known = _MOMENTS.get((source.family, target.family))
    if known is None:
        return _refused(f"{source.arrow} has no conversion to {target.arrow}")
    fidelity, reason = known
    return Conversion(fidelity, reason, lambda array: array.cast(target.arrow))


def _refused(reason: str) -> Conversion:
    return Conversion(Fidelity.REFUSED, reason, _as_it_is)


def _as_it_is(array: pa.Array) -> pa.Array:
    return array


def _without_rounding(scale: int, after: pa.DataType) -> Cast:
    wide = pa.decimal256(_DIGITS_MAX, scale)
    return lambda array: array.cast(wide).cast(after)


def _rounded(scale: int, after: pa.DataType) -> Cast:
    """Rounded with a digit to spare: 99.95 becomes 100.0, which its own type may not hold."""

    def cast(array: pa.Array) -> pa.Array:
        spare = array.cast(pa.decimal256(_DIGITS_MAX, array.type.scale))
        return pc.round(spare, scale, round_mode="half_towards_infinity").cast(after)

    return cast


def _double_of_text(texts: pa.Array) -> pa.Array:
    """Read figure by figure: correctly rounded, which a decimal's own cast is not. Infinite only where the text is."""
    made = texts.cast(pa.float64())
    is_word = pc.match_substring(texts, "Infinity")
    _require(pc.or_(pc.is_finite(made), pc.or_(pc.is_nan(made), is_word)))
    return made


def _narrow_float(array: pa.Array) -> pa.Array:
    made = array.cast(pa.float32(), safe=False)
    kept = pc.or_(pc.is_finite(made), pc.invert(pc.is_finite(array)))
    _require(pc.and_(kept, pc.or_(pc.not_equal(made, 0), pc.equal(array, 0))))
    return made


def _require(holds: pa.Array) -> None:
    if not pc.all(holds, min_count=0).as_py():
        raise pa.ArrowInvalid("a value is out of range")


__all__ = ["Conversion", "Fidelity", "conversion"]
