"""A reader that knows nothing of wallaby reads the log in a bucket."""

from __future__ import annotations

from contextlib import closing
from urllib.parse import urlsplit

import duckdb
import pytest

from sinks.duckdb.reader import log_rows
from sinks.ducklake.extensions import load
from sinks.s3 import FACTORY
from tests.sinks.lane import TestLane
from tests.sinks.object_store_contract import StoreCase
from wallaby.content import canonical_hash
from wallaby.testing.history import RandomHistory
from wallaby.transform.state import derive_state
from wallaby.window import LaneId


@pytest.mark.must_not_fail(25)
def test_duckdb_reads_the_same_parquet_objects(case: StoreCase) -> None:
    place = case.options
    history = RandomHistory(8, transactions=8)
    with closing(FACTORY.create(place, destination="copy")) as sink:
        TestLane(sink, LaneId("shop", "copy")).apply_all(history.windows(), commit_every=4)
    address = urlsplit(place["endpoint"])
    secret = (
        f"CREATE SECRET (TYPE s3, KEY_ID '{place['access_key']}', SECRET '{place['secret_key']}', URL_STYLE 'path',"
        f" REGION '{place['region']}', ENDPOINT '{address.netloc}', USE_SSL false)"
    )
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        load(connection, "httpfs")
        connection.execute(f"{secret}; CREATE SCHEMA public")
        for schema in history.tables:
            files = f"s3://{place['bucket']}/{place['prefix']}/public/{schema.name.name}/*.parquet"
            connection.execute(f"CREATE VIEW {schema.name} AS FROM read_parquet('{files}', union_by_name = true)")
            found = derive_state(schema, log_rows(connection, schema))
            assert canonical_hash(found) == canonical_hash(history.expected(schema)), schema.name
