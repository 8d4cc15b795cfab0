"""``python -m wallaby.pgtypes.warm``: compile all kernels now, so that no process of a flow has to.

For the build of an image, the start of a node, after an upgrade. Exit status 1 when there is no directory to keep them
in: name one in NUMBA_CACHE_DIR that the user who runs the flows can write.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from wallaby.pgtypes import compiled


def main() -> int:
    """Make the object file unless it is there, and say where it lies."""
    begun = time.monotonic()
    path = compiled.loaded_path() or _make()
    if path is None:
        print("there is no directory to keep compiled kernels in: set NUMBA_CACHE_DIR", file=sys.stderr)
        return 1
    print(f"kernels ready after {time.monotonic() - begun:.1f} s in {path}")
    return 0


def keep(content: bytes, paths: Iterable[Path]) -> Path | None:
    """Write the object file to the first of ``paths`` that can be written; None when none can."""
    for path in paths:
        try:
            _write(path, compiled.seal(content))
        except OSError:
            continue
        return path
    return None


def _make() -> Path | None:
    # It imports numba, which takes longer than all the rest, and only processes without an object file have kernels
    # that it could link.
    from wallaby.pgtypes.object_file import object_file

    return keep(object_file(), compiled.object_paths())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: another process may look for it at the same moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(content)
    unfinished.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())
