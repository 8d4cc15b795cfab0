"""The pages of types say what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.type_table import DESTINATIONS, pages
from wallaby.endpoints import sink_factory
from wallaby.kept_types import type_rows
from wallaby.transform.casts import Fidelity

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", sorted(pages()))
def test_the_pages_of_types_are_what_the_code_says(name: str) -> None:
    found = (DOCS / name).read_text(encoding="utf-8")
    assert found == pages()[name], "run: python -m sinks.type_table docs"


@pytest.mark.parametrize("kind", sorted(DESTINATIONS))
def test_no_type_is_lossy_or_refused_when_nobody_asked(kind: str) -> None:
    kept = [DESTINATIONS[kind].of(row.type, row.typmod) for row in type_rows()]
    assert {one.fidelity for one in kept} <= {Fidelity.EXACT, Fidelity.WIDENED}
    assert all(one.target for one in kept)


@pytest.mark.parametrize("kind", sorted(DESTINATIONS))
def test_a_destination_s_factory_tells_the_same(kind: str) -> None:
    factory = sink_factory(kind)
    for row in type_rows():
        assert factory.kept_as(row.type, row.typmod) == DESTINATIONS[kind].of(row.type, row.typmod)  # type: ignore[attr-defined]  # optional
