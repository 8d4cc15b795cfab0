"""One compiled pass over the replication stream: from frames to row arrays and a flat cell index.

A frame is a little-endian uint32 length and that many bytes of one CopyData payload: ``w`` (XLogData: 24 bytes of
header, then one pgoutput message) or ``k`` (keepalive). The pass reads Begin, Insert, Update, Delete and Commit itself
and stops before every other message (``RARE``), which Python reads; there is one of those per table or per DDL, not
per row.

Rows go to parallel arrays. ``row_new`` and ``row_old`` point at a row's first cell in the flat cell index; cells of one
tuple are contiguous, one per column. A cell is an offset into the data and a length. Length -1 is NULL, -2 a TOASTed
value PostgreSQL did not send again. A text cell stores ``~offset`` (negative), so a cell tells its own format. The
first ``NULL_CELLS`` cells are NULL for ever: a tuple that is absent points there, and no gather needs a branch.

Every length is compared with the end of its frame before it is used: malformed bytes stop the pass with ``ERROR``,
never with rows made of somebody else's bytes. The price is about 2 ns per cell.
"""

# Compiled in: endian a42f72e9, kernels 8b0061ab
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import BYTES, I32, I64, INT64, U8, VOID, called, expanded, kernel
from wallaby.pgtypes.endian import be16, be32, be64, le32
from wallaby.pgtypes.kernels import MICROSECONDS_1970_TO_2000

NULL_CELLS: Final = 1664
"""PostgreSQL allows 1600 columns in a table and 1664 in a target list."""

NULL_LENGTH: Final = -1
UNCHANGED_LENGTH: Final = -2

# What ``parse`` returns.
DRAINED: Final = 0
RARE: Final = 1
FULL: Final = 2
ERROR: Final = 3
STALE: Final = 4

# Slots of the state array; they live on between calls.
AT: Final = 0
ROWS: Final = 1
CELLS: Final = 2
TRANSACTIONS: Final = 3
OPEN: Final = 4
"""1 inside a transaction."""
ORDINAL: Final = 5
"""Changes of the open transaction so far."""
WAL_END: Final = 6
KEEPALIVE: Final = 7
REPLY_REQUESTED: Final = 8
COMMITS: Final = 9
"""Commit messages since the caller last reset it."""
COMMIT_ROWS: Final = 10
"""Rows before the last of them."""
COMMIT_END: Final = 11
"""Its end LSN."""
COMMIT_TIME: Final = 12
PROBLEM: Final = 13
MESSAGE_LSN: Final = 14
OWNER: Final = 15
"""See `wallaby.pgoutput.spool_kernel`."""
STALE_OID: Final = 16
"""After STALE: the relation of the change at AT."""
STATE_SLOTS: Final = 17

STALE_SLOT: Final = -1
"""In ``relation_slot``: another description of this relation waits to be taken before its next change is read."""

# Why ``parse`` returned ERROR.
SHORT_FRAME: Final = 1
BAD_FRAME_TAG: Final = 2
BAD_TUPLE: Final = 3
COLUMN_COUNT: Final = 4
UNKNOWN_RELATION: Final = 5
OUTSIDE_TRANSACTION: Final = 6
NESTED_TRANSACTION: Final = 7
COMMIT_MISMATCH: Final = 8

PROBLEMS: Final[dict[int, str]] = {
    SHORT_FRAME: "a message is shorter or longer than its kind allows",
    BAD_FRAME_TAG: "a frame is neither XLogData nor a keepalive",
    BAD_TUPLE: "a tuple does not fit its message",
    COLUMN_COUNT: "a tuple has another number of columns than its Relation message",
    UNKNOWN_RELATION: "a change names a relation that was not described",
    OUTSIDE_TRANSACTION: "a change or commit came outside a transaction",
    NESTED_TRANSACTION: "a transaction began inside another",
    COMMIT_MISMATCH: "a Commit message belongs to another transaction than the open one",
}

# Bits of ``row_flags``.
HAS_UNCHANGED: Final = 1


