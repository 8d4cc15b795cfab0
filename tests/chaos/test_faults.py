"""Whatever dies, and whenever: afterwards every destination holds what the source holds, each change once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.demo.shop import TABLES
from tests.chaos.conftest import ChaosOptions
from tests.chaos.schedule import HANGS, Act, Fault, copy_schedule, stream_schedule
from tests.chaos.stage import Stage

_COPY_ROWS = 60_000
_COPY_FAULTS = 8


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.must_not_fail(2, 15, 17, 20, 21, 25)
def test_a_live_shop_is_equal_everywhere_after_many_faults(
    tmp_path: Path, chaos: ChaosOptions, postgres_major: int
) -> None:
    """Every kind of fault, at moments drawn by the seed, while writers go on; then content hashes.

    With an even seed transactions are streamed while they run, and some are prepared.
    """
    streams = chaos.seed % 2 == 0
    acts = stream_schedule(chaos.seed, chaos.faults, rows_max=6_000)
    with Stage(tmp_path, major=postgres_major, seed=chaos.seed, rows=8_000, rows_per_s=1_500, streams=streams) as stage:
        stage.begin()
        stage.await_streaming()
        _play(stage, acts)
        _finish(stage)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.must_not_fail(5, 6, 21, 25)
def test_a_copy_that_is_killed_again_and_again_is_exact_in_the_end(
    tmp_path: Path, chaos: ChaosOptions, postgres_major: int
) -> None:
    """Faults spread over the initial copy, with writers at work; the stream then closes the gap."""
    acts = copy_schedule(chaos.seed, _COPY_FAULTS, rows_max=2 * _COPY_ROWS)
    with Stage(tmp_path, major=postgres_major, seed=chaos.seed, rows=_COPY_ROWS, rows_per_s=1_500) as stage:
        stage.begin()
        _play(stage, acts)
        assert stage.struck["snapshot"], f"no fault struck the copy: {stage.struck}"
        stage.await_streaming()
        _finish(stage)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.must_not_fail(17, 20, 25)
def test_a_process_that_hangs_is_replaced_and_does_no_harm_when_it_wakes(
    tmp_path: Path, chaos: ChaosOptions, postgres_major: int
) -> None:
    """A hung process answers nobody and holds on to what it has: slot, file lock, open transaction."""
    with Stage(tmp_path, major=postgres_major, seed=chaos.seed, rows=4_000, rows_per_s=1_500) as stage:
        stage.begin()
        stage.await_streaming()
        _play(stage, [Act(fault, 500, 0) for fault in HANGS])
        _finish(stage)


@pytest.mark.ray
@pytest.mark.timeout(480)
@pytest.mark.must_not_fail(2, 20, 21, 25)
def test_a_few_faults_in_a_row_lose_and_double_nothing(tmp_path: Path, postgres_major: int) -> None:
    """The short form of the chaos tests: copy, stream, one victim of each sort."""
    with Stage(tmp_path, major=postgres_major, seed=3, rows=4_000, rows_per_s=1_500, streams=True) as stage:
        stage.begin()
        _play(stage, [Act(Fault.KILL_SOURCE, 1, 0)])
        stage.await_streaming()
        few = (Fault.KILL_DUCKDB_SINK, Fault.KILL_TARGET_SERVER, Fault.KILL_DRIVER)
        _play(stage, [Act(fault, 600, 0) for fault in few])
        _finish(stage)


def _play(stage: Stage, acts: list[Act]) -> None:
    for number, act in enumerate(acts, 1):
        print(f"{number}/{len(acts)} {act}", flush=True)
        stage.perform(act)


def _finish(stage: Stage) -> None:
    """Catch up, drain, compare, look for what was left behind."""
    done = stage.finish()
    print(f"{done.transactions} transactions, {done.rows} rows; epochs {len(stage.flow.progress.epochs)}")
    print(f"phases struck: {dict(stage.struck)}")
    verdicts = stage.verdicts()
    assert [
        f"{verdict.table} in {verdict.destination}: {verdict.detail}" for verdict in verdicts if not verdict.equal
    ] == []
    assert len(verdicts) == 3 * len(TABLES)
    assert stage.doubled() == {}
    assert stage.leftovers() == []
