"""What a sink's test class tells the contract about its destination, and how the contract drives a sink."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa
import pytest

from wallaby.content import canonical_hash
from wallaby.errors import WallabyError
from wallaby.lsn import Lsn, Position
from wallaby.schema import TableName, TableSchema
from wallaby.sink import Sink, SinkWriter, WriteMode
from wallaby.testing.changes import Stream, table
from wallaby.testing.history import RandomHistory, multiset, shop_tables
from wallaby.testing.versions import current_rows, expected_versions
from wallaby.transform.mirror import OUTLIERS
from wallaby.transform.state import derive_state
from wallaby.versions import VersionColumns
from wallaby.window import CommitToken, LaneId, Receipt, Window

ORDERS: Final = table(
    "public.orders", {"id": "int8", "note": "text", "payload": "jsonb", "total": "numeric(12,2)"}, key=["id"]
)
PARCELS: Final = table("public.parcels", {"id": "int4", "note": "text", "size": "int4"}, key=["id"])
LANE: Final = LaneId("contract", "target")
FIRST_EPOCH: Final = 3
VERSIONS: Final = VersionColumns()

_IN_EVERY_MODE: Final = frozenset(
    {"CommitContract", "CrashContract", "RaceContract", "ModesContract", "IdentityContract"}
)


class SinkHooks:
    """Override the methods below in the sink's test class; each test gets a new, empty destination.

    Set the destination up in an autouse fixture or ``setup_method`` of the subclass.
    """

    modes: ClassVar[tuple[WriteMode, ...]] = (WriteMode.MIRROR, WriteMode.APPEND)
    """The modes the sink claims; `Capabilities.modes` must say the same."""
    seeds: ClassVar[int] = 10
    """How many random histories to replay per mode; the environment's ``WALLABY_CONTRACT_SEEDS`` wins."""
    bulk_rows: ClassVar[int] = 100_000
    """Size of the large window."""

    def make_sink(self, *, mode: WriteMode) -> Sink:
        """A new, unopened sink on the same destination, as another process would make it. Called repeatedly.

        `ConfigError` for a mode the sink does not have.
        """
        raise NotImplementedError

    def read_table(self, schema: TableSchema) -> pa.Table:
        """What a user sees in a mirror's target: ``schema``'s columns, by a connection of its own.

        Types may differ from the source's where `wallaby.content.value_texts` prints them alike; a value the Arrow type
        cannot hold is text in PostgreSQL's form, either in a string column or in a last column ``__outliers``.
        """
        raise NotImplementedError

    def read_log(self, schema: TableSchema) -> pa.Table:
        """What a user sees in an append log: the columns of `wallaby.transform.append.append_schema`."""
        raise NotImplementedError

    def read_history(self, schema: TableSchema) -> pa.Table:
        """What a user sees in a history: the columns of `wallaby.transform.history.history_schema`, and ``__outliers``

        anywhere among them as in `read_table`.
        """
        raise NotImplementedError

    def crash(self, sink: Sink) -> None:
        """Drop ``sink`` as SIGKILL would: connections end, nothing is closed in order. It is not used afterwards."""

    def make_misfit(self, schema: TableSchema) -> bool:
        """Make, by the destination's own means, a target of that name whose first non-key column has a type ``schema``

        cannot go to. False when this destination cannot have one (the test is skipped).
        """
        return False

    def make_foreign(self, schema: TableSchema, rows: pa.Table) -> bool:
        """Make, by the destination's own means, a fitting target that holds ``rows``. False when it cannot have one."""
        return False

    def refused_shape(self, schema: TableSchema) -> TableSchema | None:
        """A later version of ``schema`` the sink refuses to go to; None when it takes any."""
        return None

    # How the tests below drive a sink.

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Each test in each mode of the sink, histories in each seed.

        In mode history only those that kill, race and replay, beside `HistoryContract`; all of them when
        ``WALLABY_CONTRACT_SEEDS`` asks for the whole.
        """
        asked = os.environ.get("WALLABY_CONTRACT_SEEDS")
        group = metafunc.function.__qualname__.partition(".")[0]
        if "mode" in metafunc.fixturenames:
            is_left_out = asked is None and group not in _IN_EVERY_MODE
            modes = [mode for mode in self.modes if mode is not WriteMode.HISTORY or not is_left_out]
            metafunc.parametrize("mode", modes, ids=str)
        if "seed" in metafunc.fixturenames:
            metafunc.parametrize("seed", range(int(asked or self.seeds)))

    def start(
        self,
        mode: WriteMode,
        tables: Iterable[TableSchema] = (),
        *,
        epoch: int = FIRST_EPOCH,
        lane: LaneId = LANE,
    ) -> Process:
        """A process that opened the sink, made the tables, recovered, and holds the lane's writer."""
        sink = self.make_sink(mode=mode)
        sink.open()
        for schema in tables:
            sink.ensure_table(schema)
        at = sink.recover(lane, epoch)
        return Process(sink, sink.writer(lane, epoch), lane, epoch, at)

    def content(self, schema: TableSchema, mode: WriteMode) -> pa.Table:
        """The rows the target stands for, whichever mode."""
        match mode:
            case WriteMode.MIRROR:
                return self.read_table(schema)
            case WriteMode.APPEND:
                return derive_state(schema, self.read_log(schema))
            case WriteMode.HISTORY:
                return current_rows(schema, self.read_history(schema), VERSIONS)

    def assert_content(self, schema: TableSchema, mode: WriteMode, expected: pa.Table, moment: str = "") -> None:
        """The target's rows are ``expected``, by content hash."""
        self._assert_equal(schema, self.content(schema, mode), expected, moment)

    def assert_versions(self, schema: TableSchema, stream: Stream, moment: str = "") -> None:
        """The target's history is that of ``stream``, by content hash."""
        self.assert_same_versions(schema, expected_versions(stream, schema, VERSIONS), moment)

    def assert_same_versions(self, schema: TableSchema, expected: pa.Table, moment: str = "") -> None:
        """The target's history is ``expected`` (`wallaby.testing.versions.version_table`), by content hash."""
        names = [*(column.name for column in schema.columns), *VERSIONS.names]
        found, expected = (
            rows.select([*names, *({OUTLIERS} & set(rows.column_names))])
            for rows in (self.read_history(schema), expected)
        )
        self._assert_equal(schema, found, expected, moment)

    def _assert_equal(self, schema: TableSchema, found: pa.Table, expected: pa.Table, moment: str) -> None:
        if canonical_hash(found) != canonical_hash(expected):
            surplus, lost = multiset(found) - multiset(expected), multiset(expected) - multiset(found)
            pytest.fail(f"{schema.name} {moment}: not expected {dict(surplus)}, missing {dict(lost)}")

    def assert_log_holds_each_change_once(self, schema: TableSchema) -> None:
        """No two rows of the log have the same place and operation."""
        log = self.read_log(schema).select(["__commit_lsn", "__ordinal", "__op"])
        once = log.group_by(log.column_names).aggregate([])
        assert len(once) == len(log), f"{len(log) - len(once)} changes of {schema.name} are in the log twice"


