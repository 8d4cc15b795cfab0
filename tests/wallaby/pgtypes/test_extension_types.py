"""Types of extensions and types that are printed: forms no test server has, and bytes no server sends."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from wallaby.errors import DecodeError
from wallaby.pgoutput.decoder import Decoder, Segment
from wallaby.pgoutput.relations import Relation
from wallaby.pgtypes.gather import Cells, MalformedCell, gather
from wallaby.pgtypes.layout import Family, layout_of
from wallaby.pgtypes.types import builtin_type
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.testing import pgoutput_writer as w

HSTORE = PgType(90_000, "hstore", "public", extension="hstore")
VECTOR = PgType(90_001, "vector", "public", extension="vector")
HALF_VECTOR = PgType(90_002, "halfvec", "public", extension="vector")
GEOMETRY = PgType(90_003, "geometry", "gis", extension="postgis")
GEOMETRIES = PgType(90_004, "_geometry", "gis", TypeKind.ARRAY, element=GEOMETRY)
SITE = PgType(90_005, "site", "public", TypeKind.DOMAIN, base=GEOMETRY)
LTREE = PgType(90_006, "ltree", "public", extension="ltree")

EWKB = bytes.fromhex("0101000020E6100000000000000000F03F0000000000000040")
"""SRID=4326;POINT(1 2), as PostGIS sends and stores it."""


def _sized(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value)) + value


def _hstore(*pairs: tuple[bytes, bytes | None]) -> bytes:
    return struct.pack("!i", len(pairs)) + b"".join(_sized(key) + _sized(value) for key, value in pairs)


def _vector(*numbers: float) -> bytes:
    return struct.pack(f"!hh{len(numbers)}f", len(numbers), 0, *numbers)


def _array(oid: int, *elements: bytes | None) -> bytes:
    head = struct.pack("!iiIii", 1, None in elements, oid, len(elements), 1)
    return head + b"".join(map(_sized, elements))


def _cells(*values: bytes | str | None) -> Cells:
    """One column; ``str`` travels as text."""
    data = b"".join(value.encode() if isinstance(value, str) else value or b"" for value in values)
    offset, length, at = [], [], 0
    for value in values:
        size = 0 if value is None else len(value.encode() if isinstance(value, str) else value)
        offset.append(~at if isinstance(value, str) else at)
        length.append(-1 if value is None else size)
        at += size
    array = np.frombuffer(data + b"\0", np.uint8)
    base = np.arange(len(values), dtype=np.int32)
    return Cells(array, np.array(offset, np.int32), np.array(length, np.int32), base)


def _decoded(pg_type: PgType, *cells: bytes | str | None) -> pa.RecordBatch:
    """The batch of inserts of one cell each, through the decoder."""
    column = Column("v", pg_type, is_key=False)
    schema = TableSchema(16_400, TableName("public", "t"), (column,), ReplicaIdentity.DEFAULT)

    def resolve(relation: Relation) -> TableSchema:
        assert relation.columns[0].type_oid == pg_type.oid
        return schema

    messages = [
        w.begin(0x100, 7),
        w.relation(16_400, "public", "t", [("v", pg_type.oid, -1, False)]),
        *(w.insert(16_400, [cell]) for cell in cells),
        w.commit(0x100, 0x130),
    ]
    data = w.frames(w.xlog(message, 0x100) for message in messages)
    _, [segment] = Decoder(resolve).feed(data, 0, len(data))
    assert isinstance(segment, Segment)
    [(_, batch)] = segment.parts
    batch.validate(full=True)
    return batch


def _values(pg_type: PgType, *cells: bytes | str | None) -> list[object]:
    batch = _decoded(pg_type, *cells)
    assert batch.column("outliers").null_count == len(cells)
    found: list[object] = batch.column("after").field("v").to_pylist()
    return found


@pytest.mark.parametrize("pg_type", [GEOMETRY, SITE])
def test_geometries_are_ewkb_whichever_way_they_travel(pg_type: PgType) -> None:
    assert _values(pg_type, EWKB, EWKB.hex().upper(), EWKB.hex(), None) == [EWKB, EWKB, EWKB, None]


def test_a_geometry_that_is_printed_otherwise_is_an_outlier() -> None:
    batch = _decoded(GEOMETRY, "POINT(1 2)", EWKB)
    assert batch.column("after").field("v").to_pylist() == [None, EWKB]
    assert batch.column("outliers").to_pylist() == [[{"column": 0, "text": "POINT(1 2)"}], None]


def test_arrays_of_geometry_are_postgresqls_text() -> None:
    """Colons are between their elements."""
    text = "{" + ":".join([EWKB.hex().upper()] * 2) + "}"
    assert _values(GEOMETRIES, text) == [text]
    with pytest.raises(DecodeError, match="no binary form"):
        _decoded(GEOMETRIES, _array(GEOMETRY.oid, EWKB))


def test_the_order_and_the_nulls_of_an_hstore_are_kept() -> None:
    pairs = [("b", "2"), ("a", None), ("", ""), ("größe", 'q"\\, =>')]
    binary = _hstore(*((key.encode(), None if value is None else value.encode()) for key, value in pairs))
    text = r'"b"=>"2", "a"=>NULL, ""=>"", "größe"=>"q\"\\, =>"'
    assert _values(HSTORE, binary, text, None, "", _hstore()) == [pairs, pairs, None, [], []]


@pytest.mark.parametrize(
    "text", ['"a"', '"a"=>', "a=>b", '"a"=>"1","b"=>"2"', '"a"=>"1" ', '"a"=>"1', '"a"=>NUL', "{}"]
)
def test_an_hstore_in_another_form_is_an_outlier(text: str) -> None:
    batch = _decoded(HSTORE, '"k"=>"v"', text, '"l"=>NULL')
    assert batch.column("after").field("v").to_pylist() == [[("k", "v")], None, [("l", None)]]
    assert batch.column("outliers").to_pylist() == [None, [{"column": 0, "text": text}], None]


def test_a_value_of_an_hstore_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(DecodeError, match="UTF-8"):
        _decoded(HSTORE, _hstore((b"k", b"\xff\xfe")))


def test_vectors_keep_every_bit() -> None:
    halves = struct.pack("!hh3e", 3, 0, 0.1, -0.0, 65504)
    vectors = _values(VECTOR, _vector(1.5, -0.0), "[1.5,-0]", None)
    assert repr(vectors) == "[[1.5, -0.0], [1.5, -0.0], None]"
    widened = _values(HALF_VECTOR, halves, "[0.099975586,-0,65504]")
    assert repr(widened) == "[[0.0999755859375, -0.0, 65504.0], [0.0999755859375, -0.0, 65504.0]]"


@pytest.mark.parametrize("text", ["[]", "[1,]", "[,1]", "(1)", "[1", "1]", ""])
def test_a_vector_in_another_form_is_an_outlier(text: str) -> None:
    batch = _decoded(VECTOR, "[7]", text, "[8,9]")
    assert batch.column("after").field("v").to_pylist() == [[7.0], None, [8.0, 9.0]]
    assert batch.column("outliers").to_pylist() == [None, [{"column": 0, "text": text}], None]


def test_ltree_drops_its_version_byte() -> None:
    assert _values(LTREE, b"\x01Top.Science", "Top.Science", b"\x01", None) == ["Top.Science", "Top.Science", "", None]


def _builtin(oid: int) -> PgType:
    found = builtin_type(oid)
    assert found is not None
    return found


def _samples() -> Iterator[tuple[PgType, bytes]]:
    yield HSTORE, _hstore((b"a", b"1"), (b"bc", None), (b"", b"xyz"))
    yield VECTOR, _vector(1.5, 2, 3)
    yield HALF_VECTOR, struct.pack("!hh2e", 2, 0, 1, 2)
    yield _builtin(869), bytes([2, 24, 0, 4, 10, 0, 0, 1])
    yield _builtin(650), bytes([3, 64, 1, 16, *range(16)])
    yield _builtin(829), bytes(6)
    yield _builtin(774), bytes(8)
    yield _builtin(28), bytes(4)
    yield _builtin(5069), bytes(8)
    yield _builtin(3220), bytes(8)
    yield _builtin(27), bytes(6)
    yield _builtin(1266), struct.pack("!qi", 1, -3600)
    yield _builtin(1562), struct.pack("!i2B", 11, 0xAA, 0x40)
    yield _builtin(3614), struct.pack("!i", 2) + b"a\0" + struct.pack("!hH", 1, 0xC001) + b"b c\0" + bytes(2)
    yield _builtin(3904), b"\x02" + _sized(bytes(4)) + _sized(b"\0\0\0\x09")
    yield _builtin(3906), b"\x08" + _sized(struct.pack("!hhHHh", 1, 0, 0, 0, 5))
    yield _builtin(3908), b"\x02" + _sized(bytes(8)) + _sized(bytes(8))
    yield _builtin(4451), struct.pack("!i", 2) + 2 * _sized(b"\x02" + _sized(bytes(4)) + _sized(b"\0\0\0\x09"))


SAMPLES = [pytest.param(pg_type, value, id=pg_type.name) for pg_type, value in _samples()]


@pytest.mark.parametrize(("pg_type", "value"), SAMPLES)
def test_a_value_cut_short_anywhere_is_malformed(pg_type: PgType, value: bytes) -> None:
    layout = layout_of(pg_type)
    array, outliers = gather(layout, _cells(value, None, value))
    assert outliers is None
    assert array.null_count == 1
    for size in range(len(value)):
        with pytest.raises(MalformedCell) as caught:
            gather(layout, _cells(value, value[:size], value))
        assert caught.value.row == 1
    with pytest.raises(MalformedCell):
        gather(layout, _cells(value, value + b"\0"))


@pytest.mark.parametrize(("pg_type", "value"), SAMPLES)
def test_random_bytes_are_malformed_or_a_value(pg_type: PgType, value: bytes) -> None:
    layout = layout_of(pg_type)
    rng = random.Random(pg_type.oid)
    for _ in range(300):
        noise = bytearray(value)
        for _ in range(rng.choice([1, 1, 2, 5])):
            noise[rng.randrange(len(noise))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        cells = _cells(value, bytes(noise), value)
        try:
            array, _ = gather(layout, cells)
        except MalformedCell:
            continue
        array.validate(full=True)
        assert array[0] == array[2]


@pytest.mark.parametrize(("pg_type", "value"), SAMPLES)
def test_an_array_of_another_shape_is_printed_as_a_whole(pg_type: PgType, value: bytes) -> None:
    """Two dimensions of one element: the element's text, quoted where arrays quote."""
    layout = layout_of(PgType(1, "_" + pg_type.name, kind=TypeKind.ARRAY, element=pg_type))
    assert layout.family is Family.LIST
    flat = _array(pg_type.oid, value)
    odd = struct.pack("!iiIiiii", 2, 0, pg_type.oid, 1, 1, 1, 1) + _sized(value)
    lists, outliers = gather(layout, _cells(flat, odd))
    assert lists.is_valid().to_pylist() == [True, False]
    assert outliers is not None
    [text] = outliers.texts.to_pylist()
    reread, _ = gather(layout, _cells(text[1:-1]))
    assert reread[0].as_py() == lists[0].as_py()
