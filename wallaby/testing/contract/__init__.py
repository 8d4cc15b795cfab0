"""The groups of the sink contract; `wallaby.testing.sink_contract` puts them together."""

from __future__ import annotations

import pytest

# Before any of them is imported: their plain asserts then say what they compared.
pytest.register_assert_rewrite(
    *(
        f"wallaby.testing.contract.{name}"
        for name in ("hooks", "identity", "tables", "commits", "modes", "barriers", "values")
    )
)
