"""The contract's crashes and races with the tables in a bucket and the catalog in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog

from sinks.iceberg import FACTORY
from sinks.iceberg.catalogs import catalog_properties
from sinks.iceberg.config import read_options
from sinks.iceberg.reader import log_rows, mirror_rows
from tests.s3 import KEYS, new_bucket, s3_client, s3_server
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.commits import CrashContract, RaceContract


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


class TestIcebergOnS3(CrashContract, RaceContract):
    # Many commits, each some dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # it is not run here

    @pytest.fixture(autouse=True)
    def lake(self, s3: str, tmp_path: Path) -> Iterator[None]:
        name = new_bucket(s3)
        self.options: dict[str, Any] = {
            "catalog_uri": f"sqlite:///{tmp_path}/catalog.db",
            "warehouse": f"s3://{name}/some/lake",
            "endpoint": s3,
            **KEYS,
        }
        self.open: list[Sink | Catalog] = []
        yield
        for one in self.open:
            one.close()
        with s3_client(s3) as client:
            assert client.list_objects_v2(Bucket=name)["KeyCount"] > 0

    def make_sink(self, *, mode: WriteMode) -> Sink:
        sink = FACTORY.create({**self.options, "write_mode": mode.value}, destination="target")
        self.open.append(sink)
        return sink

    def read_table(self, schema: TableSchema) -> pa.Table:
        return mirror_rows(self._catalog().load_table((schema.name.schema, schema.name.name)), schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        return log_rows(self._catalog().load_table((schema.name.schema, schema.name.name)), schema)

    def _catalog(self) -> Catalog:
        """A reader's own."""
        read = read_options(self.options)
        catalog = load_catalog(read.catalog_name, **catalog_properties(read))
        self.open.append(catalog)
        return catalog
