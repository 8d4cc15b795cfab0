"""What a flow says about the types of a destination: mappings to other types, and consent to what they lose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from wallaby.errors import ConfigError
from wallaby.flow.tables import quoted_if_needed, unquoted
from wallaby.schema import TableName

MAPPINGS_MAX: Final = 1_000
"""Entries of ``type_mappings``, the file's included."""
TYPE_TEXT_MAX: Final = 64 << 10
"""Bytes of ``type_mappings`` as text, and of its file."""
_PART: Final = r'"(?:[^"]|"")+"|[^\s",.]+'
_PATTERN: Final = re.compile(rf"\s*({_PART})\s*\.\s*({_PART})\s*\.\s*({_PART})\s*")


@dataclass(frozen=True, slots=True)
class ColumnPattern:
    """``schema.table.column``, unquoted, case preserved; None for ``*``, which is every one."""

    schema: str | None
    table: str | None
    column: str | None

    def matches(self, table: TableName, column: str) -> bool:
        """Exact comparison, as PostgreSQL compares identifiers."""
        return (
            self.schema in (None, table.schema) and self.table in (None, table.name) and self.column in (None, column)
        )

    def __str__(self) -> str:
        parts = (self.schema, self.table, self.column)
        return ".".join("*" if part is None else quoted_if_needed(part) for part in parts)


def parse_column_pattern(text: str) -> ColumnPattern:
    """Read one; ValueError when it is none."""
    match = _PATTERN.fullmatch(text)
    if match is None or "\0" in text:
        raise ValueError('must be columns such as public.orders.total, public.orders.*, or "Odd".orders.total')
    return ColumnPattern(*(None if part == "*" else unquoted(part) for part in match.groups()))


def read_mappings(value: Any) -> dict[str, str]:
    """Types to types: a mapping, or one as JSON or YAML text. Names are lower-cased; ValueError for anything else."""
    if isinstance(value, str):
        if len(value.encode("utf-8", "surrogatepass")) > TYPE_TEXT_MAX:
            raise ValueError(f"must have at most {TYPE_TEXT_MAX} bytes")
        try:
            value = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            raise ValueError("is neither a JSON nor a YAML object") from None
    if not isinstance(value, Mapping):
        raise ValueError('must map types to types, such as {"numeric": "double"}')
    if len(value) > MAPPINGS_MAX:
        raise ValueError(f"takes at most {MAPPINGS_MAX} entries")
    found: dict[str, str] = {}
    for key, name in value.items():
        if not (isinstance(key, str) and isinstance(name, str) and key.strip() and name.strip()):
            raise ValueError("types on both sides must be text")
        if found.setdefault(" ".join(key.lower().split()), name.strip()) != name.strip():
            raise ValueError("maps one type twice")
    return found


def read_mappings_file(path: str) -> dict[str, str]:
    """The same from a file; `ConfigError` with the path when it cannot be read or holds something else."""
    if Path(path).exists() and not Path(path).is_file():  # a pipe would keep us waiting
        raise ConfigError(f"{path} is not a file", advice="Name a file of this machine", field="type_mappings_file")
    try:
        with Path(path).open("rb") as file:
            data = file.read(TYPE_TEXT_MAX + 1)
        return read_mappings(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", advice="Name a file of this machine", field="type_mappings_file"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text", field="type_mappings_file") from None
    except ValueError as error:
        raise ConfigError(f"{path} {error}", field="type_mappings_file") from None


def mappings_text(value: Mapping[Any, Any]) -> str:
    """A mapping as the text that every place of a flow can keep."""
    return json.dumps(dict(value), sort_keys=True, ensure_ascii=False)


__all__ = ["ColumnPattern", "mappings_text", "parse_column_pattern", "read_mappings", "read_mappings_file"]
