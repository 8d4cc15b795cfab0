"""Patterns of tables and columns, as the options of transforms write them.

A name has parts with dots between them, PostgreSQL's own spelling, case preserved. A part in double quotes stands for
itself; in any other part ``*`` stands for any characters: ``shop.order_*``, ``*.*.email``, ``"Odd.Schema"."*"``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from wallaby.flow.tables import unquoted
from wallaby.schema import TableName, quote_identifier

_PART: Final = r'"(?:[^"]|"")+"|[^\s",.=:]+'
_NAME: Final = re.compile(rf"\s*(?:{_PART})(?:\s*\.\s*(?:{_PART}))*\s*")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a pattern."""

    text: str
    is_quoted: bool = False

    def __str__(self) -> str:
        return quote_identifier(self.text) if self.is_quoted else self.text

    @property
    def is_exact(self) -> bool:
        """It stands for one name only."""
        return self.is_quoted or "*" not in self.text

    def matches(self, name: str) -> bool:
        """Whole names, case counts."""
        if self.is_exact:
            return self.text == name
        return re.fullmatch(".*".join(map(re.escape, self.text.split("*"))), name, re.DOTALL) is not None


_ANY: Final = Part("*")
_PUBLIC: Final = Part("public")


@dataclass(frozen=True, slots=True)
class TableGlob:
    """Tables: ``shop.orders``, ``shop.*``, ``orders`` (in schema ``public``), or ``*`` for all."""

    schema: Part
    name: Part

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError when it is none."""
        parts = name_parts(text)
        if parts == [_ANY]:
            return cls(_ANY, _ANY)
        if len(parts) > 2:
            raise ValueError("must be tables such as public.orders, public.* or *")
        schema, name = (_PUBLIC, *parts) if len(parts) == 1 else parts
        return cls(schema, name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def is_exact(self) -> bool:
        return self.schema.is_exact and self.name.is_exact

    def matches(self, table: TableName) -> bool:
        return self.schema.matches(table.schema) and self.name.matches(table.name)


@dataclass(frozen=True, slots=True)
class ColumnGlob:
    """Columns: ``shop.orders.email``, ``orders.email`` (in schema ``public``), or ``email`` of every table."""

    table: TableGlob
    name: Part

    @classmethod
    def parse(cls, text: str) -> Self:
        """ValueError when it is none."""
        parts = name_parts(text)
        match parts:
            case [name]:
                return cls(TableGlob(_ANY, _ANY), name)
            case [table, name]:
                return cls(TableGlob(_PUBLIC, table), name)
            case [schema, table, name]:
                return cls(TableGlob(schema, table), name)
            case _:
                raise ValueError("must be columns such as public.orders.email, *.*.email or email")

    def matches(self, table: TableName, column: str) -> bool:
        return self.table.matches(table) and self.name.matches(column)


def name_parts(text: str) -> list[Part]:
    """The parts of a dotted name; ValueError when it is none."""
    if _NAME.fullmatch(text) is None or "\0" in text:
        raise ValueError("must be names with dots between them; quote a name with other characters")
    return [Part(unquoted(found), is_quoted=found.startswith('"')) for found in re.findall(_PART, text)]


def parse_table_name(text: str) -> TableName:
    """One table, without stars; unqualified it is in schema ``public``. ValueError when it is none."""
    parts = name_parts(text)
    if len(parts) > 2 or not all(part.is_exact for part in parts):
        raise ValueError("must be one table such as public.orders")
    return TableName(*(part.text for part in ([_PUBLIC, *parts][-2:])))


def assignment(text: str, sign: str = "=") -> tuple[str, str]:
    """What stands before and behind the first ``sign`` outside double quotes; ValueError without one."""
    match = re.match(rf'((?:"(?:[^"]|"")*"|[^"{re.escape(sign)}])*){re.escape(sign)}', text)
    if match is None or not match[1].strip() or not text[match.end() :].strip():
        raise ValueError(f"must have the form NAME {sign} …")
    return match[1].strip(), text[match.end() :].strip()


def checked_template(text: str, *placeholders: str) -> str:
    """The template; ValueError when it names another placeholder than these, ``{schema}`` and the like."""
    for match in _PLACEHOLDER.finditer(text):
        if match[1] not in placeholders:
            known = " and ".join(f"{{{name}}}" for name in placeholders)
            raise ValueError(f"may hold {known}, and braces for nothing else")
    return text


def filled(template: str, **names: str) -> str:
    """The template with the names in their places."""
    return _PLACEHOLDER.sub(lambda match: names[match[1]], template)


def duplicates(items: list[str]) -> Iterator[str]:
    """Each that is there more than once, once."""
    return (item for item in dict.fromkeys(items) if items.count(item) > 1)


__all__ = [
    "ColumnGlob",
    "Part",
    "TableGlob",
    "assignment",
    "checked_template",
    "duplicates",
    "filled",
    "name_parts",
    "parse_table_name",
]
