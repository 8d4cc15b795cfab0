"""What a command prints: JSON values, or lines for people, coloured where a terminal shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO


class Report:
    """Prints to ``output``; with ``as_json`` only JSON, compact on one line or with ``pretty`` indented by two."""

    def __init__(self, output: TextIO, *, as_json: bool = False, pretty: bool = False) -> None:
        self._output = output
        self.is_json = as_json
        self._pretty = pretty
        self.is_terminal = not as_json and output.isatty()

    def show(self, value: Any, lines: Iterable[str]) -> None:
        """``value`` as JSON, or the lines. Flushed, so that who follows a stream sees it at once."""
        if self.is_json:
            text = json.dumps(value, indent=2) if self._pretty else json.dumps(value, separators=(",", ":"))
            print(text, file=self._output, flush=True)
            return
        for line in lines:
            print(line, file=self._output)
        self._output.flush()

    def text(self, content: str) -> None:
        """Content that is the same for people and machines: a script, a schema, a file."""
        print(content, file=self._output, end="" if content.endswith("\n") else "\n", flush=True)

    def paint(self, text: str, colour: str) -> str:
        """``text`` in an ANSI colour (``31``), on a terminal only."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.is_terminal else text


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a table, columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
