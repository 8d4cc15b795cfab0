"""One seed: make tables, change them, decode in binary, as text and by COPY, and compare with the server's own text.

Everything is decoded twice, with memory poisoned otherwise, and must be the same to the last byte.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from psycopg import sql

from tests.oracle.model import Contents, copied
from tests.oracle.tables import Table, Worker, make_types
from tests.poison import NEGATIVE, noise, poisoned, written
from tests.wallaby.pgoutput.streams import waiting
from wallaby.lsn import Lsn
from wallaby.pgoutput.copy_decoder import CopyDecoder, copy_select_expression
from wallaby.pgoutput.decoder import Decoder, Event, Segment
from wallaby.pgoutput.relations import Relation, SchemaResolver
from wallaby.postgres.catalog import Catalog
from wallaby.postgres.connect import connect
from wallaby.schema import TableName, TableSchema
from wallaby.testing.pgoutput_writer import frame, frames, xlog
from wallaby.testing.postgres import ScratchDatabase

_Content = Counter[tuple[tuple[str, str | None], ...]]


@dataclass(frozen=True, slots=True)
class Tally:
    """What one seed compared."""

    tables: int
    changes: int
    cells: int
    """Cells of the rows at the end, each compared four times where it may travel in binary."""


class Oracle:
    """One database with the oracle's types, for any number of seeds. One thread."""

    def __init__(self, database: ScratchDatabase, major: int) -> None:
        self._dsn = database.dsn
        self._major = major
        self._connection = connect(database.dsn, application_name="oracle")
        self._has_vector = make_types(self._connection)

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def check(self, seed: int) -> Tally:
        """AssertionError with the seed and what differs (values of the oracle's own making), else what was compared."""
        rng = random.Random(seed)
        schema = f"oracle {seed}"
        worker = Worker(self._connection, schema, rng, self._major, has_vector=self._has_vector)
        worker.create(rng.randint(1, 4))
        try:
            return self._check(worker, schema, rng, seed)
        except Exception as error:
            error.add_note(f"seed {seed}, PostgreSQL {self._major}; {_described(worker.tables)}")
            raise
        finally:
            for statement in ("DROP PUBLICATION IF EXISTS everything", "DROP PUBLICATION IF EXISTS kernels"):
                self._connection.execute(statement.encode())
            self._connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))

    def _check(self, worker: Worker, schema: str, rng: random.Random, seed: int) -> Tally:
        self._publish("everything", worker.tables)
        kernels = [table for table in worker.tables if table.is_binary]
        self._publish("kernels", kernels)
        with self._slot():
            worker.work(rng.choice([5, 20, 60]))
            self.flush(schema)
            binary = self._peek("kernels", is_binary=True)
            text = self._peek("everything", is_binary=False)
            streamed = self._peek_streamed("everything")
        in_binary, as_text = self._decode(binary, rng), self._decode(text, rng)
        as_streamed = self._decode(streamed, rng)
        cells = 0
        for table in worker.tables:
            expected = self._expected(table)
            cells += sum(expected.values()) * len(table.columns)
            name = TableName(schema, table.plain_name)
            names = [column.name for column in table.columns]
            where = f"seed {seed}, PostgreSQL {self._major}, {table.plain_name}"
            require_equal(as_text.content(name, names), expected, f"{where}, text")
            require_equal(as_streamed.content(name, names), expected, f"{where}, text, streamed")
            if table in kernels:
                require_equal(in_binary.content(name, names), expected, f"{where}, binary")
            require_equal(self._copied(name), expected, f"{where}, copied")
        return Tally(len(worker.tables), len(binary) + len(text) + len(streamed), cells)

    def flush(self, schema: str) -> None:
        """Let the WAL be read to its end.

        A rollback does not flush its record, and reading goes no further than what is flushed: a streamed transaction
        that was the last to happen would still be open there. Any commit flushes all before it.
        """
        self._connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS 'worked'").format(sql.Identifier(schema)))

    def _publish(self, publication: str, tables: list[Table]) -> None:
        statement = sql.SQL("CREATE PUBLICATION {}").format(sql.Identifier(publication))
        if tables:
            names = sql.SQL(", ").join(table.name for table in tables)
            statement = sql.SQL("{} FOR TABLE {}").format(statement, names)
        self._connection.execute(statement)

    @contextmanager
    def _slot(self) -> Iterator[None]:
        self._connection.execute("SELECT pg_create_logical_replication_slot('oracle', 'pgoutput')")
        try:
            yield
        finally:
            self._connection.execute("SELECT pg_drop_replication_slot('oracle')")

    def _peek(
        self, publication: str, *, is_binary: bool, streaming: str = "off", protocol: int = 1
    ) -> list[tuple[Lsn, bytes]]:
        options = ["proto_version", str(protocol), "publication_names", publication, "binary", str(is_binary).lower()]
        if streaming != "off":
            options += ["streaming", streaming]
        rows = self._connection.execute(
            "SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes('oracle', NULL, NULL, VARIADIC %s)",
            [options],
        ).fetchall()
        return [(Lsn.parse(lsn), data) for lsn, data in rows]

    def _peek_streamed(self, publication: str) -> list[tuple[Lsn, bytes]]:
        """As text, every transaction streamed as soon as it has changes (16+), or once it is larger than 64 kB."""
        with self._connection.transaction():
            if self._major >= 16:
                self._connection.execute("SET LOCAL debug_logical_replication_streaming = immediate")
                return self._peek(publication, is_binary=False, streaming="parallel", protocol=4)
            self._connection.execute("SET LOCAL logical_decoding_work_mem = '64kB'")
            return self._peek(publication, is_binary=False, streaming="on", protocol=2)

    def _decode(self, messages: list[tuple[Lsn, bytes]], rng: random.Random) -> Contents:
        """Fed in pieces cut anywhere."""
        data = frames(xlog(message, int(lsn)) for lsn, message in messages)
        cuts = sorted(rng.randint(0, len(data)) for _ in range(rng.choice([0, 1, 3, 20])))
        catalog = Catalog(self._dsn)
        schemas: list[TableSchema] = []

        def resolve(relation: Relation) -> TableSchema:
            schemas.append(catalog.resolve(relation))
            return schemas[-1]

        with closing(catalog), poisoned(NEGATIVE):
            events = _decode_pieces(data, cuts, resolve)
        answers = iter(schemas)
        with poisoned(noise(len(data))):
            again = _decode_pieces(data, cuts, lambda _: next(answers))
        assert _written(events) == _written(again), f"what is decoded depends on what memory held; cut at {cuts}"
        contents = Contents()
        contents.apply(events)
        return contents

    def _expected(self, table: Table) -> _Content:
        """Every row as the output functions print it (a cast to text is another thing for some types)."""
        names = [column.name for column in table.columns]
        printed = [
            sql.SQL("CASE WHEN num_nulls({0}) = 0 THEN format('%s', {0}) END").format(sql.Identifier(name))
            for name in names
        ]
        query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(printed), table.name)
        rows = self._connection.execute(query).fetchall()
        return Counter(tuple(sorted(zip(names, row, strict=True))) for row in rows)

    def _copied(self, name: TableName) -> _Content:
        catalog = Catalog(self._dsn)
        try:
            [schema] = [found for found in catalog.published_tables(["everything"]) if found.name == name]
        finally:
            catalog.close()
        columns = ", ".join(copy_select_expression(column) for column in schema.columns)
        query = f"COPY (SELECT {columns} FROM {schema.name}) TO STDOUT (FORMAT binary)"
        with self._connection.cursor() as cursor, cursor.copy(query.encode()) as copy:
            data = np.frombuffer(b"".join(frame(bytes(payload)) for payload in copy), np.uint8)
        with poisoned(NEGATIVE):
            batch = _copy_batch(schema, data)
        with poisoned(noise(len(data))):
            again = _copy_batch(schema, data)
        if batch is not None and again is not None:
            assert written([batch]) == written([again]), f"what is copied of {name} depends on what memory held"
        return copied(schema, batch)


