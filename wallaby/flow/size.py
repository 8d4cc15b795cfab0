"""Sizes in bytes as flow files write them: ``64MiB``, ``1GB``, ``512 kB``; always with a unit."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer

_UNITS: Final = {
    "b": 1,
    "kb": 1_000,
    "mb": 1_000_000,
    "gb": 1_000_000_000,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_SIZE: Final = re.compile(r"(\d{1,12}) ?([a-z]{1,3})", re.ASCII)
_RULE: Final = "must be a size with its unit, such as 64MiB or 1GB"


def parse_size(value: Any) -> int:
    """Bytes from a whole number and a unit (B, kB, MB, GB, KiB, MiB, GiB in any case).

    ValueError, without the value, for anything else. A bare number is refused: it does not say what it counts.
    """
    match = _SIZE.fullmatch(value.strip().lower()) if isinstance(value, str) else None
    unit = _UNITS.get(match[2]) if match else None
    if match is None or unit is None:
        raise ValueError(_RULE)
    return int(match[1]) * unit


def format_size(size: int) -> str:
    """The shortest text with a binary unit `parse_size` reads back: ``64MiB``, ``1000B``."""
    for unit, bytes_per_unit in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % bytes_per_unit == 0:
            return f"{size // bytes_per_unit}{unit}"
    return f"{size}B"


ByteSize = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size, return_type=str)]
"""A field type: bytes, read from and written as text such as ``64MiB``."""
