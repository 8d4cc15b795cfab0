"""What a destination keeps each PostgreSQL type as: the words its table of types is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from wallaby.pgtypes.builtin import array_of, builtin_types, named_type
from wallaby.pgtypes.layout import Family, Layout, layout_of
from wallaby.pgtypes.numeric import numeric_typmod
from wallaby.schema import PgType, TypeKind
from wallaby.transform.casts import Fidelity


@dataclass(frozen=True, slots=True)
class Kept:
    """The destination's type for one of PostgreSQL's, what becomes of the values, and a word on how."""

    target: str
    fidelity: Fidelity = Fidelity.EXACT
    reason: str = ""


KeptAs = Callable[[PgType, int], Kept]
"""What a destination makes of a type with a modifier, when a mapping does not say otherwise."""


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type, or a family of types, by a name for people."""

    name: str
    type: PgType
    typmod: int = -1

    @property
    def layout(self) -> Layout:
        return layout_of(self.type, self.typmod)

    @property
    def wire(self) -> str:
        """How values travel from PostgreSQL."""
        return "text" if self.layout.family is Family.OPAQUE else "binary"

    @property
    def outliers(self) -> str:
        """Values that its Arrow type does not hold; empty where it holds all."""
        return _OUTLIERS.get(self.layout.family, "")


TEXT: Final = "PostgreSQL's text"
_INFINITE: Final = "`infinity`, `-infinity`"
_OUTLIERS: Final[dict[Family, str]] = {
    Family.DATE: _INFINITE,
    Family.TIME: "`24:00:00`",
    Family.TIMESTAMP: f"{_INFINITE}, after 294247-01-10",
    Family.TIMESTAMPTZ: f"{_INFINITE}, after 294247-01-10",
    Family.DECIMAL: "`NaN`",
    Family.INTERVAL: f"{_INFINITE}, more than 292 years of hours",
    Family.LIST: "several dimensions, other bounds, an element that is an outlier",
}
_TEXTUAL: Final = frozenset({Family.STRING, Family.CHAR, Family.JSONB})
"""Types that are text by themselves."""
_EXTENSIONS: Final = (
    ("citext", "citext"),
    ("hstore", "hstore"),
    ("ltree", "ltree"),
    ("ltree", "lquery"),
    ("ltree", "ltxtquery"),
    ("vector", "vector"),
    ("vector", "halfvec"),
    ("vector", "sparsevec"),
    ("postgis", "geometry"),
    ("postgis", "geography"),
)


def is_printed(layout: Layout) -> bool:
    """True where Arrow has PostgreSQL's text of what is no text in PostgreSQL."""
    return bool(pa.types.is_string(layout.arrow)) and layout.family not in _TEXTUAL


def printed(layout: Layout) -> str:
    """`TEXT` where that is what a text column holds."""
    return TEXT if is_printed(layout) else ""


def type_rows() -> Iterator[TypeRow]:
    """Every type a column can have, families of them once; those with a binary form first."""
    usable = (one for one in builtin_types() if one.name != "gtsvector")  # of indexes only: it cannot be written
    for one in sorted(usable, key=lambda one: layout_of(one).family is Family.OPAQUE):
        if one.name == "numeric":
            for precision in (38, 76, 77):
                label = {38: "numeric(p,s), p ≤ 38", 76: "numeric(p,s), p ≤ 76", 77: "numeric(p,s), p > 76"}[precision]
                yield TypeRow(label, one, numeric_typmod(precision, 2))
            yield TypeRow("numeric", one)
        else:
            yield TypeRow(f'"{one.name}"' if one.name == "char" else one.name, one)
    yield TypeRow("enums", PgType(100_000, "mood", "public", TypeKind.ENUM))
    for extension, name in _EXTENSIONS:
        yield TypeRow(f"{name} ({extension})", PgType(100_001, name, "public", extension=extension))
    yield TypeRow("domains over int4", PgType(100_002, "positive", "public", TypeKind.DOMAIN, base=named_type("int4")))
    for label, element in (("arrays of a type with binary wire", "int4"), ("arrays of any other type", "point")):
        inner = named_type(element)
        assert inner is not None, f"{element} is a type of pg_catalog"
        array = array_of(inner)
        assert array is not None, f"{element} has an array type"
        yield TypeRow(label, array)
    yield TypeRow("composite types", PgType(100_003, "pair", "public", TypeKind.COMPOSITE))
    yield TypeRow("ranges and multiranges of your own", PgType(100_004, "floatrange", "public", TypeKind.RANGE))
    yield TypeRow("types of other extensions", PgType(100_005, "cube", "public", extension="cube"))


__all__ = ["TEXT", "Kept", "KeptAs", "TypeRow", "is_printed", "printed", "type_rows"]
