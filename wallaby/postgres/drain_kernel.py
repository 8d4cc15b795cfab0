"""libpq's copy stream drained by compiled code: one call moves every message there is into the arena.

It calls the libpq that this process's connections come from at the addresses it is given (``wallaby.postgres.drain``
finds them): compiled code that named them could not be kept on disk, or would need that very library to be loaded.
"""

# Compiled in: endian a42f72e9
# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from typing import Final

import numpy as np

from wallaby.pgtypes.compiled import I64, INT64, U8, called, intrinsic, is_loaded, kernel
from wallaby.pgtypes.endian import put_32

if not is_loaded():
    import numba as nb
    from llvmlite import ir
    from numba.core import cgutils

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

# Slots of the array with libpq's functions.
GET_COPY_DATA: Final = 0
CONSUME_INPUT: Final = 1
FREE_MEMORY: Final = 2


def _call(builder, address, returns, arguments):
    kind = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


@intrinsic
def get_copy_data(typing_context, function, connection, message):
    """``PQgetCopyData`` without waiting, with the address of a message for the first slot of ``message``."""

    def build(context, builder, signature, args):
        out = context.make_array(signature.args[2])(context, builder, args[2]).data
        length = _call(builder, args[0], ir.IntType(32), [args[1], out, ir.Constant(ir.IntType(32), 1)])
        return builder.sext(length, ir.IntType(64))

    return nb.int64(nb.int64, nb.int64, message), build


@intrinsic
def consume_input(typing_context, function, connection):
    """``PQconsumeInput``."""

    def build(context, builder, signature, args):
        return builder.sext(_call(builder, args[0], ir.IntType(32), [args[1]]), ir.IntType(64))

    return nb.int64(nb.int64, nb.int64), build


@intrinsic
def free_memory(typing_context, function, message):
    """``PQfreemem``."""

    def build(context, builder, signature, args):
        _call(builder, args[0], ir.VoidType(), [args[1]])
        return context.get_dummy_value()

    return nb.void(nb.int64, nb.int64), build


@intrinsic
def copy_message(typing_context, out, to, message, length):
    """``memcpy`` from an address; the caller knows that ``out`` has the room."""

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        source = builder.inttoptr(args[2], ir.IntType(8).as_pointer())
        cgutils.raw_memcpy(builder, builder.gep(data, [args[1]]), source, args[3], ir.Constant(ir.IntType(64), 1))
        return context.get_dummy_value()

    return nb.void(out, nb.int64, nb.int64, nb.int64), build


@called
def store(data, at, message, length, functions):
    """Move one message into the arena; returns where it ends."""
    put_32(data, at, length)
    copy_message(data, at + 4, message, length)
    free_memory(functions[FREE_MEMORY], message)
    return at + 4 + length


@kernel(INT64, I64, INT64, U8, INT64, I64, I64, INT64)
def drain(functions, connection, data, at, message, state, dry_rounds):
    """Fill ``data`` from ``at`` on; returns the new end. ``state[OUTCOME]`` says why it stopped.

    ``functions``: libpq's, see above; ``connection``: the address of its ``PGconn``; ``message``: one word of scratch.
    It stops after ``dry_rounds`` looks at the socket brought no whole message.
    """
    capacity = data.shape[0]
    if state[PARKED_LENGTH] > 0:
        if at + 4 + state[PARKED_LENGTH] > capacity:
            state[OUTCOME] = FULL
            return at
        at = store(data, at, state[PARKED_AT], state[PARKED_LENGTH], functions)
        state[PARKED_LENGTH] = 0
    dry = np.int64(0)
    while True:
        before = at
        while True:
            length = get_copy_data(functions[GET_COPY_DATA], connection, message)
            if length <= 0:
                break
            if at + 4 + length > capacity:
                state[OUTCOME] = FULL
                state[PARKED_AT] = message[0]
                state[PARKED_LENGTH] = length
                return at
            at = store(data, at, message[0], length, functions)
        if length < 0:
            state[OUTCOME] = ENDED
            return at
        dry = dry + 1 if at == before else 0
        if dry > dry_rounds:
            state[OUTCOME] = DRY
            return at
        if consume_input(functions[CONSUME_INPUT], connection) == 0:
            state[OUTCOME] = ENDED
            return at
