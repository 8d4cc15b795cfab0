"""docs/wire.md says what the codecs do, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wallaby.flow import WireFormat
from wallaby.pgtypes.builtin import builtin_types
from wallaby.pgtypes.layout import layout_of
from wallaby.wire import COMPRESSIONS, ArrowLayout, WireOptions
from wallaby.wire.type_table import ROWS, table

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text(encoding="utf-8")


def test_the_table_of_types_is_what_the_code_says() -> None:
    assert table() in PAGE, "run: python -m wallaby.wire.type_table"


def test_every_arrow_type_of_a_column_is_in_the_table() -> None:
    shown = {str(row.field.type) for row in ROWS}
    made = {layout_of(one).arrow for one in builtin_types()}
    assert {str(kind) for kind in made} - shown == set()


@pytest.mark.parametrize("format", WireFormat)
def test_formats_compressions_and_file_names_are_as_told(format: WireFormat) -> None:
    [line] = re.findall(rf"^\| `{format}` \| (.*) \| (.*) \| .* *\|$", PAGE, re.MULTILINE)[:1]
    names, codecs = line
    assert codecs == ", ".join(f"`{codec}`" for codec in COMPRESSIONS[format])
    options = [WireOptions(compression=codec) for codec in COMPRESSIONS[format]]
    suffixes = [*dict.fromkeys(one.suffix(format) for one in options)]
    if format is WireFormat.ARROW:
        suffixes.append(WireOptions(arrow_layout=ArrowLayout.FILE).suffix(format))
    assert re.findall(r"`([^`]+)`", names) == suffixes


def test_the_example_runs() -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(example, "wire.md", "exec"), {})
