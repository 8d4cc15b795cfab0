"""Moving CopyData messages from libpq into an arena, compiled where possible, in plain Python otherwise.

psycopg's binary wheel carries its own libpq. The compiled drain calls *that* library on psycopg's own connection, so
TLS, SCRAM and Kerberos keep working and the cost per message falls several times. Where the library cannot be
identified beyond doubt (psycopg's C or Python implementation with several libpqs loaded), the plain loop does the same.
What we dislike: it leans on where a wheel keeps its private library; that is why both are tested to give equal bytes.
"""

from __future__ import annotations

import ctypes
import sys
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from psycopg import OperationalError, pq

from wallaby.postgres.arena import FRAME_HEADER, Arena

_FUNCTIONS: Final = ("PQgetCopyData", "PQconsumeInput", "PQfreemem")
"""As ``drain_kernel`` numbers them."""


class Outcome(Enum):
    """Why a drain stopped."""

    DRY = auto()
    """Everything that had arrived is in the arena."""
    FULL = auto()
    """More is there, but the arena must be consumed first."""
    ENDED = auto()
    """The copy is over: ask the connection for the result or the error."""


class Drain(Protocol):
    """Takes whole messages from one connection in COPY state. Never blocks."""

    def fill(self, arena: Arena) -> Outcome:
        """Append every message that has arrived to the arena, as far as it goes."""
        ...

    def close(self) -> None:
        """Release what is parked. The connection stays."""
        ...


def open_drain(connection: pq.abc.PGconn, *, compiled: bool | None = None) -> Drain:
    """A drain for this connection: compiled when possible, or as ``compiled`` demands (RuntimeError if it cannot)."""
    functions = _libpq_functions() if compiled is not False else None
    if functions is not None:
        return _CompiledDrain(connection, functions)
    if compiled:
        raise RuntimeError("the libpq that psycopg uses cannot be identified; there is no compiled drain")
    return PlainDrain(connection)


class PlainDrain:
    """The portable drain: one Python call per message."""

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._connection = connection
        self._parked: bytes | None = None
        self._dry_rounds = _dry_rounds(connection)

    def fill(self, arena: Arena) -> Outcome:
        """See `Drain`."""
        arena.make_room(len(self._parked or b""))
        if self._parked is not None:
            if arena.room < len(self._parked) + FRAME_HEADER:
                return Outcome.FULL
            _append(arena, self._parked)
            self._parked = None
        dry = 0
        try:
            while dry <= self._dry_rounds:
                before = arena.end
                length, message = self._connection.get_copy_data(1)
                while length > 0:
                    if arena.room < length + FRAME_HEADER:
                        self._parked = bytes(message)
                        return Outcome.FULL
                    _append(arena, message)
                    length, message = self._connection.get_copy_data(1)
                if length < 0:
                    return Outcome.ENDED
                dry = dry + 1 if arena.end == before else 0
                if dry <= self._dry_rounds:
                    self._connection.consume_input()
        except OperationalError:
            return Outcome.ENDED
        return Outcome.DRY

    def close(self) -> None:
        """See `Drain`."""
        self._parked = None


def _append(arena: Arena, message: bytes | memoryview) -> None:
    start = arena.end + FRAME_HEADER
    length = len(message)
    arena.data[arena.end : start] = np.frombuffer(length.to_bytes(FRAME_HEADER, "little"), np.uint8)
    arena.data[start : start + length] = np.frombuffer(message, np.uint8)
    arena.end = start + length


class _CompiledDrain:
    """One compiled call per fill, without the interpreter lock."""

    def __init__(self, connection: pq.abc.PGconn, functions: npt.NDArray[np.int64]) -> None:
        from wallaby.postgres import drain_kernel

        self._kernel: Any = drain_kernel
        self._functions = functions
        self._connection = connection
        self._message = np.zeros(1, np.int64)
        self._state = np.zeros(drain_kernel.STATE_SLOTS, np.int64)
        self._dry_rounds = _dry_rounds(connection)

    def fill(self, arena: Arena) -> Outcome:
        """See `Drain`."""
        kernel = self._kernel
        arena.make_room(int(self._state[kernel.PARKED_LENGTH]))
        address: int | None = getattr(self._connection, "pgconn_ptr")  # noqa: B009  (missing from psycopg's protocol)
        if address is None:
            return Outcome.ENDED
        arena.end = kernel.drain(
            self._functions, address, arena.data, arena.end, self._message, self._state, self._dry_rounds
        )
        match int(self._state[kernel.OUTCOME]):
            case kernel.DRY:
                return Outcome.DRY
            case kernel.FULL:
                return Outcome.FULL
            case _:
                return Outcome.ENDED

    def close(self) -> None:
        """See `Drain`."""
        kernel, state = self._kernel, self._state
        if state[kernel.PARKED_LENGTH] > 0:
            library = ctypes.CDLL(str(_libpq_path()))
            library.PQfreemem.argtypes = [ctypes.c_void_p]
            library.PQfreemem.restype = None
            library.PQfreemem(int(state[kernel.PARKED_AT]))
            state[kernel.PARKED_LENGTH] = 0


def _dry_rounds(connection: pq.abc.PGconn) -> int:
    """OpenSSL may keep the rest of a record that poll() cannot see; looking twice more empties it."""
    return 3 if connection.ssl_in_use else 1


@cache
def _libpq_functions() -> npt.NDArray[np.int64] | None:
    """Where `_FUNCTIONS` of the very libpq psycopg uses lie; None when it cannot be found."""
    path = _libpq_path()
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
        functions = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _FUNCTIONS]
    except (OSError, AttributeError):
        return None
    return np.array(functions, np.int64)


@cache
def _libpq_path() -> Path | None:
    if pq.__impl__ == "binary":
        return _bundled_libpq()
    return _only_mapped_libpq()


def _bundled_libpq() -> Path | None:
    """The private library of the wheel ``psycopg-binary``."""
    module = sys.modules.get("psycopg_binary")
    if module is None or module.__file__ is None:
        return None
    package = Path(module.__file__).parent
    found = [*package.with_name("psycopg_binary.libs").glob("libpq-*.so*"), *package.glob(".dylibs/libpq*.dylib")]
    return found[0] if len(found) == 1 else None


def _only_mapped_libpq() -> Path | None:
    """The libpq loaded into this process, if there is exactly one."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return None
    names = {line.split(maxsplit=5)[-1] for line in maps.read_text(encoding="utf-8").splitlines() if "/libpq" in line}
    return Path(names.pop()) if len(names) == 1 else None
