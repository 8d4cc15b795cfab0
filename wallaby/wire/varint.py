"""Numbers of seven bits per byte, one at a time: for heads and lengths. Columns of them: `wallaby.wire.rows`."""

from __future__ import annotations

from collections.abc import Callable

_BYTES_MAX = 10
"""Of 64 bits."""


def varint(value: int) -> bytes:
    """An unsigned number, low bits first."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + bytes([value])


def read_varint(read: Callable[[int], bytes]) -> int:
    """The next number of what ``read`` gives. EOFError where it ends too early, ValueError for more than 64 bits."""
    value = 0
    for i in range(_BYTES_MAX):
        octet = read(1)
        if not octet:
            raise EOFError
        value |= (octet[0] & 127) << 7 * i
        if octet[0] < 128:
            return value
    raise ValueError("a number without end")


__all__ = ["read_varint", "varint"]
