"""Mapped columns arrive in every real destination as the conversion says, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_mirror
from sinks.duckdb.reader import mirror_rows as duckdb_rows
from sinks.files.reader import read_log as files_log
from sinks.iceberg.reader import mirror_rows as iceberg_rows
from tests.sinks.iceberg.lake import Lake
from tests.sinks.postgres.conftest import read_rows
from wallaby.content import canonical_hash
from wallaby.endpoints import sink_factory
from wallaby.errors import Refused, RowRefused
from wallaby.lsn import START
from wallaby.schema import TableSchema
from wallaby.sink import Severity, Sink
from wallaby.testing.changes import Outlier, delete, insert, table, update
from wallaby.testing.contract.hooks import windows_of
from wallaby.testing.history import row_table
from wallaby.testing.postgres import ScratchDatabase
from wallaby.transform.state import derive_state
from wallaby.window import CommitToken, LaneId, Window

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


class Place:
    """A new destination of one type: its options, and how a user reads the table."""

    def __init__(self, kind: str, options: dict[str, Any], read: Callable[[TableSchema], pa.Table]) -> None:
        self.kind = kind
        self.options = options
        self.read = read
        self.sinks: list[Sink] = []

    def sink(self, **more: Any) -> Sink:
        options = {**self.options, "type_mappings": TARGETS[self.kind], "lossy": "*.*.*", **more}
        made = sink_factory(self.kind).create(options, destination="target")
        made.open()
        self.sinks.append(made)
        return made


@pytest.fixture(params=sorted(TARGETS))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = _place(request.param, tmp_path, request)
    yield made
    for sink in made.sinks:
        sink.close()


def _place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    match kind:
        case "postgres":
            database: ScratchDatabase = request.getfixturevalue("target_database")
            return Place(kind, {"dsn": database.dsn}, lambda schema: read_rows(database, schema))
        case "duckdb":
            file = folder / "target.duckdb"

            def read(schema: TableSchema) -> pa.Table:
                made.sinks[-1].close()
                with duckdb.connect(str(file)) as connection:
                    connection.execute("SET TimeZone = 'UTC'; SET arrow_lossless_conversion = true")
                    return duckdb_rows(connection, schema)

            made = Place(kind, {"dsn": str(file)}, read)
            return made
        case "delta":
            options = {"path": str(folder)}
            return Place(kind, options, lambda schema: read_mirror(DeltaOptions.parse(options), schema))
        case "iceberg":
            lake = Lake(folder)
            request.addfinalizer(lake.close)
            return Place(
                kind,
                lake.options(),
                lambda schema: iceberg_rows(lake.catalog.load_table((schema.name.schema, schema.name.name)), schema),
            )
        case _:
            return Place(
                kind,
                {"path": str(folder), "write_mode": "append", "fsync": False},
                lambda schema: derive_state(schema, files_log(folder, schema.name.schema, schema.name.name)),
            )


def write(sink: Sink, *windows: Window) -> None:
    sink.ensure_table(SOURCE)
    position = sink.recover(LANE, 1)
    writer = sink.writer(LANE, 1)
    for window in windows:
        writer.write(window)
    writer.commit(CommitToken(LANE, 1, position, windows[-1].upto, sum(window.rows for window in windows)))


UUID = bytes(range(16))
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"


def row(number: int, price: Any = "1.25", count: int = 7, ratio: float = 0.1, **more: Any) -> tuple[Any, ...]:
    given = {"at": 1_700_000_000_123_456, "free": "2.5", "ident": UUID, "small": [1, None]} | more
    return (number, Decimal(price) if isinstance(price, str) else price, count, ratio, *given.values())


def test_mapped_rows_arrive_as_their_conversions_say(place: Place) -> None:
    """Inserts, updates with an unchanged cell, a moved key and a delete; compared by content hash."""
    sink = place.sink()
    write(
        sink,
        *windows_of(
            [(SOURCE, insert(*row(1))), (SOURCE, insert(*row(2, "99.95"))), (SOURCE, insert(*row(3)))],
            [
                (SOURCE, update(*row(1, "-1.25", 2**62, free="0.1"), unchanged=["ident"])),
                (SOURCE, update(*row(4, None), old=(2,))),
                (SOURCE, delete(3)),
            ],
        ),
    )
    number = 0.10000000149011612  # the float nearest to 0.1
    expected = [
        (Decimal(1), Decimal("-1.3"), Decimal(2**62), number, 19_675, 0.1, UUID_TEXT, [1, None]),
        (Decimal(4), None, Decimal(7), number, 19_675, 2.5, UUID_TEXT, [1, None]),
    ]
    assert canonical_hash(place.read(AFTER)) == canonical_hash(row_table(AFTER, expected))


def test_values_that_fit_the_new_type_only_are_placed(place: Place) -> None:
    """NaN has no place among decimals of Arrow; mapped to text, or a double, it is itself."""
    kind = TARGETS[place.kind]
    sink = place.sink(type_mappings={"numeric(10,2)": kind["numeric"], "timestamptz": kind["uuid"]})
    write(sink, *windows_of([(SOURCE, insert(*row(1, Outlier("NaN"), at=Outlier("infinity"))))]))
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
    sink = place.sink(type_mappings={"int8[]": kind["uuid"], "numeric(10,2)": kind["numeric(10,2)"]})
    sink.ensure_table(SOURCE)
    sink.recover(LANE, 1)
    writer = sink.writer(LANE, 1)
    [window] = windows_of([(SOURCE, insert(*row(1, "99999999.99")))])
    with pytest.raises(RowRefused) as caught:  # rounded: a digit more than its nine
        writer.write(window)
    assert caught.value.where == {"table": "public.mapped", "column": "price"}
    assert "9999" not in str(caught.value)
    assert caught.value.__cause__ is None
    writer.abort()
    [good] = windows_of([(SOURCE, insert(*row(1)))])
    writer.write(good)
    writer.commit(CommitToken(LANE, 1, START, good.upto, 1))


@pytest.mark.must_not_fail(12)
def test_a_loss_without_consent_is_refused_before_any_row(place: Place) -> None:
    sink = place.sink(lossy="")
    [finding] = [found for found in sink.check((SOURCE,)) if found.code == "lossy-type"]
    assert finding.severity is Severity.ERROR
    assert finding.advice.endswith("lossy: [" + ", ".join(f"'public.mapped.{name}'" for name in LOSSES) + "]")
    with pytest.raises(Refused, match="loses something"):
        sink.ensure_table(SOURCE)
    agreed = place.sink(lossy=[f"public.mapped.{name}" for name in LOSSES])
    assert {found.severity for found in agreed.check((SOURCE,)) if found.code == "lossy-type"} == {Severity.INFO}
    agreed.ensure_table(SOURCE)
