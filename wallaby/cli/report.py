"""What a command prints: one JSON value, or lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


class Report:
    """Prints to ``output``; with ``as_json`` only JSON, compact on one line or with ``pretty`` indented by two."""

    def __init__(self, output: TextIO, *, as_json: bool = False, pretty: bool = False) -> None:
        self._output = output
        self._as_json = as_json
        self._pretty = pretty

    def show(self, value: Any, lines: Iterable[str]) -> None:
        """``value`` as JSON, or the lines."""
        if self._as_json:
            text = json.dumps(value, indent=2) if self._pretty else json.dumps(value, separators=(",", ":"))
            print(text, file=self._output)
            return
        for line in lines:
            print(line, file=self._output)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table, columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
