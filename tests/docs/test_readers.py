"""The tables of readers in the destinations' pages name tests, and the tests are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.mark.parametrize(
    ("page", "readers"), [("iceberg", 3), ("delta", 2), ("ducklake", 1), ("duckdb", 1), ("files", 4), ("s3", 2)]
)
def test_every_reader_is_proven_by_tests_that_are_there(page: str, readers: int) -> None:
    text = (ROOT / "docs" / "destinations" / f"{page}.md").read_text(encoding="utf-8")
    section = text.split("### Readers\n", 1)[1].lstrip("\n").split("\n\n", 1)[0]
    rows = section.splitlines()[2:]
    assert len(rows) == readers
    for row in rows:
        named = NAMED.findall(row)
        assert named, row
        for file, test in named:
            tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
            assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (
                f"{file}::{test}"
            )
