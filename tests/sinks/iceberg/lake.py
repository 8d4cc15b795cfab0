"""A warehouse of Iceberg tables in a directory, with a SQLite catalog, and DuckDB as a second reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import duckdb_extension_avro
import duckdb_extension_iceberg
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table


class Lake:
    """What a user of the tables has: a catalog of its own, without wallaby."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder}/catalog.db"
        self.warehouse = f"file://{folder}/warehouse"
        self._catalog: Catalog | None = None

    @property
    def catalog(self) -> Catalog:
        if self._catalog is None:
            self._catalog = load_catalog("wallaby", type="sql", uri=self.uri, warehouse=self.warehouse)
        return self._catalog

    def options(self, **more: Any) -> dict[str, Any]:
        """A destination's options for this lake."""
        return {"catalog_uri": self.uri, "warehouse": self.warehouse, **more}

    def make(self, name: tuple[str, str], schema: pa.Schema) -> Table:
        """A table somebody else made."""
        self.catalog.create_namespace_if_not_exists((name[0],))
        return self.catalog.create_table(name, schema)

    def by_duckdb(self, table: Table) -> pa.Table:
        """The rows DuckDB reads of the table as it is now."""
        with duckdb_with_iceberg(self.folder / "extensions") as connection:
            scan = f"SELECT * FROM iceberg_scan('{table.metadata_location}')"
            return connection.execute(scan).to_arrow_table()

    def remove(self, location: str) -> None:
        """Delete a file of the warehouse, by its ``file://`` location."""
        Path(location.removeprefix("file://")).unlink()

    def close(self) -> None:
        if self._catalog is not None:
            self._catalog.close()


def duckdb_with_iceberg(folder: Path) -> duckdb.DuckDBPyConnection:
    """A connection that reads Iceberg, its extensions out of packages: nothing is downloaded."""
    config = {"extension_directory": str(folder), "autoinstall_known_extensions": "false"}
    connection = duckdb.connect(config=config)
    for package in (duckdb_extension_avro, duckdb_extension_iceberg):
        [file] = Path(str(package.__file__)).parent.rglob("*.duckdb_extension")
        connection.execute(f"INSTALL '{file}'; LOAD {file.name.split('.')[0]}")
    connection.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
    return connection
