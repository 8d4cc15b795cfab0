"""Mapped columns arrive in every real destination as the conversion says, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sinks.type_table import DESTINATIONS
from tests.sinks.lane import TestLane
from tests.sinks.place import Place, new_place
from wallaby.content import canonical_hash
from wallaby.errors import Refused, RowRefused
from wallaby.pgtypes.builtin import named_type
from wallaby.schema import TableSchema
from wallaby.sink import Severity, Sink
from wallaby.testing.changes import Outlier, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table
from wallaby.window import LaneId

LANE = LaneId("mapped", "target")
SOURCE = table(
    "public.mapped",
    {
        "id": "int8",
        "price": "numeric(10,2)",
        "count": "int8",
        "ratio": "float8",
        "at": "timestamptz",
        "free": "numeric",
        "ident": "uuid",
        "small": "int2[]",
    },
    key=["id"],
)
TARGETS: dict[str, dict[str, str]] = {
    "postgres": {
        "numeric(10,2)": "numeric(9,1)",
        "int8": "numeric(20,0)",
        "float8": "real",
        "timestamptz": "date",
        "numeric": "double precision",
        "uuid": "text",
        "int2[]": "bigint[]",
    },
    "duckdb": {
        "numeric(10,2)": "DECIMAL(9,1)",
        "int8": "DECIMAL(20,0)",
        "float8": "FLOAT",
        "timestamptz": "DATE",
        "numeric": "DOUBLE",
        "uuid": "VARCHAR",
        "int2[]": "BIGINT[]",
    },
    "ducklake": {
        "numeric(10,2)": "DECIMAL(9,1)",
        "int8": "DECIMAL(20,0)",
        "float8": "FLOAT",
        "timestamptz": "DATE",
        "numeric": "DOUBLE",
        "uuid": "VARCHAR",
        "int2[]": "BIGINT[]",
    },
    "delta": {
        "numeric(10,2)": "decimal(9,1)",
        "int8": "decimal(20,0)",
        "float8": "float",
        "timestamptz": "date",
        "numeric": "double",
        "uuid": "string",
        "int2[]": "array<long>",
    },
    "iceberg": {
        "numeric(10,2)": "decimal(9,1)",
        "int8": "decimal(20,0)",
        "float8": "float",
        "timestamptz": "date",
        "numeric": "double",
        "uuid": "string",
        "int2[]": "list<long>",
    },
    "files": {
        "numeric(10,2)": "decimal(9,1)",
        "int8": "decimal(20,0)",
        "float8": "float",
        "timestamptz": "date",
        "numeric": "double",
        "uuid": "string",
        "int2[]": "list<int64>",
    },
}
"""The same PostgreSQL types behind every destination's own names."""
AFTER = table(
    "public.mapped",
    {
        "id": "numeric(20,0)",
        "price": "numeric(9,1)",
        "count": "numeric(20,0)",
        "ratio": "float4",
        "at": "date",
        "free": "float8",
        "ident": "text",
        "small": "int8[]",
    },
    key=["id"],
)
LOSSES = ("price", "ratio", "at", "free")
"""Columns of `SOURCE` that need consent."""


