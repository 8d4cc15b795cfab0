"""``python -m wallaby.pgtypes.warm``: compile all kernels now, so that no process of a flow has to.

For the build of an image, the start of a node, after an upgrade. Exit status 1 when there is no directory to keep them
in: name one in NUMBA_CACHE_DIR that the user who runs the flows can write.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from wallaby.pgtypes import compiled

KEPT_MAX: Final = 8
"""Object files in a directory, of this and former states: 0.3 MB each."""
_PACKAGES: Final = Path(__file__).parents[2]


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
    """Write the object file to each of ``paths`` that can be written; the first of them, or None."""
    kept = [path for path in paths if _is_written(path, compiled.seal(content))]
    return kept[0] if kept else None


def _make() -> Path | None:
    """Compiled from the sources alone, in an empty place: with nothing numba kept before, and no directory's settings.

    Not in this process, which may have kernels of numba's already.
    """
    with tempfile.TemporaryDirectory() as empty:
        search = os.pathsep.join(filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH"))))
        made = subprocess.run(
            [sys.executable, "-m", "wallaby.pgtypes.object_file"],
            cwd=empty,
            env={**os.environ, "NUMBA_CACHE_DIR": empty, "PYTHONPATH": search},
            stdout=subprocess.PIPE,
            check=True,
        )
    return keep(made.stdout, compiled.object_paths())


def _is_written(path: Path, content: bytes) -> bool:
    """Whole or not at all: another process may look for it at the same moment."""
    unfinished: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".kernels-", delete=False) as file:
            unfinished = Path(file.name)
            file.write(content)
        unfinished.chmod(0o644)
        unfinished.replace(path)
        _forget_former(path)
    except OSError:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        return False
    return True


def _forget_former(newest: Path) -> None:
    found = sorted(newest.parent.glob(f"*{newest.suffix}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in found[KEPT_MAX:]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    raise SystemExit(main())
