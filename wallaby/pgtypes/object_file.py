"""All kernels linked into one object file, each callable by Python without numba.

numba's machine code for a kernel takes every array as seven values and tells of errors in a structure of its own. A
function in front of it does what CPython expects of ``METH_FASTCALL``: it takes pointers to Python's objects, looks at
the arrays' fields, releases the interpreter lock and calls. An argument of another type than the kernel was compiled
for is a TypeError, as with numba; where numba would raise ZeroDivisionError or the like, it is a RuntimeError here.

``wallaby.pgtypes.warm`` runs ``python -m wallaby.pgtypes.object_file`` and keeps what that writes to its standard
output; ``wallaby.pgtypes.compiled`` loads it.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, no-check-untyped-defs
# llvmlite and numba have no types.

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.arrayobj import populate_array

from wallaby.pgtypes.compiled import (
    CONTIGUOUS_AND_ALIGNED,
    IS_KERNEL,
    MODULES,
    WRITEABLE,
    ArrayFields,
    ItemFields,
    symbol,
)

_BYTE: Final = ir.IntType(8)
_POINTER: Final = _BYTE.as_pointer()
_INT: Final = ir.IntType(32)
_LONG: Final = ir.IntType(64)
_NULL: Final = ir.Constant(_POINTER, None)
_EXTERNAL: Final = ("Py", "_Py", "llvm.", "mem")
"""What an object file may call outside of itself: CPython, and what compilers of C take for granted. No numba."""
_FOREIGN: Final = re.compile(r'^(?:declare .*?|(?=.*= external ))@"?([\w.$]+)', re.MULTILINE)


@global_compiler_lock
def object_file() -> bytes:
    """The object file of all kernels; imports, and so compiles, every module that has some."""
    kernels = [kernel for module in MODULES for kernel in _kernels(module)]
    context = kernels[0].targetctx
    library = context.codegen().create_library("wallaby")
    module = library.create_ir_module("wallaby")
    for kernel in kernels:
        _Front(context, module, kernel).build()
    library.add_ir_module(module)
    for kernel in kernels:
        library.add_linking_library(_compiled(kernel).library)
    library.enable_object_caching()
    library.finalize()
    _, kind, (content, _) = library.serialize_using_object_code()
    assert kind == "object", kind
    foreign = {name for name in _FOREIGN.findall(library.get_llvm_str()) if not name.startswith(_EXTERNAL)}
    assert not foreign, foreign
    return content


def _kernels(module: str) -> Sequence[Any]:
    found = vars(importlib.import_module(module)).values()
    return [one for one in found if hasattr(one, IS_KERNEL) and one.__module__ == module]


def _compiled(kernel):
    [compiled] = kernel.overloads.values()
    return compiled


class _Front:
    """The function in front of one kernel: ``PyObject *f(PyObject *self, PyObject *const *args, Py_ssize_t nargs)``.

    ``self`` is the type of NumPy's arrays: an argument of another type, a subclass too, is refused.
    """

    def __init__(self, context, module, kernel) -> None:
        self._context = context
        self._module = module
        self._name = kernel.__name__
        self._described = _compiled(kernel).fndesc
        kind = ir.FunctionType(_POINTER, [_POINTER, _POINTER.as_pointer(), _LONG])
        self._function = ir.Function(module, kind, symbol(kernel.py_func))
        self._builder = ir.IRBuilder(self._function.append_basic_block())

    def build(self) -> None:
        """Write its instructions."""
        builder, described = self._builder, self._described
        array_type, given, count = self._function.args
        takes = described.argtypes
        self._require(builder.icmp_signed("==", count, _LONG(len(takes))), f"takes {len(takes)} arguments")
        arguments = []
        for i, kind in enumerate(takes):
            value = builder.load(builder.gep(given, [_LONG(i)]))
            if isinstance(kind, types.Array):
                arguments.append(self._array(value, kind, array_type, i))
            else:
                arguments.append(self._number(value, kind))
        kernel = ir.Function(
            self._module,
            self._context.call_conv.get_function_type(described.restype, takes),
            described.llvm_func_name,
        )
        state = self._python("PyEval_SaveThread", _POINTER, [])
        status, result = self._context.call_conv.call_function(builder, kernel, described.restype, takes, arguments)
        self._python("PyEval_RestoreThread", ir.VoidType(), [state])
        self._require(status.is_ok, "failed", "RuntimeError")
        builder.ret(self._result(result, described.restype))

    def _array(self, value, kind, array_type, i):
        builder = self._builder
        wanted = f"takes an array of {kind.dtype} of {kind.ndim} dimensions as argument {i + 1}"
        is_array = builder.icmp_unsigned("==", self._field(value, ArrayFields.type, _POINTER), array_type)
        self._require(is_array, wanted)
        item = self._field(value, ArrayFields.item, _POINTER)
        number = self._field(item, ItemFields.number, _INT)
        is_right = builder.icmp_signed("==", self._field(value, ArrayFields.dimensions, _INT), _INT(kind.ndim))
        flags = CONTIGUOUS_AND_ALIGNED | (WRITEABLE if kind.mutable else 0)
        found = builder.and_(self._field(value, ArrayFields.flags, _INT), _INT(flags))
        is_right = builder.and_(is_right, builder.icmp_signed("==", found, _INT(flags)))
        is_item = ir.Constant(ir.IntType(1), 0)
        for known in _numbers(kind):
            is_item = builder.or_(is_item, builder.icmp_signed("==", number, _INT(known)))
        order = self._field(item, ItemFields.order, _BYTE)
        is_item = builder.and_(is_item, builder.icmp_signed("!=", order, _BYTE(ord(">"))))
        self._require(builder.and_(is_right, is_item), wanted)
        made = self._context.make_array(kind)(self._context, builder)
        data = self._field(value, ArrayFields.data, _POINTER)
        populate_array(
            made,
            data=builder.bitcast(data, made.data.type),
            shape=self._lengths(value, ArrayFields.shape, kind.ndim),
            strides=self._lengths(value, ArrayFields.strides, kind.ndim),
            itemsize=_LONG(kind.dtype.bitwidth // 8),
            meminfo=None,
        )
        return made._getvalue()

    def _lengths(self, value, field, dimensions):
        builder = self._builder
        first = self._field(value, field, _LONG.as_pointer())
        return [builder.load(builder.gep(first, [_LONG(k)])) for k in range(dimensions)]

    def _number(self, value, kind):
        builder = self._builder
        number = self._python("PyLong_AsLongLong", _LONG, [value])
        is_odd = builder.icmp_signed("==", number, _LONG(-1))
        with builder.if_then(is_odd, likely=False):
            error = self._python("PyErr_Occurred", _POINTER, [])
            with builder.if_then(builder.icmp_unsigned("!=", error, _NULL)):
                builder.ret(_NULL)
        if kind == types.boolean:
            return builder.icmp_signed("!=", number, _LONG(0))
        assert kind == types.int64, kind
        return number

    def _result(self, result, kind):
        builder = self._builder
        if kind == types.none:
            numbers = []
        elif isinstance(kind, types.UniTuple):
            assert kind.dtype == types.int64, kind
            numbers = cgutils.unpack_tuple(builder, result)
        else:
            assert kind == types.int64, kind
            numbers = [result]
        function = ir.FunctionType(_POINTER, [_POINTER], var_arg=True)
        build_value = cgutils.get_or_insert_function(self._module, function, "Py_BuildValue")
        return builder.call(build_value, [self._text("L" * len(numbers)), *numbers])

    def _require(self, condition, wanted: str, error: str = "TypeError") -> None:
        builder = self._builder
        with builder.if_then(builder.not_(condition), likely=False):
            # Not by its symbol: where numba is imported, that is the exception, and elsewhere a pointer to it.
            builtins = self._python("PyEval_GetBuiltins", _POINTER, [])
            exception = self._python("PyDict_GetItemString", _POINTER, [builtins, self._text(error)])
            self._python("PyErr_SetString", ir.VoidType(), [exception, self._text(f"{self._name} {wanted}")])
            builder.ret(_NULL)

    def _field(self, value, field, kind):
        address = self._builder.gep(value, [_LONG(field.offset)])
        return self._builder.load(self._builder.bitcast(address, kind.as_pointer()))

    def _python(self, name: str, returns, arguments):
        kind = ir.FunctionType(returns, [argument.type for argument in arguments])
        return self._builder.call(cgutils.get_or_insert_function(self._module, kind, name), arguments)

    def _text(self, text: str):
        return self._context.insert_const_string(self._module, text)


def _numbers(kind) -> set[int]:
    """The numbers that NumPy gives to this type of items: 64 bits have two."""
    wanted = np.dtype(str(kind.dtype))
    return {np.dtype(code).num for code in "bBhHiIlLqQ" if np.dtype(code) == wanted}


if __name__ == "__main__":
    sys.stdout.buffer.write(object_file())
