"""Two compiled passes over transactions that wait: how far their bytes reach, and later those bytes as a plain stream.

Frames are those of `wallaby.pgoutput.kernel`. Inside a streamed transaction every message but Origin carries, right
after its tag, the id of the (sub-)transaction it belongs to. ``scan`` finds where a run of such messages ends, without
looking at what they say. ``release`` copies a run without the ids and without what was rolled back, so that the kernel
that reads ordinary transactions reads these, too.
"""

# Compiled in: kernel 8ec9e7be, endian a42f72e9
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgoutput.kernel import (
    AT,
    BAD_FRAME_TAG,
    DRAINED,
    ERROR,
    FULL,
    MESSAGE_LSN,
    OWNER,
    PROBLEM,
    RARE,
    SHORT_FRAME,
    WAL_END,
    later,
    read_keepalive,
)
from wallaby.pgtypes.compiled import BOOLEAN, BYTES, I64, INT64, THREE_INT64, U8, kernel
from wallaby.pgtypes.endian import be32, be64, copy_bytes, le32

OWNER_UNKNOWN: Final = -1
"""In ``state[OWNER]``: nothing was scanned since the caller set it."""
OWNERS_MANY: Final = -2
"""... and: messages of several transactions; else it is the one they all belong to."""

HELD_RELATION: Final = ord("h")
"""A Relation message of a transaction that was rolled back: only ``release`` writes this tag, no server does."""


_HEADER: Final = 25
"""XLogData before its message."""


@kernel(INT64, BYTES, INT64, BOOLEAN, I64)
def scan(data, end, has_owner, state):
    """Step from ``state[AT]`` over the frames of one waiting transaction, and keepalives between them.

    ``has_owner``: messages carry transaction ids (streamed). Without, Relation messages are RARE. Returns DRAINED (no
    whole frame is left), RARE (the frame at ``state[AT]`` is not one that waits) or ERROR (see ``state[PROBLEM]``).
    """
    at = state[AT]
    wal_end = state[WAL_END]
    owner = state[OWNER]
    status = np.int64(DRAINED)
    lsn = np.int64(0)
    while at + 4 <= end:
        body = at + 4
        stop = body + le32(data, at)
        if stop > end:
            break
        if stop - body < 1:
            state[PROBLEM] = SHORT_FRAME
            break
        if data[body] == 107:  # k
            if stop - body != 18:
                state[PROBLEM] = SHORT_FRAME
                break
            wal_end = read_keepalive(data, body, wal_end, state)
            at = stop
            continue
        if data[body] != 119:  # w
            state[PROBLEM] = BAD_FRAME_TAG
            break
        if stop - body < _HEADER + 1:
            state[PROBLEM] = SHORT_FRAME
            break
        lsn = be64(data, body + 1)
        wal_end = later(be64(data, body + 9), later(lsn, wal_end))
        tag = data[body + _HEADER]
        if tag == 73 or tag == 85 or tag == 68 or tag == 84 or tag == 77 or tag == 89 or tag == 82:  # I U D T M Y R
            if has_owner:
                if stop - body < _HEADER + 5:
                    state[PROBLEM] = SHORT_FRAME
                    break
                found = be32(data, body + _HEADER + 1)
                if owner == OWNER_UNKNOWN:
                    owner = found
                elif owner != found:
                    owner = np.int64(OWNERS_MANY)
                if tag == 82:
                    # It outlives the transaction that brought it.
                    owner = np.int64(OWNERS_MANY)
            elif tag == 82:
                status = np.int64(RARE)
                break
        elif tag != 79:  # O
            status = np.int64(RARE)
            break
        at = stop
    state[AT] = at
    state[WAL_END] = wal_end
    state[OWNER] = owner
    state[MESSAGE_LSN] = lsn
    return np.int64(ERROR) if state[PROBLEM] != 0 else status


@kernel(THREE_INT64, BYTES, INT64, INT64, BOOLEAN, I64, U8, INT64)
def release(data, at, end, has_owner, aborted, out, out_at):
    """Copy whole frames of ``data[at:end]`` to ``out`` as those of an ordinary transaction.

    ``aborted``: ids of rolled back (sub-)transactions, ascending; their changes are left out, their Relation messages
    get the tag HELD_RELATION. Keepalives and Origin messages are left out. Returns (where it stopped in ``data``, where
    in ``out``, DRAINED or FULL). ``data`` was scanned before: its frames are whole and long enough.
    """
    capacity = out.shape[0]
    known = np.int64(-1)
    is_known_aborted = False
    shift = 4 if has_owner else 0
    while at < end:
        body = at + 4
        stop = body + le32(data, at)
        tag = data[body + _HEADER] if data[body] == 119 else np.uint8(79)
        if tag == 79:  # k, O
            at = stop
            continue
        if has_owner:
            owner = be32(data, body + _HEADER + 1)
            if owner != known:
                known = owner
                place = np.searchsorted(aborted, owner)
                is_known_aborted = place < aborted.shape[0] and aborted[place] == owner
            if is_known_aborted:
                if tag != 82:
                    at = stop
                    continue
                tag = np.uint8(HELD_RELATION)
        size = stop - body - shift
        if out_at + 4 + size > capacity:
            return at, out_at, np.int64(FULL)
        out[out_at] = size & 255
        out[out_at + 1] = (size >> 8) & 255
        out[out_at + 2] = (size >> 16) & 255
        out[out_at + 3] = (size >> 24) & 255
        out_at += 4
        copy_bytes(out, out_at, data, body, np.int64(_HEADER))
        out[out_at + _HEADER] = tag
        message = body + _HEADER + 1 + shift
        copy_bytes(out, out_at + _HEADER + 1, data, message, stop - message)
        out_at += size
        at = stop
    return at, out_at, np.int64(DRAINED)
