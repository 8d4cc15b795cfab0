"""The lane's log: who wins a number, archives, and writers that sleep for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.files import manifests
from sinks.files.directory import Directory
from sinks.files.layout import LaneFolders, decode_name, encode_name
from sinks.files.manifests import EMPTY, Entry, Kind, ManifestLog, live_files, next_entry
from wallaby.errors import Refused, Transient
from wallaby.lsn import Lsn, Position
from wallaby.window import LaneId

LANE = LaneId("shop", "copy")


@pytest.fixture
def log(tmp_path: Path) -> ManifestLog:
    return new_log(tmp_path)


def new_log(root: Path) -> ManifestLog:
    log = ManifestLog(Directory(root, fsync=False), LANE)
    log.prepare()
    return log


def moved(last: Entry, epoch: int = 1) -> Entry:
    return next_entry(last, Kind.COMMIT, epoch=epoch, upto=Position(Lsn(last.upto.lsn + 1)))


@pytest.mark.must_not_fail(20)
def test_of_two_entries_for_one_number_the_first_stays(log: ManifestLog, tmp_path: Path) -> None:
    other = new_log(tmp_path)
    entry = moved(EMPTY)
    assert log.append(entry)
    assert not other.append(next_entry(EMPTY, Kind.FENCE, epoch=2))
    assert other.last() == entry


def test_a_log_beyond_its_archives_reads_whole_and_lists_little(
    log: ManifestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "ARCHIVE_ENTRIES", 4)
    last = EMPTY
    for _ in range(11):
        last = moved(last)
        assert log.append(last)
        assert log.last() == last
    assert [entry.sequence for entry in new_log(tmp_path).all()] == list(range(1, 12))
    assert len(list((tmp_path / LaneFolders(LANE).log).glob("*.json"))) == 3


@pytest.mark.must_not_fail(20)
def test_a_writer_that_slept_through_the_archiving_does_not_get_its_number(
    log: ManifestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "ARCHIVE_ENTRIES", 4)
    zombie, asleep_since = new_log(tmp_path), moved(EMPTY)
    last = EMPTY
    for _ in range(9):
        last = moved(last, epoch=2)
        log.append(last)
    assert not zombie.append(asleep_since)
    assert zombie.last() == last
    assert len(log.all()) == 9


@pytest.mark.must_not_fail(2)
@pytest.mark.parametrize("archive_is_made", [False, True])
def test_a_writer_killed_while_it_archives_leaves_a_log_that_reads_whole(
    archive_is_made: bool, log: ManifestLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "ARCHIVE_ENTRIES", 4)
    log_folder, archive = tmp_path / LaneFolders(LANE).log, tmp_path / LaneFolders(LANE).archive
    last = EMPTY
    for number in range(1, 5):
        last = moved(last)
        # The process ends with the link of the fourth entry, or with the archive: what follows never happens.
        (log_folder / f"{number:020d}.json").write_text(last.to_json() + "\n")
    if archive_is_made:
        entries = (file.read_text() for file in sorted(log_folder.glob("*.json")))
        (archive / f"{4:020d}.jsonl").write_text("".join(entries))
    log = new_log(tmp_path)
    assert log.last() == last
    for _ in range(5):
        last = moved(last, epoch=2)
        assert log.append(last)
    assert [entry.sequence for entry in log.all()] == list(range(1, 10))
    assert [file.name for file in log_folder.glob("*.json")] == [f"{9:020d}.json"]


def test_a_gap_is_an_error_and_not_a_shorter_log(log: ManifestLog, tmp_path: Path) -> None:
    last = EMPTY
    for _ in range(3):
        last = moved(last)
        log.append(last)
    ((tmp_path / LaneFolders(LANE).log) / f"{2:020d}.json").unlink()
    with pytest.raises(Transient, match="gap"):
        log.all()


@pytest.mark.parametrize("line", ["", "{}", '{"version":1}', '{"version":2}', "[1]", "null", '{"version":1,"kind":"x"'])
def test_what_is_no_manifest_is_refused(line: str) -> None:
    with pytest.raises(Refused):
        Entry.from_json(line)


def test_an_entry_survives_its_text() -> None:
    entry = next_entry(moved(EMPTY), Kind.TRUNCATE, tables=())
    assert Entry.from_json(entry.to_json()) == entry
    assert live_files([entry]) == ()


@pytest.mark.must_not_fail(22)
@pytest.mark.parametrize("name", ["a", "A b", "../x", "_wallaby", "*.parquet", "ünï/表", "%41", "\\", "~", "." * 63])
def test_any_name_becomes_one_harmless_file_name_and_back(name: str) -> None:
    encoded = encode_name(name)
    assert decode_name(encoded) == name
    assert "/" not in encoded
    assert "." not in encoded
    assert not encoded.startswith("_wallaby")
    assert len(encoded) <= 255
    assert len(encode_name("表" * 2000)) <= 255
