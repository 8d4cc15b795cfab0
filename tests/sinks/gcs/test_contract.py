"""The sink contract over a bucket of Google's, where conditional creations decide."""

from __future__ import annotations

import pytest

from tests.sinks.object_store_contract import StoreSinkContract


@pytest.mark.long
class TestGcsContract(StoreSinkContract):
    pass
