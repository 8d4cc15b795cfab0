"""How kernels are compiled, and how a process gets them without a compiler.

numba compiles, and does no more than that: ``python -m wallaby.pgtypes.warm`` links all kernels into one object file
(``wallaby.pgtypes.object_file``), and a process that finds the file loads it and never imports numba. That saves it
about half a second of CPU: the import, numba's own runtime, and a hundred functions that it keeps one by one.

The file's name holds a digest of the kernels' sources, of the versions of numba and llvmlite, of the processor and of
numba's settings (``NUMBA_BOUNDSCHECK=1`` gets kernels of its own). A file of another state has another name. Where
there is none, numba loads what it keeps itself, or compiles. A process has all its kernels from one side: either the
decorators below compile, or they leave a function as it is and put the object file's in the place of a kernel.

In an object file a kernel is a builtin function of CPython's. It reads the fields of the arrays it gets where NumPy
keeps them: they are part of NumPy's binary interface, and ``_has_known_layout`` looks whether that still holds.

What we dislike: the environment is read here and not in ``settings``. These are numba's variables, and numba reads
them when it is imported, as this module has to.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

import numpy as np

MODULES: Final = (
    "wallaby.pgoutput.kernel",
    "wallaby.pgoutput.spool_kernel",
    "wallaby.pgtypes.binary_loops",
    "wallaby.pgtypes.endian",
    "wallaby.pgtypes.extension_kernels",
    "wallaby.pgtypes.figures",
    "wallaby.pgtypes.floats",
    "wallaby.pgtypes.kernels",
    "wallaby.pgtypes.lanes",
    "wallaby.pgtypes.numeric_kernels",
    "wallaby.pgtypes.part_kernels",
    "wallaby.pgtypes.printed_kernels",
    "wallaby.pgtypes.sweep_kernels",
    "wallaby.pgtypes.sweep_plan",
    "wallaby.pgtypes.text_kernels",
    "wallaby.pgtypes.text_loops",
    "wallaby.pgtypes.text_numbers",
    "wallaby.pgtypes.text_times",
    "wallaby.postgres.drain_kernel",
    "wallaby.wire.row_kernels",
)
"""Every module with compiled functions: what the object file holds, and is named by."""

VOID: Final = "void"
BOOLEAN: Final = "boolean"
INT64: Final = "int64"
THREE_INT64: Final = "UniTuple(int64, 3)"
BYTES: Final = "Array(uint8, 1, 'C', readonly=True)"
"""Takes arrays that may not be written."""
U8: Final = "uint8[::1]"
I32: Final = "int32[::1]"
I64: Final = "int64[::1]"
U64: Final = "uint64[::1]"
I64_ROWS: Final = "int64[:, ::1]"
U64_ROWS: Final = "uint64[:, ::1]"

IS_KERNEL: Final = "is_kernel"
"""The attribute by which ``object_file`` knows kernels among numba's functions."""

_Function = Callable[..., Any]

_METH_FASTCALL: Final = 0x80
_PACKAGES: Final = Path(__file__).parents[2]
_DIRECTORY: Final = "NUMBA_CACHE_DIR"


def kernel(returns: str, *takes: str) -> Callable[[_Function], _Function]:
    """For functions that Python calls: compiled at import, for these types only. They release the interpreter lock."""

    def decorate(function: _Function) -> _Function:
        if _LOADED is not None:
            return _LOADED.function(symbol(function), function.__doc__)
        made: _Function = _numba().njit(f"{returns}({', '.join(takes)})", boundscheck=False, **_options())(
            named_by_source(function)
        )
        setattr(made, IS_KERNEL, True)
        return made

    return decorate


def called(function: _Function) -> _Function:
    """For functions that kernels call."""
    return _for_kernels(function)


def inlined(function: _Function) -> _Function:
    """For short ones on the way of every value: a call would cost as much as what they do."""
    return _for_kernels(function, forceinline=True)


