"""What the lake's peers share: the same files, one JSON object per measured step. Imports nothing of wallaby."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Task(NamedTuple):
    """What is to be done."""

    task: str
    """``append`` or ``mirror``."""
    kind: str
    rows: Path
    changes: list[Path]
    target: Path


def task() -> Task:
    """From the command line: TASK KIND FOLDER TARGET."""
    name, kind, folder, target = sys.argv[1:5]
    return Task(name, kind, Path(folder) / "rows.parquet", sorted(Path(folder).glob("changes-*.parquet")), Path(target))


def timed(rows: int, work: Callable[[], Any]) -> None:
    """Say what it took, with the processes it started."""
    wall, cpu = time.perf_counter(), _cpu_s()
    work()
    figures = {"rows": rows, "wall_s": time.perf_counter() - wall, "cpu_s": _cpu_s() - cpu}
    print(json.dumps(figures), flush=True)


def _cpu_s() -> float:
    ours, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime
