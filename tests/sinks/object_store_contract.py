"""What every log in an object store does: who wins a key, what is left behind, and what is said about a bad bucket.

Subclass `ObjectStoreContract` in a test module that has the fixtures of `StoreCase`.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from sinks.files.layout import FORMAT_KEY, OWN_FOLDER, encode_name
from sinks.files.manifests import EMPTY, Kind, ManifestLog, next_entry
from sinks.files.reader import committed_files, read_log
from sinks.objects import storage, store
from sinks.objects.storage import ObjectStorage
from tests.http_middleman import middleman
from tests.sinks.crashes import state_of, write_and_die
from tests.sinks.crashing_writer import history_of
from tests.sinks.lane import TestLane
from wallaby.errors import OutcomeUnknown, Refused, Superseded, Transient
from wallaby.lsn import START, Lsn, Position
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import Stream, insert, table
from wallaby.testing.history import multiset
from wallaby.testing.sink_contract import SinkContract
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])
PREFIX = "some/logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCase:
    """A store, a new and empty bucket of it, and a user's own way into that."""

    factory: Any
    module: ModuleType
    """The one with ``storage`` and what it takes of `sinks.objects.store`."""
    options: dict[str, Any]
    """What names the bucket, with `PREFIX`."""
    place: str
    """The option that names it."""
    listed: Callable[[], set[str]]
    """Keys of everything there, without the prefix."""
    put: Callable[[str, bytes], None]
    """Make an object at a key of the bucket."""

    def make(self, **options: Any) -> Sink:
        """A sink; close it."""
        made: Sink = self.factory.create({**self.options, **options}, destination="copy")
        return made

    @contextmanager
    def storage(self, **options: Any) -> Iterator[ObjectStorage]:
        """What is behind the sink, by itself."""
        with closing(self.module.storage(self.factory.read({**self.options, **options}))) as made:
            yield made

    def rows(self) -> int:
        """Of `ORDERS`, committed."""
        with self.storage() as storage:
            return int(read_log(storage, "public", "orders").num_rows)

    def committed(self) -> set[str]:
        """Keys of all committed files."""
        with self.storage() as storage:
            return {file.path for file in committed_files(storage)}

    def is_impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is tried twice from now on."""
        for name, value in (("ATTEMPTS", 1), ("RETRY_TIME", store.RETRY_TIME / 1000)):
            if hasattr(self.module, name):
                monkeypatch.setattr(self.module, name, value)


Make = Callable[..., Any]


def windows(count: int = 1) -> list[Window]:
    stream = Stream()
    for number in range(count):
        stream.transaction([(ORDERS, insert(number, f"note {number}"))])
    return stream.windows()


def die_and_compare(kind: str, case: StoreCase, *, deaths: int) -> None:
    """Have writers of the sink killed at seeded requests; then every committed change is there once, and no more."""
    choice = random.Random(deaths)
    places = [f"event:{choice.randrange(20, 400)}" for _ in range(deaths)]
    assert write_and_die(kind, case.options, 3, places) >= (deaths + 1) // 2
    history = history_of(3)
    with case.storage() as storage:
        for schema in history.tables:
            log = read_log(storage, schema.name.schema, schema.name.name)
            expected = history.expected(schema).select(range(len(schema.columns)))
            assert multiset(state_of(schema, log)) == multiset(expected)
    keys = case.listed()
    assert {key for key in keys if not key.startswith(OWN_FOLDER)} == case.committed()
    intents = {key for key in keys if key.startswith(f"{OWN_FOLDER}/staging")}
    assert len(intents) <= deaths, "one for each that died, kept for a day"


class Killed(BaseException):
    """As SIGKILL: nothing of the writer runs any more."""


class ObjectStoreContract:
    """Tests of any store; ``case`` is a fixture."""

    @pytest.fixture
    def make_sink(self, case: StoreCase) -> Iterator[Make]:
        with ExitStack() as made:
            yield lambda **options: made.enter_context(closing(case.make(**options)))

    @pytest.mark.must_not_fail(20)
    def test_of_racing_writers_exactly_one_gets_an_entry(self, case: StoreCase) -> None:
        start = threading.Barrier(6)
        won: list[int] = []

        def race(epoch: int) -> None:
            with case.storage() as own:
                log = ManifestLog(own, LANE)
                start.wait()
                if log.append(next_entry(EMPTY, Kind.COMMIT, epoch=epoch, upto=Position(Lsn(epoch)))):
                    won.append(epoch)

        racers = [threading.Thread(target=race, args=(epoch,)) for epoch in range(1, 7)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
        with case.storage() as own:
            assert [ManifestLog(own, LANE).last().epoch] == won

    @pytest.mark.must_not_fail(20)
    def test_a_superseded_writer_takes_its_objects_back(self, case: StoreCase, make_sink: Make) -> None:
        [first] = windows()
        old = TestLane(make_sink(), LANE, 1)
        old.write(first)
        new = TestLane(make_sink(), LANE, 2)
        with pytest.raises(Superseded):
            old.writer.commit(old.token(first.upto, 1))
        assert not [key for key in case.listed() if not key.startswith(OWN_FOLDER)]
        new.apply(first)
        assert case.rows() == 1

    @pytest.mark.must_not_fail(2)
    def test_a_creation_whose_answer_was_lost_knows_its_own_object(self, case: StoreCase) -> None:
        with middleman(case.options["endpoint"]) as between, case.storage(endpoint=between.address) as ours:
            between.answers_lost = 1
            assert ours.create("a", b"ours")
            assert between.answers_lost == 0
            assert not ours.create("a", b"others")
            assert ours.read("a") == b"ours"

    @pytest.mark.must_not_fail(2)
    def test_a_creation_that_is_never_answered_is_unknown(
        self, case: StoreCase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case.is_impatient(monkeypatch)
        with middleman(case.options["endpoint"]) as between, case.storage(endpoint=between.address) as ours:
            between.answers_lost = 100
            with pytest.raises(OutcomeUnknown) as unknown:
                ours.create("a", b"ours")
        assert unknown.value.advice
        assert case.options[case.place] in unknown.value.where.values()

    def test_an_object_that_no_manifest_came_to_name_is_removed_by_recovery(
        self, case: StoreCase, make_sink: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, second = windows(2)
        sink = make_sink()
        lane = TestLane(sink, LANE)
        lane.apply(first)
        lane.write(second)

        def lost(*_: object) -> bool:
            raise OutcomeUnknown("the store did not answer")

        monkeypatch.setattr(ManifestLog, "append", lost)
        with pytest.raises(OutcomeUnknown):
            lane.writer.commit(lane.token(second.upto, 1))
        monkeypatch.undo()
        assert len([key for key in case.listed() if key.endswith(".parquet")]) == 2
        assert list(sink._storage.scratch(LANE, 1).iterdir())
        assert sink.recover(LANE, 2) == first.upto
        assert not list(sink._storage.scratch(LANE, 2).iterdir())
        assert {key for key in case.listed() if key.endswith(".parquet")} == case.committed()
        assert case.rows() == 1

    @pytest.mark.must_not_fail(20)
    def test_what_a_writer_uploads_after_its_successor_tidied_a_later_tidy_removes(
        self, case: StoreCase, make_sink: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It had announced the object, slept, uploaded it when nobody looked any more, and died."""

        def data() -> set[str]:
            return {key for key in case.listed() if not key.startswith(OWN_FOLDER)}

        [window] = windows()
        late = make_sink()
        lane = TestLane(late, LANE, 1)
        lane.write(window)
        upload = late._storage._upload

        def slept(file: Any) -> None:
            assert make_sink().recover(LANE, 2) == START
            assert not data()
            upload(file)
            raise Killed

        late._storage._upload = slept
        with pytest.raises(Killed):
            lane.writer.commit(lane.token(window.upto, 1))
        assert len(data()) == 1
        successor = TestLane(make_sink(), LANE, 3)
        assert not data()
        successor.apply(window)
        assert data() == case.committed()
        monkeypatch.setattr(storage, "INTENT_AGE_MIN", timedelta(minutes=-1))
        make_sink().recover(LANE, 4)
        assert not {key for key in case.listed() if key.startswith(f"{OWN_FOLDER}/staging")}
        assert data() == case.committed()

    def test_a_large_file_is_uploaded_in_parts_and_read_back(
        self, case: StoreCase, make_sink: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(case.module, "PART_BYTES", 5 << 20)
        stream = Stream()
        stream.transaction([(ORDERS, insert(number, uuid.uuid4().hex * 4000)) for number in range(100)])
        TestLane(make_sink(compression="none"), LANE).apply_all(stream.windows())
        [key] = case.committed()
        self.in_parts(case, key)
        assert case.rows() == 100

    def in_parts(self, case: StoreCase, key: str) -> None:
        """Assert that the object was uploaded in three parts, where the store tells."""

    @pytest.mark.must_not_fail(20)
    def test_a_store_that_ignores_conditions_is_refused(self, make_sink: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        sink = make_sink()
        monkeypatch.setattr(sink._storage._store, "create", lambda *_: True)
        monkeypatch.setattr("sinks.files.sink._require_known_format", lambda _: None)
        with pytest.raises(Refused, match="there already"):
            sink.recover(LANE, 1)

    def test_a_missing_place_is_found_and_said(self, case: StoreCase, make_sink: Make) -> None:
        sink = make_sink(**{case.place: f"absent-{uuid.uuid4().hex}"})
        [finding] = sink.check((ORDERS,))
        assert finding.message == f"the {case.place} does not exist"
        assert case.place in finding.advice
        with pytest.raises(Transient, match="does not exist"):
            sink.recover(LANE, 1)
        with pytest.raises(Transient, match="does not exist"):
            sink._storage.create("a", b"")

    def test_a_store_that_does_not_answer_is_found(
        self, case: StoreCase, make_sink: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case.is_impatient(monkeypatch)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        [finding] = make_sink(endpoint=f"http://127.0.0.1:{port}").check((ORDERS,))
        assert (finding.code, finding.message) == ("destination-unreachable", "the store does not answer")
        assert finding.advice

    @pytest.mark.must_not_fail(24)
    @pytest.mark.parametrize(
        ("status", "message", "kind"),
        [
            (400, "does not take the request", Transient),
            (401, "refuses access", Transient),
            (403, "refuses access", Transient),
            (409, "the store answered", Transient),
            (501, "does not know a request", Refused),
        ],
    )
    def test_a_refusal_is_a_finding_and_an_error_without_what_the_store_said(
        self, case: StoreCase, make_sink: Make, status: int, message: str, kind: type[Exception]
    ) -> None:
        with middleman() as store_:
            store_.answer = (status, {"x-ms-error-code": "SomethingElse"}, b"hunter2")
            path = case.options["endpoint"].partition("://")[2].partition("/")[2]
            sink = make_sink(endpoint=f"{store_.address}/{path}".rstrip("/"))
            [finding] = sink.check((ORDERS,))
            assert finding.code == "destination-unreachable"
            assert "hunter2" not in f"{finding}"
            storage = sink._storage
            for ask in (
                storage.require,
                lambda: storage.read("a"),
                lambda: storage.exists("a"),
                lambda: storage.create("a", b""),
                lambda: storage.remove(["a"]),
            ):
                with pytest.raises(kind, match=message) as refused:
                    ask()
                assert refused.value.advice  # type: ignore[attr-defined]  # both are ours
                assert "hunter2" not in f"{refused.value!r}{refused.value.__cause__}"
                assert store_.address not in f"{refused.value!r}"

    def test_data_that_may_not_be_written_leaves_the_lane_where_it_was(
        self, case: StoreCase, make_sink: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [window] = windows()
        sink = make_sink()
        lane = TestLane(sink, LANE)

        def refuse(*_: object) -> None:
            raise Transient("the store refuses access")

        monkeypatch.setattr(sink._storage._store, "upload", refuse)
        with pytest.raises(Transient, match="refuses access"):
            lane.apply(window)
        monkeypatch.undo()
        assert case.committed() == set()
        lane.apply(window)
        assert case.rows() == 1

    @pytest.mark.parametrize("keys", [["mine.txt"], ["zebras/mine.txt"], ["_wallaby/a", "_wallaby/b", "zebra.txt"]])
    def test_a_prefix_with_other_objects_is_not_ours(self, case: StoreCase, make_sink: Make, keys: list[str]) -> None:
        for key in keys:
            case.put(f"{PREFIX}/{key}", b"x")
        assert [finding.code for finding in make_sink().check()] == ["foreign-files"]

    def test_what_is_beside_the_prefix_is_of_no_concern(self, case: StoreCase, make_sink: Make) -> None:
        for key in ("mine.txt", "some/mine.txt", f"{PREFIX}-of-others/mine.txt", f"{PREFIX}/"):
            case.put(key, b"x")
        assert make_sink().check() == []

    def test_a_log_of_another_format_is_found(self, case: StoreCase, make_sink: Make) -> None:
        case.put(f"{PREFIX}/{FORMAT_KEY}", json.dumps({"version": 2}).encode())
        assert [finding.code for finding in make_sink().check()] == ["format-version"]

    @pytest.mark.must_not_fail(22)
    def test_keys_are_what_they_are_called(self, case: StoreCase) -> None:
        names = ["sch.ema~x", 'a/b "c" é%2F', "日本", "x" * 63, "_wallaby"]
        with case.storage() as storage:
            for name in names:
                key = f"t/{encode_name(name)}/region={encode_name('a b+c&d?e#f')}/f+1.parquet"
                assert storage.create(key, name.encode())
                assert storage.exists(key)
                assert storage.read(key) == name.encode()
                assert storage.names(key.rpartition("/")[0]) == ["f+1.parquet"]
                assert key in case.listed()
            assert sorted(storage.folders("t")) == sorted(map(encode_name, names))
            assert (storage.names("t"), storage.names("absent"), storage.folders("absent")) == ([], [], [])
            storage.remove([*case.listed(), "absent"])
            assert case.listed() == set()
            assert not storage.exists(key)
            with pytest.raises(FileNotFoundError):
                storage.read(key)


__all__ = ["LANE", "ORDERS", "PREFIX", "ObjectStoreContract", "StoreCase", "die_and_compare", "windows"]


class StoreSinkContract(SinkContract):
    """The contract of every sink, over a store; ``case`` is a fixture."""

    modes = (WriteMode.APPEND,)
    seeds = 1
    bulk_rows = 10_000

    @pytest.fixture(autouse=True)
    def place(self, case: StoreCase) -> Iterator[None]:
        self.case = case
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {**self.case.options, "write_mode": mode.value}
        self.sinks.append(self.case.factory.create(options, destination="target"))
        return self.sinks[-1]

    def read_log(self, schema: TableSchema) -> pa.Table:
        with self.case.storage() as storage:
            return read_log(storage, schema.name.schema, schema.name.name)
