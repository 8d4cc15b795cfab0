"""The contract's crashes and races with the data in a bucket."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from sinks.ducklake.config import CatalogKind
from tests.sinks.ducklake.conftest import lake_options
from tests.sinks.ducklake.test_contract import _Lake
from wallaby.testing.contract.commits import CrashContract, RaceContract

KEYS = {"access_key": "testing", "secret_key": "testing", "region": "us-east-1"}


class TestDuckLakeOnS3(_Lake, CrashContract, RaceContract):
    # Many commits, each a dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]
    kind = CatalogKind.DUCKDB

    @pytest.fixture(autouse=True)
    def bucket(self, lake: None, s3_endpoint: str, tmp_path: Path) -> Iterator[None]:
        name = f"lake-{uuid.uuid4().hex}"
        client = boto3.client(
            "s3",
            endpoint_url=s3_endpoint,
            aws_access_key_id=KEYS["access_key"],
            aws_secret_access_key=KEYS["secret_key"],
            region_name=KEYS["region"],
        )
        client.create_bucket(Bucket=name)
        self.options = {
            **lake_options(tmp_path, self.kind),
            "data_path": f"s3://{name}/some/lake",
            "endpoint": s3_endpoint,
            "force_path_style": True,
            **KEYS,
        }
        yield
        assert client.list_objects_v2(Bucket=name)["KeyCount"] > 0
        client.close()