@expanded
def index_tuple(data, at, stop, columns, cell, cell_offset, cell_length):
    """Index one TupleData at ``at``; returns (where it ends or a negated problem, 1 if a cell is unchanged)."""
    if at + 2 > stop:
        return -np.int64(BAD_TUPLE), 0
    if be16(data, at) != columns:
        return -np.int64(COLUMN_COUNT), 0
    at += 2
    unchanged = 0
    for i in range(columns):
        if at >= stop:
            return -np.int64(BAD_TUPLE), 0
        kind = data[at]
        at += 1
        if kind == 98 or kind == 116:  # b, t
            if at + 4 > stop:
                return -np.int64(BAD_TUPLE), 0
            length = be32(data, at)
            at += 4
            if length > stop - at:
                return -np.int64(BAD_TUPLE), 0
            cell_offset[cell + i] = at if kind == 98 else ~at
            cell_length[cell + i] = length
            at += length
        elif kind == 110:  # n
            cell_offset[cell + i] = 0
            cell_length[cell + i] = NULL_LENGTH
        elif kind == 117:  # u
            cell_offset[cell + i] = 0
            cell_length[cell + i] = UNCHANGED_LENGTH
            unchanged = 1
        else:
            return -np.int64(BAD_TUPLE), 0
    return np.int64(at), unchanged


@called
def later(one, other):
    """The greater of two LSNs held as signed integers."""
    return one if np.uint64(one) > np.uint64(other) else other


@called
def read_keepalive(data, body, wal_end, state):
    """Note what the keepalive at ``body`` says; returns the newest end of WAL."""
    state[KEEPALIVE] = be64(data, body + 1)
    if data[body + 17] != 0:
        state[REPLY_REQUESTED] = 1
    return later(be64(data, body + 1), wal_end)