@dataclass(slots=True)
class Process:
    """One process's hold on the lane: the sink, its writer, and where the lane stands."""

    sink: Sink
    writer: SinkWriter
    lane: LaneId
    epoch: int
    at: Position
    staged_rows: int = 0

    def write(self, *windows: Window) -> None:
        for window in windows:
            self.writer.write(window)
            self.staged_rows += window.rows

    def token(self, upto: Position, *, after: Position | None = None) -> CommitToken:
        return CommitToken(self.lane, self.epoch, self.at if after is None else after, upto, self.staged_rows)

    def commit(self, upto: Position) -> Receipt:
        receipt = self.writer.commit(self.token(upto))
        assert receipt == Receipt(self.lane, upto, self.staged_rows), receipt
        self.at, self.staged_rows = upto, 0
        return receipt

    def apply(self, window: Window) -> Receipt:
        """Write and commit one window, or apply the barrier it is."""
        if window.barrier is None:
            self.write(window)
            return self.commit(window.upto)
        receipt = self.writer.apply_barrier(window.barrier, self.token(window.upto))
        self.at = receipt.upto
        return receipt

    def replay(self, windows: Sequence[Window], is_time_to_commit: Callable[[], bool]) -> None:
        """Apply ``windows`` in order, committing when told to, before barriers, and at the end."""
        written = self.at
        for window in windows:
            if window.barrier is not None:
                if self.at != written:
                    self.commit(written)
                self.apply(window)
            else:
                self.write(window)
                if is_time_to_commit():
                    self.commit(window.upto)
            written = window.upto
        if self.at != written:
            self.commit(written)


def story(transactions: int = 6, *, seed: int = 5) -> RandomHistory:
    """A little fixed history of ``ORDERS`` alone: one window per transaction, no copy, no truncate."""
    return RandomHistory(seed, [ORDERS], transactions=transactions, copied_rows=0, truncates=False)


def tables_for(mode: WriteMode) -> tuple[TableSchema, ...]:
    """Tables of every identity the mode takes."""
    return tuple(schema for schema in shop_tables() if schema.has_key or mode is not WriteMode.HISTORY)


def windows_of(*transactions: Sequence[Any]) -> list[Window]:
    """One window per transaction of the given steps (more around barriers)."""
    stream = Stream()
    for steps in transactions:
        stream.transaction(list(steps))
    return stream.windows()


def beyond(position: Position) -> Position:
    """A later place between transactions."""
    return Position(Lsn(position.lsn + 0x1000))


def raised(error: type[WallabyError], call: Callable[[], object]) -> WallabyError:
    """The error ``call`` raises, which must be of that very class; fails otherwise."""
    with pytest.raises(error) as caught:
        call()
    return caught.value


def named(name: str, *, schema: str = "public") -> TableName:
    return TableName(schema, name)
