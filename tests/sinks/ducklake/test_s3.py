"""The contract's crashes and races with the data in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.ducklake.config import CatalogKind
from tests.s3 import KEYS, new_bucket, s3_client
from tests.sinks.ducklake.conftest import lake_options
from tests.sinks.ducklake.test_contract import _Lake
from wallaby.testing.contract.commits import CrashContract, RaceContract


class TestDuckLakeOnS3(_Lake, CrashContract, RaceContract):
    # Many commits, each a dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]
    kind = CatalogKind.DUCKDB

    @pytest.fixture(autouse=True)
    def bucket(self, lake: None, s3_endpoint: str, tmp_path: Path) -> Iterator[None]:
        name = new_bucket(s3_endpoint)
        self.options = {
            **lake_options(tmp_path, self.kind),
            "data_path": f"s3://{name}/some/lake",
            "endpoint": s3_endpoint,
            "force_path_style": True,
            **KEYS,
        }
        yield
        with s3_client(s3_endpoint) as client:
            assert client.list_objects_v2(Bucket=name)["KeyCount"] > 0
