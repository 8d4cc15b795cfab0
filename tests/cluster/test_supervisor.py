"""What a supervisor decides without asking Ray."""

from __future__ import annotations

import pytest

from cluster.supervisor import RunMode, is_copy_due
from wallaby.store import SnapshotState, SnapshotStatus

ANEW = RunMode(resnapshot=True)
FIRST_EPOCH = 5


@pytest.mark.must_not_fail(3)
def test_a_copy_asked_for_stays_due_until_the_store_knows_of_it() -> None:
    """An epoch that fails before the copy begins must not turn --resnapshot into an ordinary resume."""
    earlier = SnapshotState(status=SnapshotStatus.DONE, epoch=FIRST_EPOCH - 1)
    assert is_copy_due(ANEW, None, first_epoch=FIRST_EPOCH)
    assert is_copy_due(ANEW, earlier, first_epoch=FIRST_EPOCH)


@pytest.mark.parametrize("status", list(SnapshotStatus))
def test_a_copy_begun_in_an_epoch_of_ours_is_not_begun_again_by_a_restart(status: SnapshotStatus) -> None:
    begun = SnapshotState(status=status, epoch=FIRST_EPOCH + 1)
    assert not is_copy_due(ANEW, begun, first_epoch=FIRST_EPOCH)


def test_nobody_asked_for_a_copy() -> None:
    assert not is_copy_due(RunMode(), None, first_epoch=FIRST_EPOCH)
