"""The sink contract over a container of Azure's, where conditional creations decide."""

from __future__ import annotations

import pytest

from tests.sinks.object_store_contract import StoreSinkContract


@pytest.mark.long
class TestAzureContract(StoreSinkContract):
    pass
