"""Where tests keep what they throw away: in memory, where there is plenty of it.

Every test makes files and databases and removes them again; on a disk half of that time goes into the file system.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

SHARED_MEMORY: Final = Path("/dev/shm")
MEMORY_BYTES_MIN: Final = 8 << 30
"""Of the machine, free before the tests begin: several times what a run with two processes takes at its height."""
ROOM_BYTES_MIN: Final = 4 << 30
"""Of the file system; containers often have 64 MB there."""


def in_memory(
    folder: Path = SHARED_MEMORY, *, room_bytes_min: int = ROOM_BYTES_MIN, memory_bytes_min: int = MEMORY_BYTES_MIN
) -> Path | None:
    """The folder, when it has room, the machine has memory, and what lies there can be written and loaded as code."""
    if not os.access(folder, os.W_OK | os.X_OK) or os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return None
    if shutil.disk_usage(folder).free < room_bytes_min or _memory_bytes() < memory_bytes_min:
        return None
    return folder


def use_memory(environment: MutableMapping[str, str], folder: Path | None) -> None:
    """Temporary files of this process and of those it starts go to ``folder``, unless TMPDIR says where."""
    if folder is not None and "TMPDIR" not in environment:
        environment["TMPDIR"] = tempfile.tempdir = str(folder)


def _memory_bytes() -> int:
    """What can be taken without swapping; 0 where the system does not say."""
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
