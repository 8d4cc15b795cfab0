"""What a letter holds comes back as it was put in, whatever the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wallaby.errors import CheckFailed
from wallaby.letter import pack_barrier, pack_part, unpack
from wallaby.lsn import Lsn
from wallaby.schema import TableName, TypeKind
from wallaby.testing.history import RandomHistory
from wallaby.window import Barrier, BarrierKind, TablePart


@pytest.mark.parametrize("seed", range(3))
def test_rows_come_back_with_their_shape(seed: int) -> None:
    parts = [part for window in RandomHistory(seed).windows() for part in window.parts]
    assert len({part.schema.name for part in parts}) == 5
    for part in parts:
        part = replace(part, fetched_at=Lsn(7) if seed else None)
        found = unpack(pack_part(part))
        assert isinstance(found, TablePart)
        assert (found.schema, found.rows, found.fetched_at) == (part.schema, part.rows, part.fetched_at)
        assert found.table().equals(part.table(), check_metadata=True)


def test_barriers_come_back_whole() -> None:
    [schema, *_] = RandomHistory(0).tables
    column = schema.columns[1]
    mood = replace(column.type, kind=TypeKind.DOMAIN, base=column.type, labels=("sad", "happy"), base_typmod=8)
    schema = replace(schema, columns=(*schema.columns, replace(column, name='o"dd', type=mood, missing="x")))
    name = TableName("Größe", "odd.name")
    for barrier in (
        Barrier(BarrierKind.SCHEMA, (schema.name,), (schema,), Lsn(2**63), 3, xid=7, committed_at_us=1),
        Barrier(BarrierKind.TRUNCATE, (name,), (), Lsn(5), 0, cascade=True, restart_identity=True),
    ):
        assert unpack(pack_barrier(barrier)) == barrier


def test_a_newer_format_is_refused() -> None:
    content = pack_barrier(Barrier(BarrierKind.TRUNCATE, (), (), Lsn(5), 0))
    with pytest.raises(CheckFailed, match="format 2"):
        unpack(b"\x02" + content[1:])
