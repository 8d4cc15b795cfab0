"""Every type arrives as a JSON value PostgreSQL reads back as the very same value."""

from __future__ import annotations

import decimal
import json
from typing import Any

import pytest

from sinks.pgstream.types import messages_of_changes
from tests.sinks.postgres.test_types import SAMPLES, SETTINGS, as_text, copied_window, make_source
from wallaby.lsn import Lsn, Position
from wallaby.testing.postgres import ScratchDatabase


def as_input(value: Any) -> Any:
    """A JSON value as a parameter PostgreSQL casts to the column's type."""
    match value:
        case bool():
            return str(value).lower()
        case list():
            return [as_input(item) for item in value]
        case dict():
            return ", ".join(f"{_quoted(key)}=>{_quoted(item)}" for key, item in value.items())
        case None:
            return None
        case _:
            return str(value)


def _quoted(text: str | None) -> str:
    """A key or value of hstore's text form."""
    return "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@pytest.mark.must_not_fail(12)
@pytest.mark.must_not_fail(13)
def test_postgresql_reads_every_value_back_as_it_was(database: ScratchDatabase) -> None:
    columns = make_source(database)
    schema, window = copied_window(database, "everything", Position(Lsn(0), 0), Position(Lsn(0), 1))
    [part] = window.parts
    payloads = messages_of_changes(schema, part.table())["payload"].to_pylist()
    rows = [json.loads(payload, parse_float=decimal.Decimal)["after"] for payload in payloads]
    rows.sort(key=lambda row: row["id"])
    expected = as_text(database, "everything", columns)
    with database.connect() as connection:
        for setting in SETTINGS.split("; "):
            connection.execute(setting.encode())
        for i, word in enumerate(SAMPLES, 1):
            for row, texts in zip(rows, expected, strict=True):
                value = as_input(row[columns[i]])
                kind = "text[]" if isinstance(value, list) else "text"
                [read] = connection.execute(f"SELECT (%s::{kind})::{word}::text".encode(), [value]).fetchall()
                assert read[0] == texts[i], f"{word}: {row[columns[i]]!r}"
