"""Columns to Arrow fields, and the table of built-in types against a real catalog."""

from __future__ import annotations

import pyarrow as pa
import pytest

from wallaby.pgtypes.types import arrow_field, arrow_schema, builtin_type, change_schema, has_binary_kernel
from wallaby.schema import Column, PgType, ReplicaIdentity, TableName, TableSchema, TypeKind
from wallaby.testing.postgres import ScratchDatabase


def _builtin(oid: int) -> PgType:
    found = builtin_type(oid)
    assert found is not None
    return found


def _array(element: PgType) -> PgType:
    return PgType(90_100, f"_{element.name}", element.schema, TypeKind.ARRAY, element=element)


INT4, TEXT, JSONB, UUID, NUMERIC, INET, POINT = (_builtin(oid) for oid in (23, 25, 3802, 2950, 1700, 869, 600))


def _numeric(precision: int, scale: int) -> int:
    return (precision << 16 | (scale & 0x7FF)) + 4


def test_the_builtin_types_are_those_of_a_real_catalog(database: ScratchDatabase) -> None:
    """Every base, range and multirange type of pg_catalog that a column can have is known by oid, name and array."""
    kinds = {"b": TypeKind.BASE, "r": TypeKind.RANGE, "m": TypeKind.MULTIRANGE}
    internal = {"pg_node_tree", "pg_ndistinct", "pg_dependencies", "pg_mcv_list", "pg_brin_bloom_summary"}
    internal |= {"pg_brin_minmax_multi_summary", "pg_ddl_command"}
    rows = database.fetch(
        "SELECT t.oid::int8, t.typname, t.typtype, t.typarray::int8 FROM pg_type t "
        "WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype IN ('b', 'r', 'm') AND typcategory <> 'A' "
        "AND t.oid < 10000"
    )
    for oid, name, kind, array_oid in rows:
        if name in internal or name.startswith("reg"):
            continue
        assert builtin_type(oid) == PgType(oid, name, kind=kinds[kind]), name
        assert builtin_type(array_oid) == PgType(array_oid, f"_{name}", kind=TypeKind.ARRAY, element=_builtin(oid))


def test_an_unknown_oid_is_nothing() -> None:
    assert builtin_type(999_999) is None


@pytest.mark.parametrize(
    ("typmod", "arrow"),
    [
        (-1, pa.string()),
        (_numeric(10, 2), pa.decimal128(10, 2)),
        (_numeric(38, 38), pa.decimal128(38, 38)),
        (_numeric(39, 0), pa.decimal256(39, 0)),
        (_numeric(76, 76), pa.decimal256(76, 76)),
        (_numeric(77, 0), pa.string()),
        (_numeric(5, -2), pa.decimal128(7, 0)),
        (_numeric(3, 5), pa.decimal128(5, 5)),
        (_numeric(40, -40), pa.string()),
        (_numeric(0, 0), pa.string()),
    ],
)
def test_numerics_become_the_smallest_decimal_that_holds_them(typmod: int, arrow: pa.DataType) -> None:
    assert arrow_field(Column("n", NUMERIC, typmod)).type == arrow


def test_a_domain_counts_as_its_base_with_the_domains_modifier() -> None:
    price = PgType(90_000, "price", "shop", TypeKind.DOMAIN, base=NUMERIC, base_typmod=_numeric(12, 3))
    outer = PgType(90_001, "cost", "shop", TypeKind.DOMAIN, base=price)
    assert arrow_field(Column("c", outer)).type == pa.decimal128(12, 3)
    prices = PgType(90_002, "_price", "shop", TypeKind.ARRAY, element=price)
    assert arrow_field(Column("c", prices)).type == pa.list_(pa.decimal128(12, 3))


@pytest.mark.parametrize(
    ("pg_type", "expected"),
    [
        (INT4, True),
        (_builtin(1007), True),
        (PgType(90_000, "mood", "public", TypeKind.ENUM), True),
        (PgType(90_000, "_mood", "public", TypeKind.ARRAY, element=PgType(1, "mood", "public", TypeKind.ENUM)), True),
        (PgType(90_000, "citext", "extensions", extension="citext"), True),
        (PgType(90_000, "citext", "public"), False),
        (PgType(90_000, "hstore", "public", extension="hstore"), True),
        (PgType(90_000, "hstore", "public"), False),
        (PgType(90_000, "vector", "public", extension="mine"), False),
        (PgType(90_000, "sparsevec", "public", extension="vector"), False),
        (PgType(90_000, "geometry", "public", extension="postgis"), True),
        (_array(PgType(90_000, "geometry", "public", extension="postgis")), False),
        (_array(PgType(90_000, "hstore", "public", extension="hstore")), True),
        (INET, True),
        (_builtin(1041), True),
        (_builtin(3904), True),
        (_builtin(6150), True),
        (POINT, False),
        (_array(POINT), False),
        (PgType(90_000, "span", "public", TypeKind.RANGE), False),
        (PgType(90_000, "text", "public"), False),
        (PgType(90_000, "pair", "public", TypeKind.COMPOSITE), False),
        (PgType(90_000, "net", "public", TypeKind.DOMAIN, base=INET), True),
        (PgType(90_000, "spot", "public", TypeKind.DOMAIN, base=POINT), False),
        (_array(PgType(90_000, "ints", "public", TypeKind.DOMAIN, base=_builtin(1007))), False),
        (PgType(90_000, "lost", "public", TypeKind.DOMAIN), False),
    ],
)
def test_only_types_with_a_gather_may_travel_in_binary(pg_type: PgType, expected: bool) -> None:
    assert has_binary_kernel(pg_type) is expected


def test_a_field_tells_where_it_comes_from() -> None:
    field = arrow_field(Column("doc", JSONB, nullable=False, attnum=3))
    assert (field.name, field.type, field.nullable) == ("doc", pa.string(), True)
    assert field.metadata == {
        b"pg.oid": b"3802",
        b"pg.type": b"jsonb",
        b"pg.schema": b"pg_catalog",
        b"pg.typmod": b"-1",
        b"pg.attnum": b"3",
        b"pg.nullable": b"false",
        b"wallaby.type": b"jsonb",
    }
    assert arrow_field(Column("u", UUID)).type == pa.binary(16)
    assert b"wallaby.type" not in arrow_field(Column("t", TEXT)).metadata
    documents = PgType(90_002, "documents", "public", TypeKind.DOMAIN, base=_array(JSONB))
    assert arrow_field(Column("d", documents)).metadata[b"wallaby.type"] == b"jsonb"
    place = PgType(90_000, "geometry", "gis", extension="postgis")
    site = arrow_field(Column("g", PgType(90_001, "site", "public", TypeKind.DOMAIN, base=place)))
    assert (site.type, site.metadata[b"wallaby.type"]) == (pa.binary(), b"geometry")


def test_changes_hold_the_key_before_and_all_columns_after() -> None:
    columns = (Column("a", INT4), Column("b", TEXT, is_key=True), Column("c", UUID))
    table = TableSchema(1, TableName("public", "t"), columns, ReplicaIdentity.DEFAULT)
    changes = change_schema(table)
    assert [field.name for field in changes.field("before").type] == ["b"]
    assert pa.schema(list(changes.field("after").type)).equals(arrow_schema(table), check_metadata=True)
    assert change_schema(TableSchema(1, table.name, columns[:1])).field("before").type == pa.struct([])
