"""The contract's crashes and races with the tables in a bucket and the catalog in a file."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog, load_catalog

from sinks.iceberg import FACTORY
from sinks.iceberg.catalogs import catalog_properties
from sinks.iceberg.config import read_options
from sinks.iceberg.reader import log_rows, mirror_rows
from tests.s3 import s3_server
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.contract.commits import CrashContract, RaceContract

KEYS = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as address:
        yield address


class TestIcebergOnS3(CrashContract, RaceContract):
    # Many commits, each some dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # it is not run here

    @pytest.fixture(autouse=True)
    def lake(self, s3: str, tmp_path: Path) -> Iterator[None]:
        name = f"lake-{uuid.uuid4().hex}"
        client = boto3.client(
            "s3",
            endpoint_url=s3,
            aws_access_key_id=KEYS["access_key"],
            aws_secret_access_key=KEYS["secret_key"],
            region_name=KEYS["region"],
        )
        client.create_bucket(Bucket=name)
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
        assert client.list_objects_v2(Bucket=name)["KeyCount"] > 0
        client.close()

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
