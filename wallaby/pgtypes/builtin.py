"""The types of ``pg_catalog`` that a table column may have, by object id: the same in every PostgreSQL database."""

from __future__ import annotations

from functools import cache
from typing import Final

from wallaby.schema import PgType, TypeKind

_SCALARS: Final[tuple[tuple[int, str, int], ...]] = (
    (16, "bool", 1000),
    (17, "bytea", 1001),
    (18, "char", 1002),
    (19, "name", 1003),
    (20, "int8", 1016),
    (21, "int2", 1005),
    (22, "int2vector", 1006),
    (23, "int4", 1007),
    (24, "regproc", 1008),
    (25, "text", 1009),
    (26, "oid", 1028),
    (27, "tid", 1010),
    (28, "xid", 1011),
    (29, "cid", 1012),
    (30, "oidvector", 1013),
    (114, "json", 199),
    (142, "xml", 143),
    (600, "point", 1017),
    (601, "lseg", 1018),
    (602, "path", 1019),
    (603, "box", 1020),
    (604, "polygon", 1027),
    (628, "line", 629),
    (650, "cidr", 651),
    (700, "float4", 1021),
    (701, "float8", 1022),
    (718, "circle", 719),
    (774, "macaddr8", 775),
    (790, "money", 791),
    (829, "macaddr", 1040),
    (869, "inet", 1041),
    (1033, "aclitem", 1034),
    (1042, "bpchar", 1014),
    (1043, "varchar", 1015),
    (1082, "date", 1182),
    (1083, "time", 1183),
    (1114, "timestamp", 1115),
    (1184, "timestamptz", 1185),
    (1186, "interval", 1187),
    (1266, "timetz", 1270),
    (1560, "bit", 1561),
    (1562, "varbit", 1563),
    (1700, "numeric", 1231),
    (1790, "refcursor", 2201),
    (2202, "regprocedure", 2207),
    (2203, "regoper", 2208),
    (2204, "regoperator", 2209),
    (2205, "regclass", 2210),
    (2206, "regtype", 2211),
    (2950, "uuid", 2951),
    (2970, "txid_snapshot", 2949),
    (3220, "pg_lsn", 3221),
    (3614, "tsvector", 3643),
    (3615, "tsquery", 3645),
    (3642, "gtsvector", 3644),
    (3734, "regconfig", 3735),
    (3769, "regdictionary", 3770),
    (3802, "jsonb", 3807),
    (4072, "jsonpath", 4073),
    (4089, "regnamespace", 4090),
    (4096, "regrole", 4097),
    (4191, "regcollation", 4192),
    (5038, "pg_snapshot", 5039),
    (5069, "xid8", 271),
)
"""(object id, ``typname``, object id of its array type)."""

_RANGES: Final[tuple[tuple[int, str, int], ...]] = (
    (3904, "int4range", 3905),
    (3906, "numrange", 3907),
    (3908, "tsrange", 3909),
    (3910, "tstzrange", 3911),
    (3912, "daterange", 3913),
    (3926, "int8range", 3927),
)

_MULTIRANGES: Final[tuple[tuple[int, str, int], ...]] = (
    (4451, "int4multirange", 6150),
    (4532, "nummultirange", 6151),
    (4533, "tsmultirange", 6152),
    (4534, "tstzmultirange", 6153),
    (4535, "datemultirange", 6155),
    (4536, "int8multirange", 6157),
)


def builtin_type(oid: int) -> PgType | None:
    """The ``pg_catalog`` scalar, range, multirange or array of these with this object id; None for any other."""
    return _builtin_types().get(oid)


def builtin_types() -> tuple[PgType, ...]:
    """All of them except the arrays, in the order of their object ids."""
    return tuple(found for _, found in sorted(_builtin_types().items()) if found.kind is not TypeKind.ARRAY)


def named_type(name: str) -> PgType | None:
    """The one with this ``typname``; None for any other name."""
    return next((found for found in _builtin_types().values() if found.name == name), None)


def array_of(element: PgType) -> PgType | None:
    """The array type of one of them; None for any other type, and for an array."""
    return next((found for found in _builtin_types().values() if found.element == element), None)


@cache
def _builtin_types() -> dict[int, PgType]:
    types: dict[int, PgType] = {}
    for rows, kind in (
        (_SCALARS, TypeKind.BASE),
        (_RANGES, TypeKind.RANGE),
        (_MULTIRANGES, TypeKind.MULTIRANGE),
    ):
        for oid, name, array_oid in rows:
            element = PgType(oid, name, kind=kind)
            types[oid] = element
            types[array_oid] = PgType(array_oid, f"_{name}", kind=TypeKind.ARRAY, element=element)
    return types
