"""libpq's copy stream drained by compiled code: one call moves every message there is into the arena.

Import it only after `wallaby.postgres.drain` has bound the three ``wallaby_PQ…`` symbols to the libpq this process's
connections come from: compiled code refers to them by name, which is what lets numba cache it on disk.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import int32, int64, njit, types, uint8, uintp

from wallaby.pgtypes.compiled import CALLED, OPTIONS

DRY: Final = 0
"""Everything that had arrived is in the arena."""
FULL: Final = 1
"""The next message, already taken from libpq, does not fit; it is parked in the state."""
ENDED: Final = 2
"""The copy is over; the connection has a result or an error."""

# Slots of the state array.
OUTCOME: Final = 0
PARKED_AT: Final = 1
PARKED_LENGTH: Final = 2
STATE_SLOTS: Final = 3

_get_copy_data: Any = types.ExternalFunction("wallaby_PQgetCopyData", int32(uintp, uintp, int32))
_consume_input: Any = types.ExternalFunction("wallaby_PQconsumeInput", int32(uintp))
_free_memory: Any = types.ExternalFunction("wallaby_PQfreemem", types.void(uintp))
_copy_memory: Any = types.ExternalFunction("memcpy", uintp(uintp, uintp, uintp))


@njit(**CALLED)
def _store(data: Any, at: int, message: int, length: int) -> int:
    data[at] = length & 255
    data[at + 1] = (length >> 8) & 255
    data[at + 2] = (length >> 16) & 255
    data[at + 3] = (length >> 24) & 255
    _copy_memory(np.uint64(data.ctypes.data) + np.uint64(at + 4), np.uint64(message), np.uint64(length))
    _free_memory(np.uint64(message))
    return at + 4 + length


@njit(int64(uintp, uint8[::1], int64, uintp[::1], int64[::1], int64), **OPTIONS)
def drain(connection: int, data: Any, at: int, message: Any, state: Any, dry_rounds: int) -> int:
    """Fill ``data`` from ``at`` on; returns the new end. ``state[OUTCOME]`` says why it stopped.

    ``message`` is one word of scratch. It stops after ``dry_rounds`` looks at the socket brought no whole message.
    """
    capacity = data.shape[0]
    if state[PARKED_LENGTH] > 0:
        if at + 4 + state[PARKED_LENGTH] > capacity:
            state[OUTCOME] = FULL
            return at
        at = _store(data, at, np.uint64(state[PARKED_AT]), state[PARKED_LENGTH])
        state[PARKED_LENGTH] = 0
    dry = 0
    while True:
        before = at
        while True:
            length = np.int64(_get_copy_data(connection, np.uint64(message.ctypes.data), np.int32(1)))
            if length <= 0:
                break
            if at + 4 + length > capacity:
                state[OUTCOME] = FULL
                state[PARKED_AT] = np.int64(message[0])
                state[PARKED_LENGTH] = length
                return at
            at = _store(data, at, message[0], length)
        if length < 0:
            state[OUTCOME] = ENDED
            return at
        dry = dry + 1 if at == before else 0
        if dry > dry_rounds:
            state[OUTCOME] = DRY
            return at
        if _consume_input(connection) == 0:
            state[OUTCOME] = ENDED
            return at
