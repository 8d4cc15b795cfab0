"""The reference sink keeps the whole contract."""

from __future__ import annotations

from tests.wallaby.testing.memory_hooks import MemoryHooks
from wallaby.testing.sink_contract import SinkContract


class TestMemorySink(MemoryHooks, SinkContract):
    """The contract on `MemorySink`."""