@pytest.fixture(params=sorted(TARGETS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return new_place(request.param, tmp_path, request)


def mapped(place: Place, **more: Any) -> Sink:
    return place.sink(**{"type_mappings": TARGETS[place.kind], "lossy": "*.*.*", **more})


UUID = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def row(number: int, price: Any = "1.25", count: int = 7, ratio: float = 0.1, **more: Any) -> tuple[Any, ...]:
    given = {"at": 1_700_000_000_123_456, "free": "2.5", "ident": UUID, "small": [1, None]} | more
    return (number, Decimal(price) if isinstance(price, str) else price, count, ratio, *given.values())


def test_mapped_rows_arrive_as_their_conversions_say(place: Place) -> None:
    """Inserts, updates with an unchanged cell, a moved key and a delete; compared by content hash."""
    windows = windows_of(
        [(SOURCE, insert(*row(1))), (SOURCE, insert(*row(2, "99.95"))), (SOURCE, insert(*row(3)))],
        [
            (SOURCE, update(*row(1, "-1.25", 2**62, free="0.1"), unchanged=["ident"])),
            (SOURCE, update(*row(4, None), old=(2,))),
            (SOURCE, delete(3)),
        ],
    )
    TestLane(mapped(place), LANE).apply_all(windows, commit_every=len(windows))
    number = 0.10000000149011612  # the float nearest to 0.1
    expected = [
        (Decimal(1), Decimal("-1.3"), Decimal(2**62), number, 19_675, 0.1, UUID_TEXT, [1, None]),
        (Decimal(4), None, Decimal(7), number, 19_675, 2.5, UUID_TEXT, [1, None]),
    ]
    assert canonical_hash(place.read(AFTER)) == canonical_hash(row_table(AFTER, expected))


def test_values_that_fit_the_new_type_only_are_placed(place: Place) -> None:
    """NaN has no place among decimals of Arrow; mapped to text, or a double, it is itself."""
    kind = TARGETS[place.kind]
    sink = mapped(place, type_mappings={"numeric(10,2)": kind["numeric"], "timestamptz": kind["uuid"]})
    TestLane(sink, LANE).apply_all(windows_of([(SOURCE, insert(*row(1, Outlier("NaN"), at=Outlier("infinity"))))]))
    after = dataclasses.replace(
        SOURCE,
        columns=tuple(
            dataclasses.replace(column, type=named(AFTER, other), typmod=-1) if other else column
            for column, other in zip(SOURCE.columns, (0, "free", 0, 0, "ident", 0, 0, 0), strict=True)
        ),
    )
    read = place.read(after)
    assert str(read["price"][0].as_py()) == "nan"
    assert read["at"].to_pylist() == ["infinity"]


def named(schema: TableSchema, name: object) -> Any:
    return next(column.type for column in schema.columns if column.name == name)


@pytest.mark.must_not_fail(12)
def test_a_value_that_does_not_fit_is_refused_with_its_row_and_named_by_its_column(place: Place) -> None:
    kind = TARGETS[place.kind]
    sink = mapped(place, type_mappings={"int8[]": kind["uuid"], "numeric(10,2)": kind["numeric(10,2)"]})
    lane = TestLane(sink, LANE)
    [window] = windows_of([(SOURCE, insert(*row(1, "99999999.99")))])
    with pytest.raises(RowRefused) as caught:  # rounded: a digit more than its nine
        lane.write(window)
    assert caught.value.where == {"table": "public.mapped", "column": "price"}
    assert "9999" not in str(caught.value)
    assert caught.value.__cause__ is None
    lane.writer.abort()
    [good] = windows_of([(SOURCE, insert(*row(1)))])
    lane.apply(good)


@pytest.mark.must_not_fail(12)
def test_a_loss_without_consent_is_refused_before_any_row(place: Place) -> None:
    sink = mapped(place, lossy="")
    [finding] = [found for found in sink.check((SOURCE,)) if found.code == "lossy-type"]
    assert finding.severity is Severity.ERROR
    assert finding.advice.endswith("lossy: [" + ", ".join(f"'public.mapped.{name}'" for name in LOSSES) + "]")
    with pytest.raises(Refused, match="loses something"):
        sink.ensure_table(SOURCE)
    agreed = mapped(place, lossy=[f"public.mapped.{name}" for name in LOSSES])
    assert {found.severity for found in agreed.check((SOURCE,)) if found.code == "lossy-type"} == {Severity.INFO}
    agreed.ensure_table(SOURCE)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_every_name_means_a_type_the_destination_prints_by_that_name(kind: str) -> None:
    """What a user writes is what the destination's own mapping makes of the PostgreSQL type behind it."""
    destination = DESTINATIONS[kind]
    printed = set()
    for name, word in destination.names.names.items():
        found = named_type(word)
        assert found is not None
        made = destination.of(found, -1).target.lower()
        printed.add(made)
        assert destination.names.read(made) == destination.names.read(name), f"{name} is printed {made}"
    assert len(printed) > 5
