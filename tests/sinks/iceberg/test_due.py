"""What is due at a table, decided from numbers alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sinks.iceberg.due import (
    EXPIRED_MIN,
    ROWS_MAX,
    FileFacts,
    SnapshotFacts,
    are_orphans_due,
    compactions,
    expired,
    is_expiry_due,
    tier,
)

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000


def file(number: int, *, size: int = 1_000, rows: int = 100, deleted: int = 0, group: str = "all") -> FileFacts:
    return FileFacts(f"f{number:03}", size, rows, deleted, group)


def planned(files: list[FileFacts], deletes: dict[str, int] | None = None) -> list[tuple[str, int, bool]]:
    found = compactions(files, deletes or {}, target_bytes=80_000, files_min=4)
    return [(str(one.group), len(one.paths), one.merges_deletes) for one in found]


def test_few_small_files_wait_for_more() -> None:
    assert planned([file(n) for n in range(3)]) == []
    assert planned([file(n) for n in range(4)]) == [("all", 4, False)]


def test_large_files_are_left_alone() -> None:
    assert planned([file(n, size=10_000) for n in range(50)]) == []


def test_partitions_are_never_put_together() -> None:
    files = [file(n, group=f"p{n % 3}") for n in range(9)]
    assert planned(files) == []
    assert planned([*files, file(9, group="p0")]) == [("p0", 4, False)]


def test_a_file_larger_than_all_smaller_ones_waits_so_that_rows_are_not_written_again_at_every_turn() -> None:
    assert [one.size for one in tier([file(1, size=9_000), *(file(n, size=1_000) for n in range(2, 7))])] == [1_000] * 5
    assert len(tier([file(1, size=5_000), *(file(n, size=1_000) for n in range(2, 7))])) == 6
    assert tier([file(1)]) == []


def test_the_work_for_a_row_grows_with_the_logarithm_of_the_commits() -> None:
    """A table of which nothing is deleted, a small file at each commit: how often is each byte written again?"""
    files, written, number = [], 0, 0
    for _ in range(2_000):
        number += 1
        files.append(file(number, size=100))
        for plan in compactions(files, {}, target_bytes=10**9, files_min=4):
            size = sum(one.size for one in files if one.path in plan.paths)
            number += 1
            files = [one for one in files if one.path not in plan.paths] + [file(number, size=size)]
            written += size
    assert len(files) <= 4 * 12
    assert written <= 12 * sum(one.size for one in files)


def test_a_large_file_that_lost_a_fifth_of_its_rows_is_written_again() -> None:
    assert planned([file(1, size=70_000, deleted=19)]) == []
    assert planned([file(1, size=70_000, deleted=20)]) == [("all", 1, False)]


def test_a_small_file_that_lost_rows_waits_for_company_or_for_delete_files() -> None:
    assert planned([file(1, deleted=50)]) == []
    assert planned([file(1, deleted=50)], {"all": 4}) == [("all", 1, True)]


def test_delete_files_become_one_even_where_no_data_file_is_due() -> None:
    assert planned([file(1, size=70_000, deleted=1)], {"all": 3}) == []
    assert planned([file(1, size=70_000, deleted=1)], {"all": 4}) == [("all", 0, True)]


def test_one_job_has_a_limit_in_rows_and_takes_one_file_at_least() -> None:
    [plan] = compactions([file(n, rows=ROWS_MAX) for n in range(9)], {}, target_bytes=80_000, files_min=4)
    assert len(plan.paths) == 1


def snapshots(*ages_h: float) -> list[SnapshotFacts]:
    return [SnapshotFacts(n, NOW_MS - int(age * HOUR_MS), True) for n, age in enumerate(ages_h)]


@pytest.mark.parametrize(
    ("keep_max", "goes"),
    [(10, (0, 1)), (2, (0, 1, 2)), (1, (0, 1, 2, 3))],
)
def test_snapshots_go_by_age_and_by_number(keep_max: int, goes: tuple[int, ...]) -> None:
    found = expired(snapshots(5, 3, 0.9, 0.5, 0.1), frozenset({4}), now_ms=NOW_MS, retention=HOUR, keep_max=keep_max)
    assert found == goes


def test_the_present_snapshot_stays_however_old_and_so_does_what_tags_name() -> None:
    assert expired(snapshots(9, 8, 7), frozenset({0, 2}), now_ms=NOW_MS, retention=HOUR, keep_max=1) == (1,)


def test_the_newest_snapshot_that_says_how_far_it_goes_stays_below_those_of_others() -> None:
    ours = snapshots(9, 8)
    theirs = [SnapshotFacts(n, NOW_MS - 7 * HOUR_MS, False) for n in (2, 3)]
    assert expired([*ours, *theirs], frozenset({3}), now_ms=NOW_MS, retention=HOUR, keep_max=9) == (0, 2)


def test_expiry_waits_until_it_is_worth_a_look_at_all_files_but_not_for_ever() -> None:
    def is_due(count: int, age_h: float) -> bool:
        found = snapshots(*[age_h] * count)
        return is_expiry_due([one.id for one in found], found, now_ms=NOW_MS, retention=HOUR)

    assert not is_expiry_due([], snapshots(1), now_ms=NOW_MS, retention=HOUR)
    assert not is_due(EXPIRED_MIN - 1, 1.5)
    assert is_due(EXPIRED_MIN, 1.5)
    assert is_due(1, 2)


def test_orphans_are_looked_for_once_a_day() -> None:
    assert are_orphans_due(None, NOW)
    assert not are_orphans_due(NOW - 23 * HOUR, NOW)
    assert are_orphans_due(NOW - 24 * HOUR, NOW)
