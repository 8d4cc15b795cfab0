"""What a supervisor decides without asking Ray."""

from __future__ import annotations

from cluster.supervisor import CopyWishes


def test_a_new_copy_asked_for_ends_the_epoch_that_does_not_know_of_it() -> None:
    wishes = CopyWishes()
    wishes.begin_epoch(0)
    assert not wishes.is_epoch_over
    wishes.hear(1)
    assert wishes.is_epoch_over
    wishes.begin_epoch(1)
    assert (wishes.due, wishes.is_epoch_over) == (1, False)


def test_an_epoch_that_was_told_is_not_ended_by_the_same_wish_heard_late_or_often() -> None:
    """Before its copy begins the wish still stands in the store, and is read there again and again."""
    wishes = CopyWishes()
    wishes.begin_epoch(3)
    wishes.hear(3)
    wishes.hear(2)
    assert not wishes.is_epoch_over
    wishes.begin_epoch(0)
    wishes.hear(3)
    assert (wishes.due, wishes.is_epoch_over) == (0, False), "its copy has begun, and is repeated by itself"
    wishes.hear(4)
    assert wishes.is_epoch_over


def test_a_wish_heard_before_the_store_told_of_it_is_not_forgotten() -> None:
    wishes = CopyWishes()
    wishes.hear(2)
    wishes.begin_epoch(0)
    assert wishes.is_epoch_over