def _decode_pieces(data: npt.NDArray[np.uint8], cuts: list[int], resolve: SchemaResolver) -> list[Event]:
    decoder = Decoder(resolve)
    events: list[Event] = []
    at = 0
    for cut in [*cuts, len(data)]:
        is_cut_reached = False
        while not is_cut_reached:
            consumed, found = decoder.feed(data, at, max(cut, at))
            at += consumed
            events += found
            is_cut_reached = not decoder.has_backlog
    assert at == len(data), f"{at} bytes of {len(data)} were read; cut at {cuts}"
    assert not decoder.in_transaction, f"a transaction is open at the end; cut at {cuts}"
    assert waiting(decoder) == (0, 0), f"{waiting(decoder)} transactions wait at the end; cut at {cuts}"
    return events


def _copy_batch(schema: TableSchema, data: npt.NDArray[np.uint8]) -> pa.RecordBatch | None:
    decoder = CopyDecoder(schema, snapshot_lsn=Lsn(1), taken_at_us=0)
    consumed, batch = decoder.feed(data, 0, len(data))
    assert consumed == len(data), f"{consumed} bytes of {len(data)} were read"
    assert decoder.is_finished, "the copy has no end"
    return batch


def _written(events: list[Event]) -> list[object]:
    """Everything of the events that can be compared."""
    found: list[object] = []
    for event in events:
        if isinstance(event, Segment):
            found += [event.upto, event.rows, *written(batch for _, batch in event.parts)]
        else:
            found.append(event)
    return found


def _described(tables: list[Table]) -> str:
    return "; ".join(
        f"{table.plain_name} ({', '.join(f'{column.name!r} {column.type.sql}' for column in table.columns)})"
        for table in tables
    )


def require_equal(found: _Content, expected: _Content, where: str) -> None:
    """AssertionError with the cells of rows that are not the server's, beside those of the row nearest to each."""
    if found == expected:
        return
    ours, theirs = list((found - expected).elements()), list((expected - found).elements())
    lines = [f"{where}: {len(ours)} rows we have and the server has not, {len(theirs)} the other way"]
    for mine in map(dict, ours[:20]):
        nearest = min(map(dict, theirs), key=lambda row: sum(row.get(name) != mine[name] for name in mine), default={})
        for name in [name for name in mine if mine[name] != nearest.get(name)]:
            lines.append(f"  {name!r}: {_difference(mine[name], nearest.get(name, 'missing'))}")
    lines += [f"  the server alone has {str(row)[:500]}" for row in theirs[: 0 if ours else 3]]
    raise AssertionError("\n".join(lines))


def _difference(mine: str | None, wanted: str | None) -> str:
    """Both values from a little before where they begin to differ."""
    if mine is None or wanted is None:
        return f"{str(mine)[:200]!r} is {str(wanted)[:200]!r}"
    same = next((i for i, pair in enumerate(zip(mine, wanted, strict=False)) if pair[0] != pair[1]), len(mine))
    begin = max(same - 20, 0)
    place = f" from character {begin} on" if begin else ""
    return f"{mine[begin : begin + 200]!r} is {wanted[begin : begin + 200]!r}{place}"
