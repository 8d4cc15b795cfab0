"""Stores for the parts of the control-store contract: made from the fixture ``opened``, closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from wallaby.store.port import Store


class StoreCase:
    """One store, or several on the same place."""

    @pytest.fixture
    def store(self, make_store: Callable[[], Store]) -> Store:
        return make_store()

    @pytest.fixture
    def make_store(self, opened: Callable[[], Store]) -> Iterator[Callable[[], Store]]:
        stores: list[Store] = []

        def make() -> Store:
            stores.append(opened())
            return stores[-1]

        yield make
        for store in stores:
            store.close()
