"""What becomes of lost answers and of what others remove meanwhile, over a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest

from sinks.files.layout import OWN_FOLDER, LaneFolders
from sinks.files.manifests import ARCHIVE_ENTRIES, EMPTY, Kind, ManifestLog, next_entry
from sinks.files.reader import committed_files
from sinks.files.sink import FilesSink
from sinks.objects.config import ObjectLogOptions
from sinks.objects.storage import ObjectStorage
from sinks.objects.store import Listing
from tests.sinks.lane import TestLane
from wallaby.errors import OutcomeUnknown
from wallaby.testing.changes import Stream, insert, table
from wallaby.window import LaneId, Window

LANE = LaneId("shop", "copy")
ORDERS = table("public.orders", {"id": "int8", "note": "text"}, key=["id"])


class MemoryStore:
    """See `sinks.objects.store.ObjectStore`; ``before`` is called with each method's name and key."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.before: Callable[[str, str], None] = lambda _, __: None
        self.answers_lost = 0

    def __str__(self) -> str:
        return "memory://"

    def close(self) -> None: ...

    def first(self, folder: str) -> Listing:
        return self.list(folder)

    def list(self, folder: str) -> Listing:
        self.before("list", folder)
        below = [key.removeprefix(folder).partition("/") for key in sorted(self.objects) if key.startswith(folder)]
        names = tuple(name for name, slash, _ in below if not slash)
        return Listing(names, tuple(dict.fromkeys(name for name, slash, _ in below if slash)))

    def mark(self, key: str) -> str:
        self.before("mark", key)
        return self._at(key)[1]

    def read(self, key: str) -> bytes:
        self.before("read", key)
        return self._at(key)[0]

    def create(self, key: str, content: bytes, mark: str) -> bool:
        """With ``answers_lost`` the store's library asks twice, and is told of what it made itself."""
        self.before("create", key)
        is_made = key not in self.objects
        self.objects.setdefault(key, (content, mark))
        if self.answers_lost and is_made:
            self.answers_lost -= 1
            return False
        return is_made

    def upload(self, made: Path, key: str) -> None:
        self.before("upload", key)
        self.objects[key] = (made.read_bytes(), "")

    def download(self, key: str, into: BinaryIO) -> None:
        into.write(self._at(key)[0])

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.before("delete", key)
            self.objects.pop(key, None)

    def _at(self, key: str) -> tuple[bytes, str]:
        if key not in self.objects:
            raise FileNotFoundError(key)
        return self.objects[key]

    def data(self) -> set[str]:
        return {key for key in self.objects if not key.startswith(OWN_FOLDER)}


def make_sink(store: MemoryStore) -> FilesSink:
    return FilesSink(ObjectLogOptions(), ObjectStorage(store), destination="copy")


def windows(count: int = 1) -> list[Window]:
    stream = Stream()
    for number in range(count):
        stream.transaction([(ORDERS, insert(number, f"note {number}"))])
    return stream.windows()


@pytest.mark.must_not_fail(20)
def test_an_older_writer_may_settle_its_commit_while_a_successor_tidies() -> None:
    """It had made its manifest, and its intent goes between the successor's listing and reading it."""
    store = MemoryStore()
    [window] = windows()
    older = make_sink(store)
    lane = TestLane(older, LANE, 1)
    lane.write(window)

    def succeed(method: str, key: str) -> None:
        if method == "delete" and "/staging/" in key:
            intent = store.objects[key]

            def settled(method: str, key_: str) -> None:
                if method == "read" and key_ == key:
                    del store.objects[key]

            store.before = settled
            with closing(make_sink(store)) as successor:
                assert successor.recover(LANE, 2) == window.upto
            store.before = lambda _, __: None
            assert key not in store.objects
            assert intent

    store.before = succeed
    lane.writer.commit(lane.token(window.upto, 1))
    older.close()
    assert store.data() == {file.path for file in committed_files(ObjectStorage(store))}
    assert len(store.data()) == 1


@pytest.mark.must_not_fail(2)
def test_an_entry_whose_answer_was_lost_and_that_was_archived_since_keeps_its_files() -> None:
    """A successor archives it, and removes it, before we can ask whose it is."""
    store = MemoryStore()
    [window] = windows()
    log = ManifestLog(ObjectStorage(store), LANE)
    while (last := log.last()).sequence < ARCHIVE_ENTRIES - 3:
        assert log.append(next_entry(last, Kind.SCHEMA))
    older = make_sink(store)
    lane = TestLane(older, LANE, 1)
    lane.write(window)

    def lose(method: str, key: str) -> None:
        if method == "create" and key.endswith(f"/{ARCHIVE_ENTRIES - 1:020d}.json"):
            store.answers_lost = 1
        if method == "mark" and key.endswith(f"/{ARCHIVE_ENTRIES - 1:020d}.json"):
            store.before = lambda _, __: None
            with closing(make_sink(store)) as successor:
                assert successor.recover(LANE, 2) == window.upto
            assert key not in store.objects

    store.before = lose
    with pytest.raises(OutcomeUnknown):
        lane.writer.commit(lane.token(window.upto, 1))
    older.close()
    [file] = committed_files(ObjectStorage(store))
    assert store.data() == {file.path}


def test_recovery_reads_no_manifest_older_than_the_commit_that_was_under_way() -> None:
    """A log of years has thousands of archives, and an intent is looked at for a day."""
    store = MemoryStore()
    last = EMPTY
    for end in (ARCHIVE_ENTRIES, 2 * ARCHIVE_ENTRIES):
        lines = []
        while last.sequence < end:
            last = next_entry(last, Kind.SCHEMA)
            lines.append(f"{last.to_json()}\n")
        store.objects[f"{LaneFolders(LANE).archive}/{end:020d}.jsonl"] = ("".join(lines).encode(), "")
    [window] = windows()
    with closing(make_sink(store)) as sink:
        lane = TestLane(sink, LANE, 1)
        lane.write(window)

        def die(method: str, key: str) -> None:
            if method == "create" and key.startswith(LaneFolders(LANE).log):
                raise KeyboardInterrupt

        store.before = die
        with pytest.raises(KeyboardInterrupt):
            lane.writer.commit(lane.token(window.upto, 1))
    assert store.data()
    asked: list[str] = []
    store.before = lambda method, key: asked.append(f"{method} {key}")
    with closing(make_sink(store)) as successor:
        successor.recover(LANE, 2)
    assert not store.data()
    assert not [request for request in asked if request.startswith("read") and "/archive/" in request]


def test_an_intent_of_an_older_wallaby_is_understood() -> None:
    """A list of keys, without when."""
    store = MemoryStore()
    store.objects["public/orders/left.parquet"] = (b"x", "")
    store.objects[f"{LaneFolders(LANE).staging_of(1)}/a.json"] = (
        json.dumps(["public/orders/left.parquet"]).encode(),
        "",
    )
    with closing(make_sink(store)) as sink:
        sink.recover(LANE, 2)
    assert not store.data()
    assert not [key for key in store.objects if "/staging/" in key]
