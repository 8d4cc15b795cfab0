"""SQL expressions in options: which table or column each is for, and how a list of them is told apart.

The API keeps every option as text, a list with commas between its entries. SQL has commas of its own, but in an
expression they stand within brackets or quotes; so a comma outside both ends an entry, in text and in a list alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Self

from wallaby.flow.patterns import ColumnGlob, TableGlob, assignment

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class RowRule:
    """One entry of ``where``: the rows of some tables that go to the destination."""

    tables: TableGlob
    sql: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """``shop.orders: total > 0``; ValueError with what is wrong."""
        pattern, sql = assignment(text, ":")
        return cls(TableGlob.parse(pattern), sql)


@dataclass(frozen=True, slots=True)
class ColumnRule:
    """One entry of ``computed_columns``: a column that the source does not have."""

    column: ColumnGlob
    sql: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """``shop.orders.gross = net * 1.19``; ValueError with what is wrong."""
        pattern, sql = assignment(text)
        column = ColumnGlob.parse(pattern)
        if not column.name.is_exact:
            raise ValueError("must name the new column, without stars")
        return cls(column, sql)


def split_expressions(value: Any) -> tuple[str, ...]:
    """The entries of a list, or of text with commas outside brackets and quotes between them."""
    match value:
        case None:
            return ()
        case str():
            return tuple(_entries(value))
        case list() | tuple() if all(isinstance(item, str) for item in value):
            return tuple(entry for item in value for entry in _entries(item))
        case _:
            raise ValueError("must be a list of text")


def _entries(text: str) -> Iterator[str]:
    awaited: list[str] = []
    quote = ""
    start = 0
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            awaited.append(_CLOSING[character])
        elif awaited and character == awaited[-1]:
            awaited.pop()
        elif character in ")]}" or (character == "$" and text[at + 1 : at + 2] == "$"):
            raise ValueError(f"has a {character} out of place")
        elif character == "," and not awaited:
            if text[start:at].strip():
                yield text[start:at].strip()
            start = at + 1
    if quote or awaited:
        raise ValueError(f"lacks a closing {quote or awaited[-1]}")
    if text[start:].strip():
        yield text[start:].strip()


__all__ = ["ColumnRule", "RowRule", "split_expressions"]
