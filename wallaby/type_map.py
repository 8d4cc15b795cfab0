"""``type_mappings`` and ``lossy`` of a destination: which columns become another type there, and what that costs.

A destination says which of its type names mean which PostgreSQL type (`TypeNames`). A mapped column is handed to its
sink as a column of that PostgreSQL type, with its values converted (`wallaby.transform.casts`): sinks know nothing of
mappings, and what they do with a type they do with a mapped one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from wallaby.content import value_texts
from wallaby.errors import Refused
from wallaby.flow.consent import ColumnPattern
from wallaby.flow.options import TypeOptions
from wallaby.flow.problems import InvalidFlow, Problem
from wallaby.pgtypes.builtin import array_of, named_type
from wallaby.pgtypes.layout import Layout, layout_of
from wallaby.pgtypes.numeric import numeric_typmod, precision_and_scale
from wallaby.schema import Column, PgType, TableSchema, TypeKind
from wallaby.sink import WriteMode
from wallaby.suggestion import nearest
from wallaby.transform.casts import Conversion, Fidelity, conversion

_DIGITS_MAX: Final = 38
_ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "bool": ("boolean",),
    "int2": ("smallint",),
    "int4": ("integer", "int"),
    "int8": ("bigint",),
    "float4": ("real",),
    "float8": ("double precision",),
    "numeric": ("decimal",),
    "varchar": ("character varying",),
    "bpchar": ("character", "char"),
    "timestamp": ("timestamp without time zone",),
    "timestamptz": ("timestamp with time zone",),
    "time": ("time without time zone",),
    "timetz": ("time with time zone",),
    "varbit": ("bit varying",),
}
"""What SQL calls them besides ``pg_type.typname``."""


@dataclass(frozen=True, slots=True)
class TargetType:
    """A PostgreSQL type that stands for a destination's."""

    type: PgType
    typmod: int = -1

    @property
    def layout(self) -> Layout:
        return layout_of(self.type, self.typmod)


@dataclass(frozen=True, slots=True)
class TypeNames:
    """A destination's type names, in lower case, and what each means; ``decimal`` takes a precision and a scale.

    ``array`` is the way it writes a list, with ``{}`` for the element: ``{}[]``, ``list<{}>``.
    """

    names: Mapping[str, str]
    decimal: str
    array: str
    digits_max: int = _DIGITS_MAX

    def read(self, text: str) -> TargetType | None:
        """The type of that name; None when the destination has none."""
        name = " ".join(text.lower().split())
        before, _, after = self.array.partition("{}")
        if name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after):
            inner = self.read(name[len(before) : len(name) - len(after)])
            found = None if inner is None else array_of(inner.type)
            return None if inner is None or found is None else TargetType(found, inner.typmod)
        if name in self.names:
            known = named_type(self.names[name])
            assert known is not None, f"{self.names[name]} is no type of pg_catalog"
            return TargetType(known)
        return self._decimal(name.replace(" ", ""))

    def _decimal(self, name: str) -> TargetType | None:
        if not (name.startswith(f"{self.decimal}(") and name.endswith(")")):
            return None
        figures = name[len(self.decimal) + 1 : -1].split(",")
        if not 1 <= len(figures) <= 2 or not all(one.isascii() and one.isdigit() and len(one) < 4 for one in figures):
            return None
        precision, scale = int(figures[0]), int(figures[1]) if len(figures) == 2 else 0
        numeric = named_type("numeric")
        assert numeric is not None, "numeric is a type of pg_catalog"
        if not 1 <= precision <= self.digits_max or scale > precision:
            return None
        return TargetType(numeric, numeric_typmod(precision, scale))

    def known(self) -> tuple[str, ...]:
        """Every name, for a suggestion."""
        return (*self.names, f"{self.decimal}(p,s)")


@dataclass(frozen=True, slots=True)
class MappedColumn:
    """What a mapping makes of one column. ``name`` is the target type as the flow writes it."""

    before: Column
    after: Column
    name: str
    conversion: Conversion


@dataclass(frozen=True, slots=True)
class MappedTable:
    """A table as its sink sees it: ``columns`` by index, those that are mapped."""

    before: TableSchema
    after: TableSchema
    columns: Mapping[int, MappedColumn]


