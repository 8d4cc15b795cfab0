"""Log entries that only one of several writers makes, in a directory and in a bucket."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from sinks.delta.config import DeltaOptions
from sinks.delta.folder import TableFolder
from sinks.delta.store import Store
from tests.s3 import KEYS, new_bucket
from wallaby.errors import WallabyError
from wallaby.schema import TableName

NAME = TableName("public", "orders")


@pytest.fixture(params=["directory", "bucket"])
def folder(request: pytest.FixtureRequest, root: Path) -> TableFolder:
    if request.param == "directory":
        (root / "public" / "orders" / "_delta_log").mkdir(parents=True)
        place = {"path": str(root)}
    else:
        endpoint = request.getfixturevalue("s3_endpoint")
        place = {"path": f"s3://{new_bucket(endpoint)}/lake", "endpoint": endpoint, "force_path_style": True, **KEYS}
    store = Store(DeltaOptions.parse(place))
    return store.folder(store.uri(NAME), table=NAME)


def test_what_is_written_is_read_from_anywhere_in_it(folder: TableFolder) -> None:
    assert folder.write("_deletion_vectors/a.bin", lambda file: file.write(b"0123456789")) == 10
    with folder.open("_deletion_vectors/a.bin") as file:
        file.seek(4)
        assert file.read(3) == b"456"
    assert folder.names("_deletion_vectors") == ["a.bin"]
    folder.remove(["_deletion_vectors/a.bin", "_deletion_vectors/b.bin"])
    assert folder.names("_deletion_vectors") == []


def test_what_is_not_there_is_said(folder: TableFolder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("_delta_log/absent.json")
    assert folder.names("absent") == []


@pytest.mark.must_not_fail(20)
def test_an_entry_is_made_once_and_stays_what_it_was(folder: TableFolder) -> None:
    assert folder.create("_delta_log/7.json", b"first")
    assert not folder.create("_delta_log/7.json", b"second")
    assert folder.read("_delta_log/7.json") == b"first"
    assert folder.names("_delta_log") == ["7.json"]
    assert folder.names("_deletion_vectors") == []


@pytest.mark.must_not_fail(20)
def test_of_writers_at_once_one_makes_each_entry(folder: TableFolder) -> None:
    entries, made = 12, []
    starting = threading.Barrier(4)

    def write(writer: int) -> None:
        starting.wait()
        for number in range(entries):
            if folder.create(f"_delta_log/{number}.json", f"by {writer}".encode()):
                made.append((number, writer))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for number, _ in made) == list(range(entries))
    for number, writer in made:
        assert folder.read(f"_delta_log/{number}.json") == f"by {writer}".encode()


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("folder", ["bucket"], indirect=True)
def test_an_entry_made_by_a_request_without_an_answer_is_known_as_its_own(folder: TableFolder) -> None:
    """The library sends such a request again, which meets what the first one made."""
    assert folder.create("_delta_log/7.json", b"the same, named by its txnId")
    assert folder.create("_delta_log/7.json", b"the same, named by its txnId")


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("folder", ["directory"], indirect=True)
def test_an_entry_made_by_a_link_without_an_answer_is_known_as_its_own(
    folder: TableFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system sends such a request again, and says that the name exists."""
    link = os.link

    def answered_late(source: str, target: str) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", answered_late)
    assert folder.create("_delta_log/7.json", b"the same, named by its txnId")
    assert not folder.create("_delta_log/7.json", b"another's")


@pytest.mark.must_not_fail(16)
def test_of_a_file_that_could_not_be_written_nothing_stays(folder: TableFolder) -> None:
    """What a full disk keeps of every try keeps it full."""

    def fill(file: pa.NativeFile) -> None:
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(WallabyError, match="no space"):
        folder.write("_deletion_vectors/a.bin", fill)
    assert folder.names("_deletion_vectors") == []


def test_nothing_is_made_where_the_table_is_not(root: Path) -> None:
    store = Store(DeltaOptions.parse({"path": str(root)}))
    folder = store.folder(store.uri(NAME), table=NAME)
    with pytest.raises(WallabyError):
        folder.write("_deletion_vectors/a.bin", lambda file: file.write(b"0"))
    with pytest.raises(WallabyError):
        folder.create("_delta_log/7.json", b"first")
    assert os.listdir(root) == []
