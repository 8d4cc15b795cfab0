"""The sink contract over a bucket of S3, where conditional creations decide."""

from __future__ import annotations

import pytest

from tests.sinks.object_store_contract import StoreSinkContract


@pytest.mark.long
class TestS3Contract(StoreSinkContract):
    pass