@kernel(INT64, BYTES, INT64, I64, I64, I32, I32, U8, U8, I32, I32, I64, I32, I32, I32, I32, I64, I64, I64)
def parse(
    data,
    end,
    state,
    relation_oid,
    relation_slot,
    relation_columns,
    row_op,
    row_flags,
    row_relation,
    row_transaction,
    row_ordinal,
    row_new,
    row_old,
    cell_offset,
    cell_length,
    transaction_xid,
    transaction_lsn,
    transaction_time,
):
    """Read frames from ``state[AT]`` to ``end`` and append to the arrays; see the module for what they hold.

    Returns DRAINED (no whole frame is left), RARE (the frame at ``state[AT]`` is for Python), FULL (an array must grow;
    call again), STALE (``state[STALE_OID]`` must be described anew; call again) or ERROR (``state[PROBLEM]`` says
    which).
    """
    at = state[AT]
    rows = state[ROWS]
    cells = state[CELLS]
    transactions = state[TRANSACTIONS]
    is_open = state[OPEN]
    ordinal = state[ORDINAL]
    wal_end = state[WAL_END]
    rows_max = row_op.shape[0]
    cells_max = cell_offset.shape[0]
    mask = relation_oid.shape[0] - 1
    known_oid = np.int64(-1)
    slot = np.int64(-1)
    columns = np.int64(0)
    status = np.int64(DRAINED)
    problem = np.int64(0)
    lsn = np.int64(0)
    while at + 4 <= end:
        body = at + 4
        stop = body + le32(data, at)
        if stop > end:
            break
        if stop - body < 1:
            problem = np.int64(SHORT_FRAME)
            break
        if data[body] == 107:  # k
            if stop - body != 18:
                problem = np.int64(SHORT_FRAME)
                break
            wal_end = read_keepalive(data, body, wal_end, state)
            at = stop
            continue
        if data[body] != 119:  # w
            problem = np.int64(BAD_FRAME_TAG)
            break
        if stop - body < 26:
            problem = np.int64(SHORT_FRAME)
            break
        lsn = be64(data, body + 1)
        wal_end = later(be64(data, body + 9), later(lsn, wal_end))
        message = data[body + 25]
        p = body + 26
        if message == 73 or message == 85 or message == 68:  # I, U, D
            if is_open == 0:
                problem = np.int64(OUTSIDE_TRANSACTION)
                break
            if p + 5 > stop:
                problem = np.int64(SHORT_FRAME)
                break
            oid = be32(data, p)
            p += 4
            if oid != known_oid:
                h = oid & mask
                while relation_oid[h] != oid and relation_oid[h] != -1:
                    h = (h + 1) & mask
                if relation_oid[h] == -1:
                    problem = np.int64(UNKNOWN_RELATION)
                    break
                if relation_slot[h] == STALE_SLOT:
                    state[STALE_OID] = oid
                    status = np.int64(STALE)
                    break
                known_oid = oid
                slot = np.int64(relation_slot[h])
                columns = np.int64(relation_columns[h])
            if rows >= rows_max or cells + 2 * columns > cells_max:
                status = np.int64(FULL)
                break
            new = np.int64(0)
            old = np.int64(0)
            flags = 0
            next_cell = cells
            kind = data[p]
            has_all_old = kind == 79
            if message != 73 and (kind == 75 or kind == 79):  # K, O
                old = next_cell
                p, _ = index_tuple(data, p + 1, stop, columns, old, cell_offset, cell_length)
                if p < 0:
                    problem = -p
                    break
                next_cell += columns
                if message == 85:
                    if p >= stop:
                        problem = np.int64(BAD_TUPLE)
                        break
                    kind = data[p]
            elif message == 68:
                problem = np.int64(BAD_TUPLE)
                break
            if message != 68:
                if kind != 78:  # N
                    problem = np.int64(BAD_TUPLE)
                    break
                new = next_cell
                p, flags = index_tuple(data, p + 1, stop, columns, new, cell_offset, cell_length)
                if p < 0:
                    problem = -p
                    break
                next_cell += columns
                if flags != 0 and old != 0 and has_all_old:
                    # The full old row holds what was not sent again.
                    flags = 0
                    for i in range(columns):
                        if cell_length[new + i] == UNCHANGED_LENGTH:
                            if cell_length[old + i] >= 0:
                                cell_offset[new + i] = cell_offset[old + i]
                                cell_length[new + i] = cell_length[old + i]
                            else:
                                flags = 1
            if p != stop:
                problem = np.int64(BAD_TUPLE)
                break
            row_op[rows] = message + 32
            row_flags[rows] = flags
            row_relation[rows] = slot
            row_transaction[rows] = transactions - 1
            row_ordinal[rows] = ordinal
            row_new[rows] = new
            row_old[rows] = old
            rows += 1
            ordinal += 1
            cells = next_cell
        elif message == 66:  # B
            if is_open != 0:
                problem = np.int64(NESTED_TRANSACTION)
                break
            if stop - p != 20:
                problem = np.int64(SHORT_FRAME)
                break
            if transactions >= transaction_xid.shape[0]:
                status = np.int64(FULL)
                break
            transaction_lsn[transactions] = be64(data, p)
            transaction_time[transactions] = be64(data, p + 8)
            transaction_xid[transactions] = be32(data, p + 16)
            transactions += 1
            is_open = np.int64(1)
            ordinal = np.int64(0)
        elif message == 67:  # C
            if is_open == 0:
                problem = np.int64(OUTSIDE_TRANSACTION)
                break
            if stop - p != 25:
                problem = np.int64(SHORT_FRAME)
                break
            if be64(data, p + 1) != transaction_lsn[transactions - 1] or np.uint64(be64(data, p + 9)) <= np.uint64(
                be64(data, p + 1)
            ):
                problem = np.int64(COMMIT_MISMATCH)
                break
            is_open = np.int64(0)
            ordinal = np.int64(0)
            state[COMMITS] += 1
            state[COMMIT_ROWS] = rows
            state[COMMIT_END] = be64(data, p + 9)
            state[COMMIT_TIME] = be64(data, p + 17)
        else:
            status = np.int64(RARE)
            break
        at = stop
    state[AT] = at
    state[ROWS] = rows
    state[CELLS] = cells
    state[TRANSACTIONS] = transactions
    state[OPEN] = is_open
    state[ORDINAL] = ordinal
    state[WAL_END] = wal_end
    state[PROBLEM] = problem
    state[MESSAGE_LSN] = lsn
    return np.int64(ERROR) if problem != 0 else status