@dataclass(frozen=True, slots=True)
class TypeMap:
    """The mappings of one destination, and the columns for which the flow consents to loss."""

    targets: Mapping[str, tuple[str, TargetType]]
    consent: tuple[ColumnPattern, ...]
    write_mode: WriteMode

    @classmethod
    def of(cls, options: TypeOptions, names: TypeNames) -> TypeMap:
        """From a destination's options. Reads ``type_mappings_file``, once.

        `ConfigError` with the field's path for a file that cannot be read and for type names the destination lacks.
        """
        targets: dict[str, tuple[str, TargetType]] = {}
        problems: list[Problem] = []
        for key, (name, field) in options.all_type_mappings().items():
            target = names.read(name)
            if target is None:
                problems.append(Problem(field, "names a type the destination does not have", _suggestion(name, names)))
            else:
                targets[key] = (name, target)
        if problems:
            raise InvalidFlow(problems, what="options")
        return cls(targets, options.consent, options.write_mode)

    def table(self, schema: TableSchema) -> MappedTable:
        """``schema`` as the sink shall see it; `Refused` names every column that cannot be mapped, or not without
        consent, with the line that gives it."""
        mapped = self._columns(schema)
        refused = [f"column {one.before.name} as {one.name}: {one.conversion.reason}" for one in _unfit(mapped)]
        if refused:
            raise Refused(
                f"a type mapping is not possible: {'; '.join(refused)} (type-mapping)",
                advice="Change type_mappings for this type, or leave the column out of the publication",
                table=schema.name,
            )
        keys = [one.before.name for one in self._lossy(mapped) if one.before.is_key and schema.has_key]
        if keys and self.write_mode is WriteMode.MIRROR:
            raise Refused(
                f"a lossy type mapping would let keys meet: column {', '.join(keys)} (type-mapping)",
                advice="Map the key's type to one that holds all its values, or use write_mode append",
                table=schema.name,
            )
        unconsented = [one for one in self._lossy(mapped) if not self._consents(schema, one.before)]
        if unconsented:
            raise Refused(
                f"a type mapping loses something: {'; '.join(map(_loss, unconsented))} (lossy-type)",
                advice=f"If that is meant, add to the destination's options: {consent_line(schema, unconsented)}",
                table=schema.name,
            )
        columns = tuple(mapped[i].after if i in mapped else column for i, column in enumerate(schema.columns))
        return MappedTable(schema, replace(schema, columns=columns), mapped)

    def losses(self, schema: TableSchema) -> tuple[str, ...]:
        """What is lost with consent, a clause per column."""
        return tuple(map(_loss, self._lossy(self._columns(schema))))

    def _columns(self, schema: TableSchema) -> dict[int, MappedColumn]:
        found: dict[int, MappedColumn] = {}
        for i, column in enumerate(schema.columns):
            named = next((self.targets[key] for key in lookup_keys(column) if key in self.targets), None)
            if named is not None:
                found[i] = _mapped(column, *named)
        return found

    def _lossy(self, mapped: Mapping[int, MappedColumn]) -> list[MappedColumn]:
        return [one for one in mapped.values() if one.conversion.fidelity is Fidelity.LOSSY]

    def _consents(self, schema: TableSchema, column: Column) -> bool:
        return any(pattern.matches(schema.name, column.name) for pattern in self.consent)


def lookup_keys(column: Column) -> Iterator[str]:
    """The names a mapping may have for the column's type, the most particular first, lower-cased: the raw type with
    its modifier, the type, ``type[]`` of an array, ``schema.type``, ``ext:EXTENSION.type``, ``ext:EXTENSION``."""
    found = column.type
    is_array = found.kind is TypeKind.ARRAY and found.element is not None
    leaf = found.element if is_array and found.element is not None else found
    suffix = "[]" if is_array else ""
    names = (leaf.name, *(_ALIASES.get(leaf.name, ()) if leaf.schema == "pg_catalog" else ()))
    keys = [f"{name}{_modifier(leaf, column.typmod)}{suffix}" for name in names]
    keys += [found.name, *(f"{name}{suffix}" for name in names), f"{found.schema}.{found.name}"]
    keys += [f"{leaf.schema}.{name}{suffix}" for name in names]
    if leaf.extension:
        keys += [f"ext:{leaf.extension}.{leaf.name}{suffix}", f"ext:{leaf.extension}{suffix}"]
    yield from dict.fromkeys(key.lower() for key in keys)


def consent_line(schema: TableSchema, columns: Iterable[MappedColumn]) -> str:
    """The line of the flow file that consents."""
    patterns = (str(ColumnPattern(schema.name.schema, schema.name.name, one.before.name)) for one in columns)
    return "lossy: [" + ", ".join("'" + pattern.replace("'", "''") + "'" for pattern in patterns) + "]"


def _modifier(leaf: PgType, typmod: int) -> str:
    if typmod < 4 or leaf.schema != "pg_catalog":
        return ""
    if leaf.name in ("varchar", "bpchar"):
        return f"({typmod - 4})"
    declared = precision_and_scale(typmod)
    return f"({declared[0]},{declared[1]})" if leaf.name == "numeric" and declared else ""


def _mapped(column: Column, name: str, target: TargetType) -> MappedColumn:
    found = conversion(layout_of(column.type, column.typmod), target.layout, same=column.type == target.type)
    after = replace(column, type=target.type, typmod=target.typmod)
    if column.missing is not None and found.fidelity is not Fidelity.REFUSED:
        after = replace(after, missing=_missing(column, column.missing, found))
    return MappedColumn(column, after, name, found)


def _missing(column: Column, text: str, found: Conversion) -> str:
    """What older rows hold in an added column, converted as every other value."""
    arrow = layout_of(column.type, column.typmod).arrow
    try:
        [converted] = value_texts(found.cast(pa.array([text]).cast(arrow))).to_pylist()
    except pa.ArrowException:
        raise Refused(
            f"column {column.name} was added with a default for older rows, which its type mapping cannot convert",
            advice="Copy the table again with --resnapshot",
        ) from None
    return str(converted)


def _unfit(mapped: Mapping[int, MappedColumn]) -> list[MappedColumn]:
    return [one for one in mapped.values() if one.conversion.fidelity is Fidelity.REFUSED]


def _loss(one: MappedColumn) -> str:
    return f"column {one.before.name} as {one.name}: {one.conversion.reason}"


def _suggestion(name: str, names: TypeNames) -> str:
    return nearest(name.lower(), names.known())


__all__ = [
    "MappedColumn",
    "MappedTable",
    "TargetType",
    "TypeMap",
    "TypeNames",
    "consent_line",
    "lookup_keys",
]
