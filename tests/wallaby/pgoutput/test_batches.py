"""What all decoders of a table have in common."""

from __future__ import annotations

from dataclasses import replace

from tests.wallaby.pgoutput.streams import orders, resolve
from wallaby.pgoutput.batches import builder_of
from wallaby.pgoutput.relations import parse_relation


def test_a_table_version_is_planned_once_however_often_it_is_described() -> None:
    first, again = (resolve(parse_relation(orders()[1:])) for _ in range(2))
    assert builder_of(first) is builder_of(again)
    assert builder_of(replace(first, version=2)).schema.version == 2
