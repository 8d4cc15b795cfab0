"""Who is measured: a script each, run in a process of its own, its figures and what it left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from pyiceberg.table import StaticTable

from benchmarks.measure import Run
from benchmarks.peers import Missing, Peer
from wallaby.content import ContentHash

_TIMEOUT_S: Final = 3600
_SLICE_ROWS: Final = 1_000_000

_DLT: Final = Peer(
    name="dlt 1.31",
    script="lake_dlt.py",
    requirements=(
        "dlt[filesystem,pyiceberg,deltalake,duckdb]==1.31.0",
        "sqlalchemy==2.0.51",
        f"duckdb=={version('duckdb')}",
    ),
    does="loads files",
    runs_max=1,
)


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to keep a table of a kind."""

    name: str
    kind: str
    """``iceberg``, ``delta``, ``duckdb`` or ``files``: how its table is read back."""
    peer: Peer | None = None
    """Another's script; None for ours (`benchmarks.lake.ours`)."""
    options: str = ""
    """A word the script understands."""
    is_peer: bool = False
    """The one the others of its kind are compared with."""
    rows_max: int | None = None
    """Not measured with more: it would take hours or all memory."""

    def run(self, task: str, folder: Path, target: Path) -> list[Run]:
        """Do ``append`` or ``mirror`` with the files of ``folder``: one run per measured step.

        `Missing` when it cannot.
        """
        words = [task, self.kind, str(folder), str(target), self.options]
        if self.peer is None:
            command = [sys.executable, "-m", "benchmarks.lake.ours", *words]
        else:
            command = self.peer.command(*words) if self.peer.requirements else self.peer.here(*words)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        if done.returncode != 0:
            raise Missing(f"it failed: {(done.stderr.strip().splitlines() or ['without a word'])[-1][:160]}")
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return [Run(rows=one["rows"], wall_s=one["wall_s"], cpu_s=one["cpu_s"]) for one in said]

    def table(self, target: Path) -> pa.Table:
        """What it left, read by the library of its format, in the columns of the rows."""
        names = ["id", "customer", "amount", "note"]
        match self.kind:
            case "iceberg":
                newest = max(target.rglob("*narrow*/metadata/*.metadata.json"), key=_version)
                rows = StaticTable.from_metadata(str(newest)).scan(selected_fields=tuple(names)).to_arrow()
            case "delta":
                [log] = target.rglob("*narrow*/_delta_log")
                query = QueryBuilder().register("narrow", DeltaTable(str(log.parent)))
                rows = pa.table(query.execute(f"SELECT {', '.join(names)} FROM narrow"))
            case "duckdb":
                [path] = target.rglob("*.duckdb")
                with duckdb.connect(str(path), read_only=True) as connection:
                    rows = connection.table("public.narrow").select(*names).to_arrow_table()
            case _:
                with duckdb.connect() as connection:
                    files = f"{target}/**/*.parquet"
                    rows = connection.read_parquet(files).select(*names).to_arrow_table()
        return rows.select(names)


def _version(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name


def fingerprint(rows: pa.Table) -> str:
    """The content hash, a million rows at a time."""
    content = ContentHash()
    wanted = {"id": pa.int64(), "customer": pa.int32(), "amount": pa.float64(), "note": pa.string()}
    rows = rows.select(list(wanted)).cast(pa.schema(wanted.items()))
    for first in range(0, rows.num_rows, _SLICE_ROWS):
        content.add(rows.slice(first, _SLICE_ROWS))
    return content.hexdigest()


def _here(script: str, name: str) -> Peer:
    """A peer whose library wallaby itself uses: no environment of its own."""
    return Peer(name=name, script=script, requirements=(), does="library as its manual shows it", runs_max=3)


_ICEBERG: Final = _here("lake_iceberg.py", f"pyiceberg {version('pyiceberg')}")
_DELTA: Final = _here("lake_delta.py", f"deltalake {version('deltalake')}")

APPENDERS: Final = (
    Subject(_DELTA.name, "delta", _DELTA, is_peer=True),
    Subject(_DLT.name, "delta", _DLT),
    Subject("wallaby", "delta"),
    Subject(_ICEBERG.name, "iceberg", _ICEBERG, is_peer=True),
    Subject(_DLT.name, "iceberg", _DLT),
    Subject("wallaby", "iceberg"),
    Subject(_DLT.name, "duckdb", _DLT, is_peer=True),
    Subject("wallaby", "duckdb"),
    Subject("wallaby", "files"),
)
MIRRORS: Final = (
    Subject(f"{_DELTA.name}, MERGE", "delta", _DELTA, is_peer=True),
    Subject(f"{_DLT.name}, upsert", "delta", _DLT, rows_max=1_000_000),
    Subject("wallaby", "delta"),
    Subject("wallaby, deletion vectors", "delta", options="deletion_vectors"),
    Subject(f"{_ICEBERG.name}, upsert", "iceberg", _ICEBERG, is_peer=True, rows_max=1_000_000),
    Subject(f"{_DLT.name}, upsert", "iceberg", _DLT, rows_max=1_000_000),
    Subject("wallaby, copy on write", "iceberg", options="copy-on-write"),
    Subject("wallaby, position deletes", "iceberg", options="position-deletes"),
    Subject(f"{_DLT.name}, merge", "duckdb", _DLT, is_peer=True),
    Subject("wallaby", "duckdb"),
)


__all__ = ["APPENDERS", "MIRRORS", "Subject", "fingerprint"]
