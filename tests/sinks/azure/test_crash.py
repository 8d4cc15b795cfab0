"""SIGKILL at seeded requests: afterwards every committed change is there once, and no object nobody names."""

from __future__ import annotations

import pytest

from tests.sinks.object_store_contract import StoreCase, die_and_compare


@pytest.mark.long
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
def test_a_writer_killed_between_its_requests_leaves_every_change_once(case: StoreCase) -> None:
    die_and_compare("azure", case, deaths=1)


@pytest.mark.long
@pytest.mark.must_not_fail(2)
@pytest.mark.must_not_fail(25)
def test_a_writer_killed_again_and_again_leaves_every_change_once(case: StoreCase) -> None:
    die_and_compare("azure", case, deaths=6)
