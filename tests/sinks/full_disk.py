"""A process on whose small disk a destination's files are: run with ``unshare -rm``, which lets it mount one.

Arguments: sink kind, a folder. It writes, fills the disk, tries to write more, frees the disk and goes on; and prints,
as JSON, what it was told and what readers saw meanwhile.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from tests.sinks.lane import TestLane
from wallaby.errors import WallabyError
from wallaby.sink import Sink
from wallaby.testing.changes import insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.window import LaneId

LANE: Final = LaneId("shop", "copy")
ORDERS: Final = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "small", str(disk)], check=True)
    make, read = _PLACES[kind](folder, disk)
    # The first row again, so that a mirror has an old row to take away.
    old = [(ORDERS, update(1, "b"))] if kind in _MIRRORS else []
    more = [(ORDERS, insert(n, f"{n:x}" * 200)) for n in range(2, 4_000)]
    first, second = windows_of([(ORDERS, insert(1, "a"))], [*old, *more])
    told: dict[str, str] = {}
    sink = make()
    lane = TestLane(sink, LANE)
    lane.apply(first)
    filler = disk / "filler"
    _fill(filler)
    before = read()
    try:
        lane.apply(second)
    except WallabyError as error:
        told = {"kind": type(error).__name__, "message": error.message, "advice": error.advice}
    sink.close()
    during = read()
    filler.unlink()
    again = TestLane(make(), LANE, 2)
    if again.position < second.upto:
        again.apply(second)
    again.sink.close()
    print(json.dumps({"told": told, "before": before, "during": during, "after": len(read())}), flush=True)
    # Delta's engine has lost a thread of its own by now, after it raised the error; waiting for it ends the process.
    os._exit(0)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def _delta(_: Path, disk: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    from deltalake import DeltaTable

    from sinks.delta import FACTORY

    def read() -> list[int]:
        found: list[int] = DeltaTable(str(disk / "public" / "orders")).to_pyarrow_table()["id"].to_pylist()
        return found

    return lambda: FACTORY.create({"path": str(disk)}, destination="copy"), read


def _delta_vectors(_: Path, disk: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    from sinks.delta import FACTORY
    from sinks.delta.config import DeltaOptions
    from sinks.delta.reader import read_mirror

    options = {"path": str(disk), "deletion_vectors": True}

    def read() -> list[int]:
        found: list[int] = read_mirror(DeltaOptions.parse(options), ORDERS)["id"].to_pylist()
        return found

    return lambda: FACTORY.create(options, destination="copy"), read


def _duckdb(_: Path, disk: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    import duckdb

    from sinks.duckdb import FACTORY

    made: list[Sink] = []

    def make() -> Sink:
        made.append(FACTORY.create({"dsn": str(disk / "target.duckdb"), "write_mode": "append"}, destination="copy"))
        return made[-1]

    def read() -> list[int]:
        # The same process may open the file again, not so another while it is written.
        session: Any = made[-1]._session  # type: ignore[attr-defined]  # every sink of DuckDB has one
        is_held = session.is_connected
        with duckdb.connect(session.place, config=session._config(), read_only=not is_held) as connection:
            found = connection.execute("SELECT id FROM target.public.orders").fetchall()
        return [int(number) for (number,) in found]

    return make, read


def _ducklake(catalog: Path, data: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    import duckdb

    from sinks.ducklake import FACTORY
    from sinks.ducklake.extensions import load

    options = {"catalog": f"{catalog}/lake.ducklake", "data_path": f"{data}/data", "write_mode": "append"}

    made: list[Sink] = []

    def make() -> Sink:
        made.append(FACTORY.create(options, destination="copy"))
        return made[-1]

    def read() -> list[int]:
        session: Any = made[-1]._session  # type: ignore[attr-defined]  # every sink of DuckLake has one
        if session.is_connected:
            # A process opens such a catalog once.
            return [number for (number,) in session.query("SELECT id FROM public.orders")]
        with duckdb.connect() as connection:
            load(connection, "ducklake")
            connection.execute(f"ATTACH 'ducklake:{options['catalog']}' AS lake (READ_ONLY)")
            found = connection.execute("SELECT id FROM lake.public.orders").fetchall()
        return [int(number) for (number,) in found]

    return make, read


def _files(_: Path, disk: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    from sinks.files import FACTORY
    from sinks.files.reader import committed_files, read_log

    root = disk / "log"
    root.mkdir()

    def read() -> list[int]:
        named = {file.path for file in committed_files(root)}
        assert {str(path.relative_to(root)) for path in root.glob("public/orders/*")} == named
        found: list[int] = read_log(root, "public", "orders")["id"].to_pylist()
        return found

    return lambda: FACTORY.create({"path": str(root)}, destination="copy"), read


def _iceberg(folder: Path, disk: Path) -> tuple[Callable[[], Sink], Callable[[], list[int]]]:
    from pyiceberg.catalog import load_catalog

    from sinks.iceberg import FACTORY

    options: dict[str, Any] = {"catalog_uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{disk}/lake"}

    def read() -> list[int]:
        catalog = load_catalog("wallaby", type="sql", uri=options["catalog_uri"], warehouse=options["warehouse"])
        found: list[int] = catalog.load_table(("public", "orders")).scan().to_arrow()["id"].to_pylist()
        catalog.close()
        return found

    return lambda: FACTORY.create(options, destination="copy"), read


_MIRRORS: Final = ("delta", "delta-vectors", "iceberg")
_PLACES: Final = {
    "delta": _delta,
    "delta-vectors": _delta_vectors,
    "duckdb": _duckdb,
    "ducklake": _ducklake,
    "ducklake-catalog": lambda folder, disk: _ducklake(disk, folder),
    "files": _files,
    "iceberg": _iceberg,
}


if __name__ == "__main__":
    main()
