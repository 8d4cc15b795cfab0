"""``python -m wallaby.pgtypes.warm``: compile all kernels now, so that no process of a flow has to.

For the build of an image, the start of a node, after an upgrade. Exit status 1 when there is no directory to keep them
in: name one in NUMBA_CACHE_DIR that the user who runs the flows can write.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Final

_KERNELS: Final = ("wallaby.pgoutput.copy_decoder", "wallaby.pgoutput.decoder")


def main() -> int:
    """Import what decodes, and say where the compiled code lies."""
    begun = time.monotonic()
    for name in _KERNELS:
        importlib.import_module(name)
    took_s = time.monotonic() - begun
    path = importlib.import_module("wallaby.pgtypes.compiled").cache_path()
    if path is None:
        print("there is no directory to keep compiled kernels in: set NUMBA_CACHE_DIR", file=sys.stderr)
        return 1
    print(f"kernels ready after {took_s:.1f} s in {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
