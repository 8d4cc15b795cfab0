"""What is due at a table, decided from the sizes of its files alone."""

from __future__ import annotations

from sinks.delta.due import FileFacts, is_compaction_due, small_files


def is_due(files: list[FileFacts]) -> bool:
    return is_compaction_due(files, target_bytes=100, files_min=3)


def test_a_table_is_compacted_when_one_partition_has_enough_small_files() -> None:
    assert not is_due([])
    assert not is_due([FileFacts(10, "a")] * 2 + [FileFacts(10, "b")] * 2)
    assert is_due([FileFacts(10, "a")] * 3)


def test_files_of_half_the_target_size_are_not_small() -> None:
    assert not is_due([FileFacts(50, "a")] * 9)
    assert small_files([FileFacts(49, "a"), FileFacts(50, "a")], target_bytes=100).total() == 1