def expanded(function: _Function) -> _Function:
    """For those that numba itself copies into the caller: LLVM sees no function at all."""
    return _for_kernels(function, inline="always")


def intrinsic(function: _Function) -> _Function:
    """For functions that write LLVM's instructions themselves."""
    if _LOADED is not None:
        return function
    made: _Function = _numba().extending.intrinsic(function)
    return made


def named_by_source(function: _Function) -> _Function:
    """The function with its file's digest in the name under which numba keeps it.

    numba writes the index, which tells of which source the code is, before the code: a process that is killed in
    between leaves the index of the new source with the code of the old, under one name and for good; and one that loads
    in between gets it, too. Under a name of their own the code of another source is never found.
    """
    function.__qualname__ += f".{_source_digest(function.__code__.co_filename)}"
    return function


def is_loaded() -> bool:
    """True when the kernels of this process come from an object file, False when from numba."""
    return _LOADED is not None


def loaded_path() -> Path | None:
    """The object file that the kernels of this process come from; None when they come from numba."""
    return None if _LOADED is None else _LOADED.path


def cache_path() -> str | None:
    """The directory where numba keeps what it compiles; None when there is none to write to."""
    from numba.core.caching import FunctionCache

    try:
        return str(FunctionCache(cache_path).cache_path)
    except RuntimeError:
        return None


def load_object_file() -> _ObjectFile | None:
    """The object file of this state; None when there is none that can be used, and numba is needed."""
    if not _has_known_layout():
        return None
    try:
        paths = object_paths()
    except OSError:  # Installed without sources: nothing tells whether a file is of this state.
        return None
    for path in paths:
        try:
            content = _unseal(path.read_bytes()) if _is_trusted(path) else None
        except OSError:
            continue
        if content is not None:
            return _ObjectFile(path, content)
    return None


def _is_trusted(path: Path) -> bool:
    """True when nobody but this user and root can have written the file: it is run."""
    found = path.stat()
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def object_paths() -> list[Path]:
    """Where the object file of this state is looked for, in order."""
    name = f"wallaby-{_digest()}.kernels"
    return [directory / name for directory in _directories()]


def symbol(function: _Function) -> str:
    """The kernel's name in the object file."""
    return f"{function.__module__}.{function.__name__}"


def _for_kernels(function: _Function, **options: Any) -> _Function:
    if _LOADED is not None:
        return function
    made: _Function = _numba().njit(**_options(), **options)(named_by_source(function))
    return made


def _numba() -> Any:
    import numba
    import numba.extending

    return numba


@cache
def _options() -> Mapping[str, Any]:
    """Without numba's memory management: kernels allocate nothing, and an object file has nobody to ask for memory."""
    return {"cache": cache_path() is not None, "nogil": True, "_nrt": False}


@cache
def _source_digest(path: str) -> str:
    """Empty where there is no source: nothing is kept then, either."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def _digest() -> str:
    """Names everything that the machine code follows from, and what its callers rely on."""
    import llvmlite.binding as llvm

    settings = sorted((name, value) for name, value in os.environ.items() if name.startswith("NUMBA_"))
    facts = (
        sys.implementation.cache_tag,
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features().flatten(),
        [setting for setting in settings if setting[0] != _DIRECTORY],
    )
    state = hashlib.sha256(repr(facts).encode())
    for package in ("numba", "llvmlite"):
        found = PathFinder.find_spec(package)
        assert found is not None, package
        assert found.origin is not None, package
        state.update(Path(found.origin).with_name("_version.py").read_bytes())
    for module in (*MODULES, "wallaby.pgtypes.compiled", "wallaby.pgtypes.object_file"):
        state.update(_PACKAGES.joinpath(*module.split(".")).with_suffix(".py").read_bytes())
    return state.hexdigest()[:24]


def _directories() -> Iterator[Path]:
    """The one that numba keeps its own code in, where one is named; else the two that ``warm`` fills.

    Beside the sources every user of this installation finds it, in the user's own directory every other copy of these
    sources: ``ray job submit --working-dir`` makes one.
    """
    named = os.environ.get(_DIRECTORY)
    if named:
        yield Path(named)
        return
    yield Path(__file__).with_name("__pycache__")
    users = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if users.is_absolute():  # Else there is no home, and whoever owns the working directory could put code there.
        yield users / "wallaby"


class ArrayFields(ctypes.Structure):
    """The fields of NumPy's arrays (``PyArrayObject_fields``), as kernels of object files read them."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
        ("dimensions", ctypes.c_int),
        ("shape", ctypes.POINTER(ctypes.c_ssize_t)),
        ("strides", ctypes.POINTER(ctypes.c_ssize_t)),
        ("base", ctypes.c_void_p),
        ("item", ctypes.c_void_p),
        ("flags", ctypes.c_int),
    )


