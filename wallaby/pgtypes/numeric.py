"""The modifier of ``numeric(precision, scale)``, as ``pg_attribute.atttypmod`` has it.

Precision in the upper half, scale in eleven bits of two's complement: since PostgreSQL 15 a scale may be negative, or
larger than the precision.
"""

from __future__ import annotations

from typing import Final

_HEADER: Final = 4
"""``VARHDRSZ``, which is added so that no modifier is negative."""
_SCALE_BITS: Final = 0x7FF
_SCALE_SIGN: Final = 0x400


def numeric_typmod(precision: int, scale: int) -> int:
    """The modifier of ``numeric(precision, scale)``; precision 1 to 1000, scale -1000 to 1000."""
    return (precision << 16 | scale & _SCALE_BITS) + _HEADER


def precision_and_scale(typmod: int) -> tuple[int, int] | None:
    """What the modifier says; None for ``numeric`` without one."""
    if typmod < _HEADER:
        return None
    modifier = typmod - _HEADER
    return modifier >> 16 & 0xFFFF, ((modifier & _SCALE_BITS) ^ _SCALE_SIGN) - _SCALE_SIGN


__all__ = ["numeric_typmod", "precision_and_scale"]
