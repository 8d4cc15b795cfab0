"""Integers from and to bytes, compiled into whichever kernel uses them: one unaligned machine load, byte-swapped.

Nothing is checked: the caller knows the bounds, and tests compile everything with NUMBA_BOUNDSCHECK=1, where these too
raise IndexError beyond their array. Written as shifts of single bytes, the same loads cost several times as
much, because numba guards every index against being negative and LLVM then no longer sees one load.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
# numba infers the types of compiled functions; their eager signatures are the contract.

from __future__ import annotations

from wallaby.pgtypes.compiled import intrinsic, is_loaded

if not is_loaded():
    import numba as nb
    from llvmlite import ir
    from numba.core import cgutils


def _pointer(context, builder, array_type, array, index, bits, size=None):
    """The address of ``size`` bytes (by default ``bits``) from ``index`` on."""
    made = context.make_array(array_type)(context, builder, array)
    data = made.data
    if context.enable_boundscheck:
        size = ir.Constant(ir.IntType(64), bits // 8) if size is None else size
        room = builder.sub(builder.extract_value(made.shape, 0), size)
        # Any place from 0 to ``room`` will do; cgutils checks 0 <= index < dimension.
        cgutils.do_boundscheck(context, builder, index, builder.add(room, ir.Constant(ir.IntType(64), 1)))
    return builder.bitcast(builder.gep(data, [index]), ir.IntType(bits).as_pointer())


def _load(context, builder, signature, args, bits):
    value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1], bits))
    value.align = 1
    return value


@intrinsic
def be16(typing_context, data, at):
    """Big-endian unsigned 16 bits at a byte index."""

    def build(context, builder, signature, args):
        value = builder.bswap(_load(context, builder, signature, args, 16))
        return builder.zext(value, ir.IntType(64))

    return nb.int64(data, nb.int64), build


@intrinsic
def be32(typing_context, data, at):
    """Big-endian unsigned 32 bits at a byte index."""

    def build(context, builder, signature, args):
        value = builder.bswap(_load(context, builder, signature, args, 32))
        return builder.zext(value, ir.IntType(64))

    return nb.int64(data, nb.int64), build


@intrinsic
def be64(typing_context, data, at):
    """Big-endian 64 bits at a byte index, as the signed integer of the same bits."""

    def build(context, builder, signature, args):
        return builder.bswap(_load(context, builder, signature, args, 64))

    return nb.int64(data, nb.int64), build


@intrinsic
def byte(typing_context, data, at):
    """The byte at an index that is not negative, as 64 bits."""

    def build(context, builder, signature, args):
        return builder.zext(_load(context, builder, signature, args, 8), ir.IntType(64))

    return nb.int64(data, nb.int64), build


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of ``array[index]``. Any index will do: nothing is read."""

    def build(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
        builder.call(function, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return nb.void(array, nb.int64), build


@intrinsic
def load_32(typing_context, data, at):
    """A signed 32-bit integer in the machine's own order at a byte index."""

    def build(context, builder, signature, args):
        return builder.sext(_load(context, builder, signature, args, 32), ir.IntType(64))

    return nb.int64(data, nb.int64), build


@intrinsic
def le32(typing_context, data, at):
    """Little-endian unsigned 32 bits at a byte index."""

    def build(context, builder, signature, args):
        return builder.zext(_load(context, builder, signature, args, 32), ir.IntType(64))

    return nb.int64(data, nb.int64), build


@intrinsic
def item(typing_context, array, index):
    """``array[index]`` of signed integers as 64 bits, for an index that is not negative."""

    def build(context, builder, signature, args):
        made = context.make_array(signature.args[0])(context, builder, args[0])
        if context.enable_boundscheck:
            cgutils.do_boundscheck(context, builder, args[1], builder.extract_value(made.shape, 0))
        return builder.sext(builder.load(builder.gep(made.data, [args[1]])), ir.IntType(64))

    return nb.int64(array, nb.int64), build


def _store(context, builder, signature, args, bits):
    value = args[2] if bits == 64 else builder.trunc(args[2], ir.IntType(bits))
    store = builder.store(value, _pointer(context, builder, signature.args[0], args[0], args[1], bits))
    store.align = 1
    return context.get_dummy_value()


@intrinsic
def put_16(typing_context, out, to, value):
    """Write the low 16 bits in the machine's own order to ``out[to:]``."""

    def build(context, builder, signature, args):
        return _store(context, builder, signature, args, 16)

    return nb.void(out, nb.int64, nb.int64), build


@intrinsic
def put_32(typing_context, out, to, value):
    """Write the low 32 bits in the machine's own order to ``out[to:]``."""

    def build(context, builder, signature, args):
        return _store(context, builder, signature, args, 32)

    return nb.void(out, nb.int64, nb.int64), build


@intrinsic
def put_64(typing_context, out, to, value):
    """Write 64 bits in the machine's own order to ``out[to:]``."""

    def build(context, builder, signature, args):
        return _store(context, builder, signature, args, 64)

    return nb.void(out, nb.int64, nb.int64), build


@intrinsic
def ones(typing_context, word):
    """How many bits of a 64-bit word are set."""

    def build(context, builder, signature, args):
        return builder.ctpop(args[0])

    return nb.int64(nb.uint64), build


@intrinsic
def leading_zeros(typing_context, word):
    """How many bits of a 64-bit word above its highest set bit; 64 for zero."""

    def build(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return nb.int64(nb.uint64), build


@intrinsic
def high_product(typing_context, one, other):
    """The upper 64 bits of the product of two unsigned words."""

    def build(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return nb.uint64(nb.uint64, nb.uint64), build


@intrinsic
def double_of(typing_context, bits):
    """The float of these 64 bits."""

    def build(context, builder, signature, args):
        return builder.bitcast(args[0], ir.DoubleType())

    return nb.float64(nb.int64), build


@intrinsic
def copy_word(typing_context, out, to, data, at):
    """Copy eight bytes from ``data[at:]`` to ``out[to:]``; returns them as one unsigned number."""

    def build(context, builder, signature, args):
        source = _pointer(context, builder, signature.args[2], args[2], args[3], 64)
        target = _pointer(context, builder, signature.args[0], args[0], args[1], 64)
        value = builder.load(source)
        value.align = 1
        store = builder.store(value, target)
        store.align = 1
        return value

    return nb.uint64(out, nb.int64, data, nb.int64), build


@intrinsic
def copy_bytes(typing_context, out, to, data, at, size):
    """``memcpy`` of ``size`` bytes from ``data[at:]`` to ``out[to:]``."""

    def build(context, builder, signature, args):
        source = _pointer(context, builder, signature.args[2], args[2], args[3], 8, args[4])
        target = _pointer(context, builder, signature.args[0], args[0], args[1], 8, args[4])
        cgutils.raw_memcpy(builder, target, source, args[4], ir.Constant(ir.IntType(64), 1))
        return context.get_dummy_value()

    return nb.void(out, nb.int64, data, nb.int64, nb.int64), build