@kernel(VOID, I32, I32, I32)
def order_by_table(row_relation, starts, order):
    """Stable counting sort: ``order`` lists rows table by table, slot s at ``starts[s]:starts[s + 1]``.

    ``starts`` has one slot more than there are tables and comes zeroed.
    """
    for i in range(row_relation.shape[0]):
        starts[row_relation[i] + 1] += 1
    for s in range(1, starts.shape[0]):
        starts[s] += starts[s - 1]
    # Every slot counts up to the next one's start, and is moved to there.
    for i in range(row_relation.shape[0]):
        s = row_relation[i]
        order[starts[s]] = i
        starts[s] += 1
    for s in range(starts.shape[0] - 1, 0, -1):
        starts[s] = starts[s - 1]
    starts[0] = 0


@kernel(VOID, I32, INT64, U8, U8, I32, I64, I32, I32, I64, I64, I64, U8, I64, I64, I32, I64, I32, I32, I64)
def take_rows(
    order,
    begin,
    row_op,
    row_flags,
    row_transaction,
    row_ordinal,
    row_new,
    row_old,
    transaction_xid,
    transaction_lsn,
    transaction_time,
    op,
    commit_lsn,
    ordinal,
    xid,
    committed_at,
    new,
    old,
    found,
):
    """Copy rows out of the row arrays: those ``order`` lists, all counted from ``begin``; without order, as they lie.

    ``committed_at`` counts from 1970. ``found`` becomes how many rows have a new tuple, how many an old one, and 1 when
    one has an unchanged cell.
    """
    news = np.int64(0)
    olds = np.int64(0)
    flags = np.uint8(0)
    for i in range(op.shape[0]):
        row = np.uint64(begin + (order[i] if order.shape[0] else i))
        transaction = np.uint64(row_transaction[row])
        op[i] = row_op[row]
        commit_lsn[i] = transaction_lsn[transaction]
        ordinal[i] = row_ordinal[row]
        xid[i] = transaction_xid[transaction]
        committed_at[i] = transaction_time[transaction] + MICROSECONDS_1970_TO_2000
        new[i] = row_new[row]
        old[i] = row_old[row]
        news += np.int64(row_new[row] != 0)
        olds += np.int64(row_old[row] != 0)
        flags |= row_flags[row]
    found[0] = news
    found[1] = olds
    found[2] = flags


@kernel(INT64, BYTES, INT64, INT64, INT64, I32, I32, I64)
def parse_copy(data, at, end, columns, cell_offset, cell_length, state):
    """Index the rows of COPY BINARY frames, one row per frame; returns where it stopped.

    ``state``: ROWS counts rows, OPEN becomes 1 at the trailer, PROBLEM is set for malformed bytes, and AT is 1 when the
    cell arrays are full. All are zeroed by the caller.
    """
    rows = np.int64(0)
    cell = np.int64(NULL_CELLS)
    while at + 4 <= end:
        p = at + 4
        stop = p + le32(data, at)
        if stop > end:
            break
        if state[OPEN] != 0 or stop - p < 2:
            state[PROBLEM] = SHORT_FRAME
            break
        count = be16(data, p)
        p += 2
        if count == 65535:
            if p != stop:
                state[PROBLEM] = SHORT_FRAME
                break
            state[OPEN] = 1
            at = stop
            continue
        if count != columns:
            state[PROBLEM] = COLUMN_COUNT
            break
        if cell + columns > cell_offset.shape[0]:
            state[AT] = 1
            break
        for i in range(columns):
            if p + 4 > stop:
                state[PROBLEM] = BAD_TUPLE
                break
            length = be32(data, p)
            p += 4
            if length == 4294967295:
                cell_offset[cell + i] = 0
                cell_length[cell + i] = NULL_LENGTH
            else:
                if length > stop - p:
                    state[PROBLEM] = BAD_TUPLE
                    break
                cell_offset[cell + i] = p
                cell_length[cell + i] = length
                p += length
        if state[PROBLEM] == 0 and p != stop:
            state[PROBLEM] = BAD_TUPLE
        if state[PROBLEM] != 0:
            break
        cell += columns
        rows += 1
        at = stop
    state[ROWS] = rows
    return at
