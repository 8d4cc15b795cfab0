"""Bytes that wait: bounded, in order, and gone from the disk whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.wallaby.pgoutput.conftest import MakeSpool
from wallaby.errors import StreamingUnfit


def _bytes(value: int, size: int = 100) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.full(size, value, np.uint8)


def test_what_went_in_comes_out_in_order_from_memory_and_disk(make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=250)
    waiting = spool.open()
    for value in range(10):
        waiting.append(_bytes(value), owner=1)
    assert spool.memory_bytes <= 250
    assert waiting.nbytes == spool.memory_bytes + spool.disk_bytes == 1000
    assert [int(piece[0]) for piece in waiting.pieces()] == list(range(10))
    assert (spool.memory_bytes, spool.disk_bytes) == (0, 0)


def test_the_largest_transaction_goes_to_disk_first(make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=500)
    small, large = spool.open(), spool.open()
    small.append(_bytes(1), owner=1)
    large.append(_bytes(2, 600), owner=2)
    assert (small.memory_bytes, large.memory_bytes) == (100, 0)
    assert spool.disk_bytes == 600


@pytest.mark.parametrize("memory_bytes", [0, 10_000])
def test_pieces_of_what_was_rolled_back_free_their_room(memory_bytes: int, make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=memory_bytes)
    waiting = spool.open()
    for value, owner in enumerate([1, 2, 2, -2, 2]):
        waiting.append(_bytes(value), owner)
    waiting.drop(2)
    assert spool.memory_bytes + spool.disk_bytes == 200
    waiting.append(_bytes(7), 1)
    assert [int(piece[0]) for piece in waiting.pieces()] == [0, 3, 7]


def test_the_limit_counts_all_transactions_and_what_ends_makes_room(make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=0, disk_bytes_max=300)
    one, other = spool.open(), spool.open()
    one.append(_bytes(1, 200), owner=1)
    other.append(_bytes(2), owner=2)
    one.close()
    other.append(_bytes(3, 200), owner=2)
    with pytest.raises(StreamingUnfit, match="300 bytes"):
        other.append(_bytes(4, 1), owner=2)


def test_a_directory_that_cannot_be_written_to_is_named_as_the_cause(tmp_path: Path, make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=0, directory=str(tmp_path / "missing"))
    with pytest.raises(StreamingUnfit, match="No such file") as caught:
        spool.open().append(_bytes(1), owner=1)
    assert "spool_directory" in caught.value.advice


def test_a_killed_process_leaves_no_file(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, numpy as np\n"
        "from wallaby.pgoutput.spool import Spool, SpoolLimits\n"
        "waiting = Spool(SpoolLimits(memory_bytes=0, directory=sys.argv[1])).open()\n"
        "waiting.append(np.zeros(1000, np.uint8), 1)\n"
        "assert waiting.memory_bytes == 0\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -9
    assert os.listdir(tmp_path) == []


def test_closing_forgets_everything(make_spool: MakeSpool) -> None:
    spool = make_spool(memory_bytes=100)
    for owner in range(3):
        spool.open().append(_bytes(owner), owner)
    spool.close()
    spool.close()
    assert (spool.memory_bytes, spool.disk_bytes) == (0, 0)
