"""The contract's crashes, races and commits against an S3 server, where conditional puts decide."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest

from sinks.delta import FACTORY
from sinks.delta.config import DeltaOptions
from sinks.delta.reader import read_log, read_mirror
from tests.s3 import KEYS, new_bucket
from tests.sinks.lane import TestLane
from wallaby.care import Chore, take_turn
from wallaby.errors import Transient
from wallaby.schema import TableSchema
from wallaby.sink import Sink, WriteMode
from wallaby.testing.changes import insert, table, update
from wallaby.testing.contract.commits import CrashContract, RaceContract
from wallaby.testing.contract.hooks import LANE, ORDERS, story, windows_of
from wallaby.window import LaneId, Window

BOOKS = table("public.books", {"id": "int8", "note": "text"}, key=["id"])


@pytest.fixture
def bucket(s3_endpoint: str) -> str:
    return new_bucket(s3_endpoint)


class TestDeltaOnS3(CrashContract, RaceContract):
    # Many commits, each a dozen requests: left to the local form.
    test_a_crash_after_each_window_in_turn_converges = None  # type: ignore[assignment]  # it is not run here

    @pytest.fixture(autouse=True)
    def lake(self, bucket: str, s3_endpoint: str) -> Iterator[None]:
        self.place = {"path": f"s3://{bucket}/some/lake", "endpoint": s3_endpoint, "force_path_style": True, **KEYS}
        self.sinks: list[Sink] = []
        yield
        for sink in self.sinks:
            sink.close()

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {**self.place, "write_mode": mode.value, "checkpoint_every": 2}
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]

    def read_table(self, schema: TableSchema) -> pa.Table:
        return read_mirror(DeltaOptions.parse(self.place), schema)

    def read_log(self, schema: TableSchema) -> pa.Table:
        return read_log(DeltaOptions.parse({**self.place, "write_mode": "append"}), schema)

    def test_a_history_arrives_whole(self, mode: WriteMode) -> None:
        history = story(5)
        process = self.start(mode, [ORDERS])
        process.replay(history.windows(), lambda: True)
        self.assert_content(ORDERS, mode, history.expected(ORDERS))


class TestDeletionVectorsOnS3(TestDeltaOnS3):
    """Commits of our own: conditional puts by another client than the engine's."""

    modes = (WriteMode.MIRROR,)

    def make_sink(self, *, mode: WriteMode) -> Sink:
        options = {**self.place, "deletion_vectors": True, "checkpoint_every": 2}
        self.sinks.append(FACTORY.create(options, destination="target"))
        return self.sinks[-1]


