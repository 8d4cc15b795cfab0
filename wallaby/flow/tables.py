"""Table patterns as options write them: ``orders``, ``shop.orders``, ``shop.*``, ``"Odd.Schema"."Odd Table"``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from wallaby.schema import TableName, quote_identifier

_PART: Final = r'"(?:[^"]|"")+"|[^\s",.*]+'
_PATTERN: Final = re.compile(rf"\s*(?:(?P<schema>{_PART})\s*\.\s*)?(?P<name>\*|{_PART})\s*")
_ITEM: Final = re.compile(r'(?:"(?:[^"]|"")*"|[^,"])+')


@dataclass(frozen=True, slots=True)
class TablePattern:
    """One table, or with ``name`` None every table of a schema. Parts are unquoted, case preserved."""

    schema: str
    name: str | None

    def matches(self, table: TableName) -> bool:
        """Exact comparison, as PostgreSQL compares identifiers."""
        return self.schema == table.schema and self.name in (None, table.name)

    def __str__(self) -> str:
        return ".".join("*" if part is None else quoted_if_needed(part) for part in (self.schema, self.name))


def parse_table_pattern(text: str) -> TablePattern:
    """Read one pattern; an unqualified name is in schema ``public``. Names keep their case, quoted or not.

    ValueError when it is none, or when a name is longer than PostgreSQL's 63 bytes.
    """
    match = _PATTERN.fullmatch(text)
    if match is None or "\0" in text:
        raise ValueError("must be a table such as public.orders, a schema such as public.*, or a quoted name")
    schema = unquoted(match["schema"] or "public")
    name = None if match["name"] == "*" else unquoted(match["name"])
    if name is None and match["schema"] is None:
        raise ValueError("a star needs a schema before it, such as public.*; leave the option out for all tables")
    for part in (schema, name or ""):
        if len(part.encode("utf-8", "surrogatepass")) > 63:
            raise ValueError("a name must have at most 63 bytes")
    return TablePattern(schema, name)


def split_list(value: Any) -> tuple[str, ...]:
    """A list option: a real list of text, or one comma-separated text (commas inside double quotes do not split)."""
    match value:
        case None:
            return ()
        case str():
            items: Iterable[Any] = _ITEM.findall(value) if value.count('"') % 2 == 0 else (value,)
        case list() | tuple():
            items = value
        case _:
            raise ValueError("must be a list, or text separated by commas")
    result = []
    for item in items:
        if not isinstance(item, str):
            raise ValueError("entries must be text")
        if item.strip():
            result.append(item.strip())
    return tuple(dict.fromkeys(result))


def unquoted(part: str) -> str:
    """A part of a name as it is, without the quotes it may be written in."""
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def quoted_if_needed(part: str) -> str:
    """A part of a name as a pattern writes it, so that it stands for itself."""
    return part if re.fullmatch(r'[^\s",.*]+', part) else quote_identifier(part)
