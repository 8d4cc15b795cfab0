"""How much memory does a lane take that writes a few rows into ever more tables?

``… KIND TARGET TABLES [OPTION=VALUE …]`` is one lane: five commits, each with ten rows for every table, the last two
after the destination was opened anew, as by a restart; then the highest resident memory of the process, and that before
the first table.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks.lake.ours import place
from benchmarks.measure import Line, Run, summarise
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import TableSchema
from wallaby.testing.changes import bulk, part, table
from wallaby.window import OP_INSERT, CommitToken, LaneId, Window

KINDS: Final = ("iceberg", "delta", "duckdb", "ducklake", "files")
_COMMITS: Final = 5
_RESTARTED_AFTER: Final = 3
_ROWS: Final = 10
_LANE: Final = LaneId("benchmark", "lake")
_TIMEOUT_S: Final = 1800


def tables(counts: tuple[int, ...]) -> Iterator[Line]:
    """Every destination with few tables and with many."""
    for kind in KINDS:
        peer = None
        for count in counts:
            with tempfile.TemporaryDirectory(prefix="wallaby-benchmark-") as target:
                command = [sys.executable, "-m", "benchmarks.lake.many_tables", kind, target, str(count)]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=_TIMEOUT_S)
            said = json.loads(done.stdout)
            run = Run(rows=count * _ROWS * _COMMITS, wall_s=said["wall_s"], cpu_s=said["cpu_s"])
            note = (
                f"{said['before_mib']:.0f} → {said['peak_mib']:.0f} MiB; {said['wall_s'] / _COMMITS:.1f} s per commit"
            )
            line = summarise(
                f"{_ROWS} rows into each of many tables of {kind}", f"{count:,} tables", [run], note=note, extra=said
            )
            peer = peer or line
            yield line


def main() -> None:
    """One lane."""
    kind, target, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    options = {**place(kind, target), "write_mode": "append", **dict(word.split("=", 1) for word in sys.argv[4:])}
    schemas = [
        table(f"public.t{number}", {"id": "int8", "note": "text"}, key=["id"], oid=20_000 + number)
        for number in range(count)
    ]
    before = _resident_mib("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    said: dict[str, float] = {}
    for epoch, numbers in enumerate((range(_RESTARTED_AFTER), range(_RESTARTED_AFTER, _COMMITS)), 1):
        _run(kind, options, schemas, epoch, numbers, said)
    figures = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, **said}
    print(json.dumps({**figures, "before_mib": before, "peak_mib": _resident_mib("VmHWM")}))


def _run(
    kind: str, options: dict[str, Any], schemas: list[TableSchema], epoch: int, numbers: range, said: dict[str, float]
) -> None:
    """From the opening of the destination to its closing; what each step took goes into ``said``."""
    cpu = time.process_time()
    sink = import_module(f"sinks.{kind}").FACTORY.create(options, destination="lake")
    for schema in schemas:
        sink.ensure_table(schema)
    at = sink.recover(_LANE, epoch)
    writer = sink.writer(_LANE, epoch)
    said[f"start_{epoch}_cpu_s"], cpu = time.process_time() - cpu, time.process_time()
    for number in numbers:
        ids = pa.array(range(number * _ROWS, (number + 1) * _ROWS), pa.int64())
        columns = [ids, pa.array([f"note {number}"] * _ROWS)]
        lsn = 0x1000 * (number + 1)
        changes = tuple(part(schema, bulk(schema, columns, op=OP_INSERT, commit_lsn=lsn)) for schema in schemas)
        upto = Position(Lsn(lsn + 1))
        writer.write(Window(at if number else START, upto, changes))
        writer.commit(CommitToken(_LANE, epoch, at, upto, len(schemas) * _ROWS))
        at = upto
    said[f"commits_{epoch}_cpu_s"] = time.process_time() - cpu
    writer.abort()
    sink.close()


def _resident_mib(name: str) -> float:
    """A line of /proc/self/status."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
