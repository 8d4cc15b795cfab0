"""How the kernels are compiled, and whether what was compiled can be kept.

numba keeps machine code beside the source file or, where that cannot be written, in a directory of the user
(``NUMBA_CACHE_DIR`` names another). Where there is neither it refuses to compile a function that asks for it; then
nothing is kept, and every process compiles everything again. ``python -m wallaby.pgtypes.warm`` tells, and fills the
cache beforehand.
"""

from __future__ import annotations

from typing import Any, Final

from numba.core.caching import FunctionCache


def cache_path() -> str | None:
    """The directory where compiled kernels are kept; None when there is none to write to."""
    try:
        return str(FunctionCache(cache_path).cache_path)
    except RuntimeError:
        return None


CACHE: Final = cache_path() is not None

OPTIONS: Final[dict[str, Any]] = {"cache": CACHE, "nogil": True, "boundscheck": False}
"""For kernels that Python calls: compiled at import, with the signature they name."""

CALLED: Final[dict[str, Any]] = {"cache": CACHE, "nogil": True}
"""For functions that kernels call."""

INLINED: Final[dict[str, Any]] = {"cache": CACHE, "nogil": True, "forceinline": True}
"""For short ones on the way of every value: a call would cost as much as what they do."""
