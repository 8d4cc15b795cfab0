"""Folders for temporary files of one owner, which a killed process does not leave for ever.

The owner holds the kernel's lock on its folder, and a lock ends with its process, however that ends. Who makes a folder
first removes those of the same name that nobody holds. Where the file system of temporary files knows no such locks,
nothing is ever taken for left behind.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_ATTEMPTS_MAX: Final = 100


class ScratchFolder:
    """A new and empty folder, below the machine's for temporary files, that no other owner uses. `close` removes it."""

    def __init__(self, prefix: str) -> None:
        """``prefix`` begins its name: those who share one remove each other's leftovers."""
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            _remove_unheld(left)
        for _ in range(_ATTEMPTS_MAX):
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            with suppress(FileNotFoundError):
                self._held = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
                if _lock(self._held) and self.path.exists():
                    return
                os.close(self._held)
            # Somebody took it for left behind, in the moment before it was held.
        raise FileNotFoundError("temporary folders are removed as fast as they are made")

    def close(self) -> None:
        """Remove the folder with what is in it. Idempotent."""
        if self._held >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._held)
            self._held = -1


def _remove_unheld(folder: Path) -> None:
    """Remove a folder of this user that no process holds."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(opened).st_uid == os.geteuid():
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        finally:
            os.close(opened)


def _lock(opened: int) -> bool:
    """False when another process holds it. True, too, where there are no locks."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


__all__ = ["ScratchFolder"]