class ItemFields(ctypes.Structure):
    """The fields of ``PyArray_Descr`` that did not move between NumPy 1 and 2."""

    _fields_ = (
        ("references", ctypes.c_ssize_t),
        ("type", ctypes.c_void_p),
        ("scalar", ctypes.c_void_p),
        ("kind", ctypes.c_char),
        ("code", ctypes.c_char),
        ("order", ctypes.c_char),
        ("flags", ctypes.c_char),
        ("number", ctypes.c_int),
    )


CONTIGUOUS_AND_ALIGNED: Final = 0x101
WRITEABLE: Final = 0x400


class _MethodDefinition(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("documentation", ctypes.c_char_p),
    )


class _ObjectFile:
    """Machine code in memory for as long as the process lives."""

    __slots__ = ("_definitions", "_engine", "path")

    def __init__(self, path: Path, content: bytes) -> None:
        import llvmlite.binding as llvm

        self.path = path
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(content))
        self._engine.finalize_object()
        self._definitions: list[_MethodDefinition] = []
        # Nothing else keeps the code of a kernel that somebody still holds.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    def function(self, name: str, documentation: str | None = None) -> _Function:
        """The kernel with this ``symbol`` as a builtin function."""
        address = self._engine.get_function_address(name)
        assert address, name
        short, text = name.rpartition(".")[2].encode(), (documentation or "").encode()
        definition = _MethodDefinition(short, address, _METH_FASTCALL, text)
        self._definitions.append(definition)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
        # Kernels compare the type of what they get with their ``self``.
        made: _Function = make(("PyCFunction_NewEx", ctypes.pythonapi))(ctypes.addressof(definition), np.ndarray, None)
        return made


def seal(content: bytes) -> bytes:
    """An object file with the digest of its content in front."""
    return hashlib.sha256(content).digest() + content


def _unseal(sealed: bytes) -> bytes | None:
    """None for a file that was cut off or damaged."""
    digest, content = sealed[:32], sealed[32:]
    return content if hashlib.sha256(content).digest() == digest else None


def _has_known_layout() -> bool:
    """True when CPython's objects and NumPy's arrays are laid out as the functions of an object file expect."""
    if sys.implementation.name != "cpython" or object.__basicsize__ != 16 or sys.byteorder != "little":
        return False
    array = np.zeros((3, 5), np.int64)
    array.flags.writeable = False
    fields = ArrayFields.from_address(id(array))
    if (fields.type, fields.data, fields.dimensions) != (id(np.ndarray), array.ctypes.data, 2):
        return False
    item = ItemFields.from_address(id(array.dtype))
    return (
        (fields.shape[0], fields.shape[1], fields.strides[0], fields.strides[1]) == (3, 5, 40, 8)
        and fields.item == id(array.dtype)
        and fields.flags & (CONTIGUOUS_AND_ALIGNED | WRITEABLE) == CONTIGUOUS_AND_ALIGNED
        and (item.kind, item.order, item.number) == (b"i", b"=", array.dtype.num)
    )


_LOADED: Final = load_object_file()