def race(sinks: Sequence[Sink], windows: Sequence[Sequence[Window]], *, first_lane: int = 0) -> None:
    """Each sink commits its windows, as a lane of its own, all from the same moment on; then they are closed."""
    failures: list[BaseException] = []
    starting = threading.Barrier(len(sinks))

    def write(index: int) -> None:
        try:
            lane = TestLane(sinks[index], LaneId("shop", "target", first_lane + index))
            starting.wait()
            for window in windows[index]:
                lane.apply(window)
        except BaseException as error:  # noqa: BLE001 - the test's own thread looks at it
            failures.append(error)
            starting.abort()

    threads = [threading.Thread(target=write, args=(index,)) for index in range(len(sinks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for sink in sinks:
        sink.close()
    assert failures == []


@pytest.mark.must_not_fail(20)
@pytest.mark.must_not_fail(25)
def test_lanes_that_mark_rows_of_one_table_at_once_all_find_a_place(bucket: str, s3_endpoint: str) -> None:
    """Three lanes change rows of their own in the same files: each commit of one spoils the vectors of the others."""
    place = {"path": f"s3://{bucket}/lake", "endpoint": s3_endpoint, "force_path_style": True, **KEYS}
    place["deletion_vectors"] = True
    sinks = [FACTORY.create(place, destination="target") for _ in range(3)]
    inserts = [(BOOKS, insert(n, "a")) for n in range(9)]
    TestLane(sinks[0], LANE).apply(windows_of(inserts)[0])
    race(
        sinks,
        [
            windows_of(*[[(BOOKS, update(index * 3 + n, f"by {index}"))] for n in range(3)])
            for index in range(len(sinks))
        ],
        first_lane=1,
    )
    rows = read_mirror(DeltaOptions.parse(place), BOOKS).to_pydict()
    assert dict(zip(rows["id"], rows["note"], strict=True)) == {n: f"by {n // 3}" for n in range(9)}
    assert len(rows["id"]) == 9


@pytest.mark.long
@pytest.mark.must_not_fail(20)
@pytest.mark.must_not_fail(25)
def test_writers_that_race_for_each_version_all_find_a_place_and_none_takes_anothers(
    bucket: str, s3_endpoint: str
) -> None:
    """Four lanes with handles of their own commit to one log at once: the store's conditional put decides."""
    place = {"path": f"s3://{bucket}/lake", "endpoint": s3_endpoint, "force_path_style": True, **KEYS}
    commits = 5
    sinks = [FACTORY.create({**place, "write_mode": "append"}, destination="target") for _ in range(4)]
    sinks[0].ensure_table(BOOKS)
    race(
        sinks,
        [windows_of(*[[(BOOKS, insert(index * 100 + n, "a"))] for n in range(commits)]) for index in range(len(sinks))],
    )
    log = read_log(DeltaOptions.parse({**place, "write_mode": "append"}), BOOKS)
    assert sorted(log["id"].to_pylist()) == [index * 100 + n for index in range(len(sinks)) for n in range(commits)]


@pytest.mark.must_not_fail(17)
def test_tables_in_a_bucket_are_found_and_looked_after(bucket: str, s3_endpoint: str) -> None:
    place = {"path": f"s3://{bucket}/some/lake", "endpoint": s3_endpoint, "force_path_style": True, **KEYS}
    sink = FACTORY.create(place, destination="target")
    lane = TestLane(sink, LANE)
    lane.apply_all(windows_of(*[[(BOOKS, insert(n, "a"))] for n in range(3)]))
    keeper = FACTORY.keeper({**place, "compact_files": 2}, flow=LANE.flow, destination=LANE.destination)
    assert keeper.tables() == (BOOKS.name,)
    turn = take_turn(keeper, BOOKS.name, now=datetime.now(UTC))
    assert turn is not None
    assert (turn.failure, turn.done, turn.after.files) == ("", (Chore.COMPACT, Chore.CHECKPOINT), 1)
    lane.apply(windows_of(*[[(BOOKS, insert(n, "a"))] for n in range(4)])[-1])
    sink.close()
    assert sorted(read_mirror(DeltaOptions.parse(place), BOOKS)["id"].to_pylist()) == [0, 1, 2, 3]


def test_a_missing_bucket_is_found_and_said(s3_endpoint: str) -> None:
    options = {"path": f"s3://absent-{uuid.uuid4().hex}/lake", "endpoint": s3_endpoint, **KEYS}
    sink = FACTORY.create(options, destination="target")
    with pytest.raises(Transient, match="bucket does not exist") as caught:
        sink.recover(LANE, 1)
    assert caught.value.advice
    assert KEYS["secret_key"] not in repr(sink)
    [finding] = sink.check((ORDERS,))
    assert (finding.message, bool(finding.advice)) == ("the bucket does not exist", True)


def test_wrong_keys_are_found_and_not_shown(bucket: str, s3_endpoint: str) -> None:
    def reset_auth(requests: str) -> None:
        headers = {"Content-Type": "text/plain"}
        request = Request(f"{s3_endpoint}/moto-api/reset-auth", data=requests.encode(), headers=headers)
        with urlopen(request) as answer:
            assert answer.status == 200

    wrong = {**KEYS, "access_key": "nobody", "secret_key": "hunter2"}
    options = {"path": f"s3://{bucket}/lake", "endpoint": s3_endpoint, "force_path_style": True, **wrong}
    sink = FACTORY.create(options, destination="target")
    reset_auth("0")
    try:
        [finding] = sink.check((ORDERS,))
    finally:
        reset_auth("inf")
    assert (finding.message, bool(finding.advice)) == ("the store refuses access", True)
    assert "hunter2" not in str(finding)


def test_a_store_that_does_not_answer_is_found(unused_port: int) -> None:
    options = {"path": "s3://bucket/lake", "endpoint": f"http://127.0.0.1:{unused_port}", **KEYS}
    [finding] = FACTORY.create(options, destination="target").check((ORDERS,))
    assert finding.code == "destination-unreachable"
    assert finding.advice


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
