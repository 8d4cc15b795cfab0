"""Spools that are emptied after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from wallaby.pgoutput.spool import Spool, SpoolLimits

MakeSpool = Callable[..., Spool]


@pytest.fixture
def make_spool() -> Iterator[Callable[..., Spool]]:
    """Spools, by their limits; emptied afterwards."""
    made: list[Spool] = []

    def make(**limits: Any) -> Spool:
        made.append(Spool(SpoolLimits(**limits)))
        return made[-1]

    yield make
    for spool in made:
        spool.close()
