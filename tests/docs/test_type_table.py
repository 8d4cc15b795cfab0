"""docs/types.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from sinks.type_table import page

PAGE = Path(__file__).parents[2] / "docs" / "types.md"


def test_the_page_of_types_is_what_the_code_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m sinks.type_table > docs/types.md"


def test_no_type_is_refused_by_a_destination() -> None:
    assert "refused |" not in page()
