"""When a process counts as lost."""

from __future__ import annotations

import pytest

from cluster.heartbeat import Heartbeat


@pytest.mark.must_not_fail(20)
def test_a_frozen_sink_is_noticed_while_the_source_answers() -> None:
    heartbeat = Heartbeat(misses_max=2)
    for _ in range(3):
        assert heartbeat.lost is None
        heartbeat.note("source", has_answered=True)
        heartbeat.note("sink a", has_answered=True)
        heartbeat.note("sink b", has_answered=False)
    assert heartbeat.lost == "sink b"


def test_one_answer_forgives_all_misses_of_that_process() -> None:
    heartbeat = Heartbeat(misses_max=1)
    for has_answered in (False, True, False, True, False):
        heartbeat.note("source", has_answered=has_answered)
        assert heartbeat.lost is None
    heartbeat.note("source", has_answered=False)
    assert heartbeat.lost == "source"


def test_misses_of_several_processes_do_not_add_up() -> None:
    heartbeat = Heartbeat(misses_max=1)
    for process in ("a", "b", "c"):
        heartbeat.note(process, has_answered=False)
    assert heartbeat.lost is None
