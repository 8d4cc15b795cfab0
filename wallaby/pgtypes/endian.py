"""Integers from bytes, compiled into whichever kernel reads them. Nothing is checked: the caller knows the bounds."""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

import numpy as np
from numba import njit


@njit(inline="always")
def be16(data, at):
    """Big-endian unsigned 16 bits."""
    return (np.int64(data[at]) << 8) | np.int64(data[at + 1])


@njit(inline="always")
def be32(data, at):
    """Big-endian unsigned 32 bits."""
    return (
        (np.int64(data[at]) << 24)
        | (np.int64(data[at + 1]) << 16)
        | (np.int64(data[at + 2]) << 8)
        | np.int64(data[at + 3])
    )


@njit(inline="always")
def be64(data, at):
    """Big-endian 64 bits, as the signed integer of the same bits."""
    return (be32(data, at) << 32) | be32(data, at + 4)


@njit(inline="always")
def le32(data, at):
    """Little-endian unsigned 32 bits."""
    return (
        np.int64(data[at])
        | (np.int64(data[at + 1]) << 8)
        | (np.int64(data[at + 2]) << 16)
        | (np.int64(data[at + 3]) << 24)
    )
