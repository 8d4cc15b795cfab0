"""A directory of Delta tables per test, an S3 server for those that ask for one, and DuckDB as a second reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_delta
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from sinks.delta import FACTORY
from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_mirror
from sinks.delta.sink import DeltaSink
from sinks.delta.store import encode_name
from tests.s3 import s3_server
from wallaby.content import canonical_hash
from wallaby.schema import TableName, TableSchema


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "lake"
    path.mkdir()
    return path


@pytest.fixture
def make_sink(root: Path) -> Iterator[Callable[..., DeltaSink]]:
    """Sinks on the test's directory with the given options; closed at the end."""
    made: list[DeltaSink] = []

    def make(**options: Any) -> DeltaSink:
        sink = FACTORY.create({"path": str(root), **options}, destination="copy")
        assert isinstance(sink, DeltaSink)
        sink.open()
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


@pytest.fixture
def delta(root: Path) -> Callable[[TableSchema], DeltaTable]:
    """The newest version of a table's target, opened as anybody else would."""

    def opened(schema: TableSchema) -> DeltaTable:
        return DeltaTable(target_path(root, schema.name))

    return opened


def target_path(root: Path, name: TableName) -> str:
    return str(root / encode_name(name.schema) / encode_name(name.name))


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """An S3 server in this process, on loopback."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with its Delta extension, from the package, not from the network."""
    [extension] = Path(duckdb_extension_delta.__file__).parent.rglob("delta.duckdb_extension")
    directory = tmp_path_factory.mktemp("extensions")
    settings = {"extension_directory": str(directory), "autoinstall_known_extensions": "false"}
    with duckdb.connect(config=settings) as connection:
        connection.execute(f"INSTALL '{extension}'; LOAD delta; SET TimeZone = 'UTC'")
        yield connection


@pytest.fixture
def make_marking(make_sink: Callable[..., DeltaSink]) -> Callable[..., DeltaSink]:
    return lambda **options: make_sink(deletion_vectors=True, **options)


@pytest.fixture
def assert_content(root: Path, duck: duckdb.DuckDBPyConnection) -> Callable[[TableSchema, pa.Table], None]:
    """The rows of a target are these, by content hash, to the engine, to DuckDB and to our own reader."""

    def check(schema: TableSchema, expected: pa.Table) -> None:
        path = target_path(root, schema.name)
        wanted = canonical_hash(expected.select(range(len(schema.columns))))
        names = [column.name for column in schema.columns]
        ours = read_mirror(DeltaOptions.parse({"path": str(root)}), schema)
        theirs = pa.table(QueryBuilder().register("t", DeltaTable(path)).execute("SELECT * FROM t"))
        scanned = duck.execute("FROM delta_scan(?)", (path,)).to_arrow_table()
        assert canonical_hash(ours) == wanted, f"{schema.name}: {ours.num_rows} of {expected.num_rows} rows"
        assert canonical_hash(theirs.select(names).cast(ours.schema)) == wanted, schema.name
        assert canonical_hash(scanned.select(names)) == wanted, schema.name

    return check
